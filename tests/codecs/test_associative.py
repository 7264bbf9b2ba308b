"""Tags: reference values of the losses, equal to plain loops; people come back from what they were drawn as."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.codecs.associative import AssociativeEmbedding, pull_push
from semipose.fields import Field, Fields
from semipose.scene import Scene
from tests.codecs import plain
from tests.codecs.scenes import SIZE, SKELETON, perfect_output, scene, twice, worst

CODEC = AssociativeEmbedding(SIZE, SKELETON)


def example() -> torch.Tensor:
    """Tags (1, 2, 2, 1) of the published test: 0, 0.1, ..., 3.1, person A at {3, 22}, person B at {10, 30}."""
    tags = torch.arange(32) / 10
    return tags[torch.tensor([[[3, 22], [10, 30]]])][..., None].clone().requires_grad_()


def test_pull_and_push_have_their_reference_values() -> None:
    pull, push = pull_push(example(), torch.ones(1, 2, 2), torch.ones(1, 2))
    assert pull.item() == pytest.approx(0.95125, abs=1e-6)
    assert push.item() == pytest.approx(0.2848914, abs=1e-6)
    assert pull_push(example(), torch.ones(1, 2, 2), torch.ones(1, 2), "max")[1].item() == pytest.approx(0.125)


def test_a_form_that_counts_people_with_themselves_has_the_same_gradient() -> None:
    """MMPose's push: (2 + 2 exp(-0.5625)) / 2 * 0.5."""
    ours, theirs = example(), example()
    pull_push(ours, torch.ones(1, 2, 2), torch.ones(1, 2))[1].backward()
    mean = theirs.mean(2).flatten()
    other = torch.exp(-(mean[:, None] - mean).square()).sum() / 2 * 0.5
    other.backward()
    assert other.item() == pytest.approx(0.7848914, abs=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad)


