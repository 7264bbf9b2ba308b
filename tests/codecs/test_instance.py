"""Maps of one person at a time: reference values; who is drawn; people come back from what they were drawn as."""

from dataclasses import replace

import pytest
import torch

from semipose.codecs.instance import Instance, gaussian_radius
from semipose.fields import Fields, InstanceFields
from semipose.losses.focal import contrast, focal
from semipose.scene import Scene
from tests.codecs.scenes import SIZE, SKELETON, apart, perfect_output, scene, twice, worst

CODEC = Instance(SIZE, SKELETON)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(10, 10, 2.7332), (20, 40, 7.3559), (60, 30, 11.0338), (128, 128, 34.985), (5, 3, 1.0302)],
)
def test_the_radius_has_its_reference_values(height: float, width: float, radius: float) -> None:
    found = gaussian_radius(torch.tensor(height, dtype=torch.float64), torch.tensor(width, dtype=torch.float64)).item()
    assert found == pytest.approx(radius, abs=1e-3)
    assert found == pytest.approx(least_root(height, width))
    assert gaussian_radius(torch.tensor(float(width)), torch.tensor(float(height))).item() == pytest.approx(found)


def least_root(height: float, width: float) -> float:
    """All three cases of the public code."""
    roots = []
    for a, b, c in (
        (1, height + width, width * height * (1 - 0.7) / (1 + 0.7)),
        (4, 2 * (height + width), (1 - 0.7) * width * height),
        (4 * 0.7, -2 * 0.7 * (height + width), (0.7 - 1) * width * height),
    ):
        roots.append((b + (b**2 - 4 * a * c) ** 0.5) / 2)
    return min(roots)


def test_the_focal_loss_has_its_reference_value() -> None:
    probability, target = (torch.tensor(values).view(1, 1, 2, 2) for values in ((0.9, 0.5, 0.1, 0.2), (1, 0.5, 0, 0.8)))
    total, peaks = focal(probability, target, torch.tensor(1.0))
    assert total.item() == pytest.approx(0.0129519, abs=1e-7)
    assert peaks.item() == 1


def test_the_contrastive_loss_has_its_reference_values() -> None:
    vectors, both = torch.tensor([[[1.0, 0.0], [2.0, 2.0]]]), torch.ones(1, 2)
    total, people = contrast(vectors, both)
    assert total.item() == pytest.approx(0.0057065, abs=1e-6)
    assert people.item() == 2
    assert contrast(torch.eye(2)[None], both)[0].item() == pytest.approx(4.1e-9, abs=1e-6)
    assert contrast(vectors[:, :1], both[:, :1])[0].item() == 0
    # People of other images, and padding, are not others.
    assert contrast(vectors.transpose(0, 1), both.mT)[0].item() == 0
    for weight in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0]):
        total, people = contrast(vectors, torch.tensor([weight]))
        assert total.item() == 0
        assert people.item() == sum(weight)


def test_a_peak_is_one_and_its_width_follows_the_person() -> None:
    here = scene((2,))
    here.box_size[0, 1] *= 2
    fields, weights = CODEC.targets(here)
    assert (fields["center"].maps == 1).sum() == 2
    assert (fields["heatmap"].maps == 1).sum() == 10
    reach = CODEC._reach(here)[0]
    assert reach.tolist() == [int(least_root(11, 8)), int(least_root(21, 15)), 0, 0]
    assert (weights["heatmap"].maps == 1).all()


def test_a_box_larger_than_the_image_is_drawn_as_wide_as_the_image_asks_for() -> None:
    here = scene((1,))
    huge = CODEC.targets(replace(here, box_size=here.box_size * 100))[0]["center"].maps
    full = CODEC.targets(replace(here, box_size=torch.tensor(SIZE).float().expand_as(here.box_size)))[0]["center"].maps
    assert torch.equal(huge, full)


def chance(here: Scene, seed: int = 0) -> torch.Tensor:
    return torch.rand(*here.weight.shape, 3, generator=torch.Generator().manual_seed(seed))