def random_tags(images: int = 6, people: int = 5, length: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Tags and labels of as many people as the image's number; the second has one, the first nobody."""
    random = torch.Generator().manual_seed(0)
    tags = torch.randn(images, people, 4, length, generator=random)
    visible = (torch.rand(images, people, 4, generator=random) < 0.7).float()
    return tags, visible * (torch.arange(people) < torch.arange(images)[:, None])[..., None]


@pytest.mark.parametrize("length", [1, 2])
def test_losses_and_gradients_equal_loops(length: int) -> None:
    tags, visible = random_tags(length=length)
    # In float64, and the loops' gradient by finite differences.
    ones = torch.ones(1, 5).double()
    found = torch.stack(
        [
            torch.stack(pull_push(tag[None].double(), shown[None].double(), ones))
            for tag, shown in zip(tags, visible, strict=True)
        ]
    )
    expected = [plain.pull_push(tag.double().numpy(), shown.numpy()) for tag, shown in zip(tags, visible, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found[0].tolist() == [0, 0]
    assert found[1, 1] == 0
    graded = tags.double().requires_grad_()
    pull, push = pull_push(graded, visible.double(), torch.ones(6, 5).double())
    torch.testing.assert_close(torch.stack([pull, push]), found.mean(0))
    (len(tags) * (pull + push)).backward()
    for place in ((3, 0, 1, 0), (4, 2, 3, length - 1), (5, 4, 0, 0)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = tags.double().numpy().copy()
            moved[place] += step
            ends.append(sum(plain.pull_push(moved[place[0]], visible[place[0]].numpy())))
        assert graded.grad is not None
        assert graded.grad[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_the_order_of_people_and_keypoints_and_a_common_shift_change_nothing_but_a_factor_does() -> None:
    tags, visible = random_tags()
    weight = torch.ones(6, 5)
    before = torch.stack(pull_push(tags, visible, weight))
    people, keypoints = torch.tensor([2, 0, 4, 1, 3]), torch.tensor([3, 1, 0, 2])
    for other, shown in (
        (tags[:, people], visible[:, people]),
        (tags[:, :, keypoints], visible[:, :, keypoints]),
        (tags + 7, visible),
    ):
        torch.testing.assert_close(torch.stack(pull_push(other, shown, weight)), before, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(torch.stack(pull_push(2 * tags, visible, weight)), before, rtol=0.1)


def test_confidence_weighs_keypoints_and_people() -> None:
    tags = torch.tensor([[[[0.0], [3.0]], [[1.0], [1.0]]]])
    confidence, weight = torch.tensor([[[1.0, 0.5], [1.0, 1.0]]]), torch.tensor([[0.5, 1.0]])
    pull, push = pull_push(tags, confidence, weight)
    # The first person's mean is 1, and the spread (1 * 1 + 0.5 * 4) / 1.5.
    assert pull.item() == pytest.approx(0.5 * 2 / 1.5)
    assert push.item() == pytest.approx(0.5)
    confidence, weight = torch.ones(1, 3, 1), torch.tensor([[1.0, 0.25, 1.0]])
    push = pull_push(torch.tensor([0.0, 0.5, 3.0]).view(1, 3, 1, 1), confidence, weight)[1]
    pairs = ((0.5, 0.5), (1.0, 3.0), (0.5, 2.5))
    expected = 0.5 * sum(share * math.exp(-(away**2)) for share, away in pairs) / 2
    assert push.item() == pytest.approx(expected)
    less = pull_push(tags, torch.ones(1, 2, 2), torch.tensor([[0.0, 1.0]]))
    assert [each.item() for each in less] == [0, 0]


@pytest.mark.parametrize(("cells", "factor"), [(128, 1e-3), (64, 2.25e-3), (32, 9e-3)])
def test_tags_count_as_published_on_128_cells_and_more_on_smaller_maps(cells: int, factor: float) -> None:
    """A zero perfect_output's heatmap loss for one person grows alike: the balance of the two is the published one."""
    codec = AssociativeEmbedding((4 * cells, 4 * cells), SKELETON, fine=False)
    points = torch.tensor([[[[30.0, 30.0]] * 5, [[90.0, 90.0]] * 5]])
    ones = torch.ones(1, 2)
    here = Scene(points, torch.ones(1, 2, 5), ones, torch.full((1, 2, 2), 50.0), torch.ones(1, 1, cells, cells))
    tags = torch.zeros(1, 5, cells, cells)
    tags[:, :2, 22:] = 2.0
    fields = Fields({"tags": Field(tags, "embedding", 4, SKELETON.flip)})
    losses = codec.instance_losses(fields, here)
    # The second person's are 2 2 0 0 0: spread 0.96, 0.8 away from the first's.
    assert losses["pull"].item() == pytest.approx(factor * 0.48, rel=1e-5)
    assert losses["push"].item() == pytest.approx(factor * 0.5 * math.exp(-0.64), rel=1e-5)
    targets, weights = codec.targets(here)
    zeros = Fields({"heatmap": replace(targets["heatmap"], maps=0 * targets["heatmap"].maps)})
    heat = codec.map_losses(zeros, targets, weights)["heatmap"].item()
    assert losses["pull"].item() / heat == pytest.approx(0.48 / 2 * 1e-3 / 7.67e-4, rel=1e-2)


def test_the_tags_read_are_those_of_the_keypoints_cells_and_outside_of_the_borders() -> None:
    tags = torch.arange(5 * 32 * 32.0).view(1, 5, 32, 32)
    fields = Fields({"tags": Field(tags, "embedding", 4, SKELETON.flip)})
    points = torch.tensor([[[[0.0, 0.0], [5.5, 1.5], [7.6, 1.5], [126.0, 127.0], [-3.0, 128.0]]]])
    found = CODEC.tags_at(fields, points)
    assert found[0, 0, :, 0].tolist() == [0, 1024 + 1, 2048 + 2, 3 * 1024 + 1023, 4 * 1024 + 31 * 32]


def test_targets_have_both_resolutions_and_peaks_of_one() -> None:
    fields, weights = CODEC.targets(scene())
    assert {name: field.maps.shape[-1] for name, field in fields.items()} == {"heatmap": 32, "fine_heatmap": 64}
    assert (fields["fine_heatmap"].maps[:2].amax((2, 3)) == 1).all()
    assert fields["heatmap"].maps[2].abs().max() == 0
    assert all((weight.maps == 1).all() for weight in weights.values())
    assert set(AssociativeEmbedding(SIZE, SKELETON, fine=False).targets(scene())[0]) == {"heatmap"}


def test_a_zero_answer_costs_what_is_published_for_one_keypoint_and_half_where_half_is_known() -> None:
    one = replace(SKELETON, keypoints=("nose",), bones=(), flip=(0,), sigmas=(0.1,))
    codec = AssociativeEmbedding((512, 512), one)
    ones, box_size = torch.ones(1, 1), torch.full((1, 1, 2), 50.0)
    here = Scene(torch.full((1, 1, 1, 2), 241.5), ones[None], ones, box_size, torch.ones(1, 1, 128, 128))
    for valid in (1.0, 0.5):
        targets, weights = codec.targets(replace(here, valid=valid * here.valid))
        zeros = Fields({name: replace(field, maps=0 * field.maps) for name, field in targets.items()})
        losses = codec.map_losses(zeros, targets, weights)
        assert losses["heatmap"].item() == pytest.approx(valid * 7.67e-4, rel=1e-3)
        assert losses["fine_heatmap"].item() == pytest.approx(valid * 1.917e-4, rel=1e-3)


def test_the_finer_map_is_known_where_the_coarser_is() -> None:
    here = scene()
    here.valid[0, 0, 3, 5] = 0
    _, weights = CODEC.targets(here)
    assert (weights["fine_heatmap"].maps[0] == 0).nonzero()[:4, 1:].tolist() == [[6, 10], [6, 11], [7, 10], [7, 11]]


def test_all_people_are_detected_in_a_perfect_output() -> None:
    here = scene()
    found = CODEC.decode(perfect_output(CODEC, here))
    assert worst(found, here) <= 2.2
    assert (found.person > 0).sum(1).tolist() == [2, 4, 0]
    assert found.keypoints.shape == (3, 30, 5, 2)
    on_device = CODEC.detect(perfect_output(CODEC, here), 6)[0]
    assert worst(on_device, here) <= 2.2
    assert (on_device.weight > 0).sum(1).tolist() == [2, 4, 0]
    assert on_device.people == 6


def test_tags_of_the_flip_test_are_a_second_dimension_and_tell_people_apart_by_both() -> None:
    """Two people whom each dimension alone takes for one."""
    here = scene((3,), room=3)
    fields = perfect_output(CODEC, here)
    first = fields["tags"].maps / 3
    stacked = torch.cat([2 * (first == 1), 2 * (first == 2)], 1)
    fields["tags"] = replace(fields["tags"], maps=stacked.float(), flip=(*SKELETON.flip, 5, 7, 6, 9, 8))
    for found in (CODEC.decode(fields), CODEC.detect(fields, 8)[0]):
        assert worst(found, here) <= 2.2
    assert (CODEC.decode(fields).person > 0).sum() == 3


def test_people_in_a_chain_of_near_tags_are_told_apart() -> None:
    """Tags 0, 0.8 and 1.6 of one keypoint each, better ones first: the one between belongs to a neighbor."""
    heat, tags = torch.zeros(1, 5, 32, 32), torch.zeros(1, 5, 32, 32)
    for k, (x, score, tag) in enumerate(((4, 0.9, 0.0), (12, 0.8, 0.8), (20, 0.7, 1.7), (28, 0.6, 2.6))):
        heat[0, k, 9, x], tags[0, k, 8:11, x - 1 : x + 2] = score, tag
    codec = AssociativeEmbedding(SIZE, SKELETON, fine=False)
    found = codec.detect(
        Fields(
            {"heatmap": Field(heat, "scalar", 4, SKELETON.flip), "tags": Field(tags, "embedding", 4, SKELETON.flip)}
        ),
        4,
    )[0]
    shown = (found.visible[0] > 0).long().tolist()
    assert shown == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0] * 5, [0] * 5]


def test_a_missing_keypoint_is_filled_in_for_evaluation_and_not_for_training() -> None:
    here = scene((2,))
    fields = perfect_output(CODEC, here)
    x, y = (CODEC.in_cells(here.keypoints[0, 1, 0], 2) + 0.5).long().tolist()
    for name, (column, row) in (("fine_heatmap", (x, y)), ("heatmap", (x // 2, y // 2))):
        fields[name].maps[0, 0, max(0, row - 12) : row + 12, column - 12 : column + 12] *= 0.05
    filled = CODEC.decode(fields)
    assert worst(filled, here) <= 2.2
    assert filled.person[0, 1] < 0.81 * filled.person[0, 0]
    on_device = CODEC.detect(fields, 4)[0]
    assert sorted((on_device.visible[0] > 0).sum(-1).tolist()) == [0, 0, 4, 5]


def test_scales_are_averaged_in_heatmaps_and_tags_are_the_firsts() -> None:
    here = scene((2,))
    fields = perfect_output(CODEC, here)
    large = perfect_output(AssociativeEmbedding((256, 256), SKELETON), twice(here))
    large["tags"] = replace(large["tags"], maps=torch.full_like(large["tags"].maps, math.nan))
    assert worst(CODEC.decode_scales([fields, large]), here) <= 2.2
    nobody = Fields({name: replace(field, maps=torch.zeros_like(field.maps)) for name, field in large.items()})
    alone, half = CODEC.decode(fields), CODEC.decode_scales([fields, nobody])
    torch.testing.assert_close(half.person, alone.person / 2)


def test_only_people_with_tags_of_their_own_are_reliable() -> None:
    here = scene((4,))
    fields = perfect_output(CODEC, here)

    def reliable() -> list[float]:
        """By the mean of their tags, who is found and reliable."""
        found, sure = CODEC.detect(fields, 4)
        tags = CODEC.tags_at(fields, found.keypoints)[0].mean((1, 2))
        return sorted(round(tag, 2) for tag in tags[sure[0] & found.present[0]].tolist())

    assert reliable() == [0, 3, 6, 9]
    tags = fields["tags"].maps
    x, y = (CODEC.in_cells(here.keypoints[0, 0]) + 0.5).long().unbind(-1)
    tags[0, 0, y[0], x[0]] = 0.9
    spread, margin = CODEC.margins(fields, here)
    torch.testing.assert_close(spread[0], torch.tensor([0.72, 0, 0, 0]), atol=1e-5, rtol=0)
    assert reliable() == [3, 6, 9]
    # Of two whose people start 1.1 apart the means are only 0.46 apart.
    for person, (start, others) in {2: (6.0, 6.4), 3: (7.1, 6.7)}.items():
        tags[tags == 3 * person] = others
        x, y = (CODEC.in_cells(here.keypoints[0, person, 0]) + 0.5).long().tolist()
        tags[0, 0, y - 3 : y + 4, x - 3 : x + 4] = start
    margin = CODEC.margins(fields, here)[1]
    torch.testing.assert_close(margin[0], torch.tensor([2.82, 2.82, 0.46, 0.46]), atol=1e-5, rtol=0)
    assert reliable() == [3]