def holding(here: Scene) -> torch.Tensor:
    """(B, M, 2) the cells that hold people's centers."""
    return (CODEC.in_cells(here.centers) + 0.5).floor()


def test_the_people_sampled_are_those_there_each_from_a_cell_at_or_beside_the_center() -> None:
    here = scene((2, 4, 0))
    order, cells, weight = CODEC._sampled(here, chance(here))
    rows = torch.arange(3)[:, None]
    assert order.sort().values.tolist() == [[0, 1, 2, 3]] * 3
    assert torch.equal(weight > 0, here.present[rows, order])
    jitter = cells - holding(here)[rows, order]
    assert jitter[here.present[rows, order]].abs().max() == 1
    assert torch.equal(CODEC._sampled(here, chance(here)).cells, cells)
    order, cells, _ = CODEC._sampled(here, None)
    assert torch.equal(cells, holding(here)[rows, order].long())


def test_a_jittered_cell_stays_on_the_map() -> None:
    here = scene((2,), room=2)
    here.keypoints[0, 0], here.keypoints[0, 1] = -0.4, 127.4
    for corner in (0.0, 0.99):
        cells = CODEC._sampled(here, torch.full((1, 2, 3), corner)).cells
        assert sorted(cells[0, :, 0].tolist()) == ([0, 30] if corner == 0 else [1, 31])


def test_jitter_goes_all_ways_as_often() -> None:
    here = scene((4,) * 1000)
    order, cells, _ = CODEC._sampled(here, chance(here))
    jitter = (cells - holding(here)[torch.arange(1000)[:, None], order]).long().flatten(0, 1)
    counts = torch.bincount((jitter[:, 1] + 1) * 3 + jitter[:, 0] + 1, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 380
    assert counts.max() < 510


def weights(here: Scene) -> list[list[float]]:
    """Of all people, in their order, those of whom a loss is taken."""
    order, _, weight = CODEC._sampled(here, None)
    return torch.zeros_like(weight).scatter(1, order, weight).tolist()


def test_of_two_people_in_one_cell_the_smaller_is_sampled_and_of_two_as_small_the_first() -> None:
    here = scene((2,), room=2)
    here.keypoints[0, 1] = here.keypoints[0, 0]
    assert weights(here) == [[1, 0]]
    assert weights(replace(here, box_size=here.box_size * torch.tensor([2.0, 1])[:, None])) == [[0, 1]]
    # And padding takes no cell from a person.
    second = torch.tensor([[0.0, 1]])
    assert weights(replace(here, weight=second, visible=here.visible * second[..., None])) == [[0, 1]]


@pytest.mark.parametrize("crowd", [(0, 4, 0), (4, 3, 2)])
def test_at_most_so_many_of_an_image_are_sampled_and_each_as_often(crowd: tuple[int, ...]) -> None:
    few, here, counts = replace(CODEC, max_people=2), scene(crowd), torch.zeros(3, 4)
    for seed in range(400):
        order, cells, weight = few._sampled(here, chance(here, seed))
        assert cells.shape == (3, 2, 2)
        assert (weight > 0).sum(1).tolist() == [min(count, 2) for count in crowd]
        counts.scatter_add_(1, order, (weight > 0).float())
    for image, count in enumerate(crowd):
        often = counts[image, :count]
        assert ((often - 400 * min(count, 2) / max(1, count)).abs() < 60).all()
        assert counts[image, count:].sum() == 0


def test_of_more_people_than_are_sampled_the_losses_are_those_of_the_sampled_alone() -> None:
    here = scene((4, 3), room=4)
    few, fields, random = replace(CODEC, max_people=2), perfect_output(CODEC, here), chance(here)
    for name, field in fields.items():
        fields[name] = replace(field, maps=0.8 * field.maps + 0.05)
    weight = torch.zeros(2, 4).scatter(1, few._sampled(here, random).order, 1) * here.weight
    alone = replace(here, weight=weight, visible=here.visible * weight[..., None])
    some, those = few.losses(fields, here, random), CODEC.instance_losses(fields, alone, random)
    assert some["instance"] > 0
    for name, loss in those.items():
        torch.testing.assert_close(some[name], loss)


def test_a_perfect_answer_has_hardly_any_loss_and_a_wrong_one_does() -> None:
    here = scene((2, 4, 0))
    fields = perfect_output(CODEC, here)
    right = CODEC.losses(fields, here)
    wrong = CODEC.losses(fields, replace(here, keypoints=here.keypoints.roll(1, 2)))
    assert wrong["instance"] > 3 * right["instance"] > 0
    assert wrong["heatmap"] > 3 * right["heatmap"]


def test_own_maps_are_weighed_by_trust_in_keypoints_and_people() -> None:
    here = scene((4,))
    fields = perfect_output(CODEC, here)
    losses = [
        apart(CODEC, fields, each)
        for each in (
            here,
            replace(here, visible=0.5 * here.visible),
            replace(here, weight=0.5 * here.weight),
        )
    ]
    # By the sum of the weights, which stays above 1.
    for other in losses[1:]:
        torch.testing.assert_close(other["instance"], losses[0]["instance"])
    wrong = replace(here, keypoints=here.keypoints + torch.tensor([0.0, 0, 0, 0, 9.0])[:, None])
    shown = replace(wrong, visible=here.visible * torch.tensor([1.0, 1, 1, 1, 0]))
    doubted = replace(wrong, visible=here.visible * torch.tensor([1.0, 1, 1, 1, 0.1]))
    first, none, little = (apart(CODEC, fields, each)["instance"] for each in (wrong, shown, doubted))
    assert none < little < 0.3 * first


def test_all_people_are_detected_in_a_perfect_output() -> None:
    here = scene()
    found = CODEC.decode(perfect_output(CODEC, here))
    # Peaks lie at whole cells, and flat neighbors give no quarter.
    assert worst(found, here) <= 3
    assert (found.person > 0).sum(1).tolist() == [2, 4, 0]
    on_device = CODEC.detect(perfect_output(CODEC, here), 6)[0]
    assert worst(on_device, here) <= 3
    assert (on_device.weight > 0).sum(1).tolist() == [2, 4, 0]


def test_half_a_center_and_half_a_peak_are_half_a_person() -> None:
    """And not a quarter: what is hardly sure must mean the same for all networks."""
    here = scene((1,))
    fields = perfect_output(CODEC, here)
    whole = CODEC.decode(fields)
    fields["center"].maps.mul_(0.5)
    draw = fields._compute_maps
    half = CODEC.decode(InstanceFields(fields, fields.features, fields.shared, lambda *where: 0.5 * draw(*where)))
    torch.testing.assert_close(half.person[0, 0], 0.5 * whole.person[0, 0])
    torch.testing.assert_close(half.scores[0, 0], 0.5 * whole.scores[0, 0])


def test_people_alike_are_one_person_also_from_two_scales() -> None:
    here = scene((1,), room=1)
    fields = perfect_output(CODEC, here)
    x, y = (CODEC.in_cells(here.centers[0, 0]) + 0.5).long().tolist()
    fields["center"].maps[0, 0, y + 4, x + 4] = 0.99
    for person in (CODEC.decode(fields).person, CODEC.detect(fields, 4)[0].weight):
        assert (person > 0).sum() == 1
    large = Instance((256, 256), SKELETON)
    both = CODEC.decode_scales([perfect_output(CODEC, here), perfect_output(large, twice(here))])
    assert (both.person > 0).sum() == 1
    assert worst(both, here) <= 3


def test_fields_without_maps_of_single_people_are_refused() -> None:
    here = scene()
    moved = Fields(perfect_output(CODEC, here))
    assert not isinstance(moved, InstanceFields)
    with pytest.raises(ValueError, match="no maps of single people"):
        apart(CODEC, moved, here)
