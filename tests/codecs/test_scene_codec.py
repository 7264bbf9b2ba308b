"""All detector-free networks: empty images, confidence, mirrors, and no read from the device in training."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.operators import Operators, on_meta
from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.center_offset import CenterOffset
from semipose.codecs.choose import scene_codec
from semipose.codecs.instance import Instance
from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import Field, Fields, InstanceFields, mirrored_mean
from semipose.geometry import Affine
from semipose.methods.mean_teacher import MeanTeacher
from semipose.scene import Scene
from semipose.views.view import View
from tests.codecs.scenes import CODECS, SIZE, SKELETON, apart, mirrored, perfect_output, scene, worst
from tests.networks.named import small_scene
from tests.people import builder

by_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


def leaves(fields: Fields, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Fields, dict[str, Tensor]]:
    """The same fields of tensors that ask for a gradient, and those."""
    asked = {name: field.maps.detach().to(device, dtype).clone().requires_grad_() for name, field in fields.items()}
    plain = Fields({name: replace(field, maps=asked[name]) for name, field in fields.items()})
    if not isinstance(fields, InstanceFields):
        return plain, asked
    for name in ("features", "shared"):
        asked[name] = getattr(fields, name).detach().to(device, dtype).clone().requires_grad_()
    return InstanceFields(plain, asked["features"], asked["shared"], soft), asked


def soft(parameters: Tensor, shared: Tensor, _: Tensor) -> Tensor:
    """People's maps weighed by how near the people are, so that both have a gradient."""
    maps = shared.unflatten(1, (parameters.shape[1], -1)).repeat_interleave(len(parameters) // len(shared), 0)
    return (maps * parameters.softmax(1)[..., None, None, None]).sum(1).clamp(1e-4, 1 - 1e-4)


def noise(codec: SceneCodec, here: Scene) -> Fields:
    """An perfect_output as far off as that of an untrained network."""
    torch.manual_seed(0)
    fields = perfect_output(codec, here)
    for name, field in fields.items():
        fields[name] = replace(field, maps=(field.maps + torch.randn_like(field.maps)).clamp(0.01, 0.99))
    return fields


def on(device: torch.device, here: Scene) -> Scene:
    return Scene(*(each.to(device) for each in (here.keypoints, here.visible, here.weight, here.box_size, here.valid)))


@by_codec
def test_images_without_people_cost_nothing_but_their_maps_and_gradients_stay_finite(codec: SceneCodec) -> None:
    here = scene((0, 0), room=2)
    fields, asked = leaves(noise(codec, here))
    losses = codec.losses(fields, here)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(loss == 0 for loss in apart(codec, fields, here).values())
    sum(losses.values(), torch.zeros(())).backward()
    assert all(grad is None or torch.isfinite(grad).all() for grad in (each.grad for each in asked.values()))
    assert asked["heatmap"].grad.abs().sum() > 0  # type: ignore[union-attr]
    found = codec.decode(perfect_output(codec, here))
    assert found.person.sum() == found.keypoints.abs().sum() == found.scores.sum() == 0


@by_codec
def test_every_field_learns(codec: SceneCodec) -> None:
    here = scene()
    fields, asked = leaves(noise(codec, here))
    losses = codec.losses(fields, here)
    sum(losses.values(), torch.zeros(())).backward()
    for name, leaf in asked.items():
        assert leaf.grad is not None, name
        assert torch.isfinite(leaf.grad).all(), name
        assert leaf.grad.abs().sum() > 0, name


@by_codec
def test_fully_confident_people_weigh_as_labels_do(codec: SceneCodec) -> None:
    here = scene()
    fields = noise(codec, here)
    losses = codec.losses(fields, here)
    for name, loss in apart(codec, fields, here).items():
        torch.testing.assert_close(losses[name], loss, atol=0, rtol=0)
        assert loss > 0


@by_codec
def test_a_perfect_answer_costs_no_more_than_any_near_it(codec: SceneCodec) -> None:
    here = scene()
    right, wrong = codec.losses(perfect_output(codec, here), here), codec.losses(noise(codec, here), here)
    assert right["heatmap"] < 0.3 * wrong["heatmap"]
    if not isinstance(codec, Instance):
        assert right["heatmap"] == 0


@by_codec
def test_the_less_sure_a_teacher_is_the_less_its_maps_weigh(codec: SceneCodec) -> None:
    """And no more than labels: a divisor that counts sure peaks alone lets an unsure teacher drown them."""
    here = scene()
    maps, weights = codec.targets(here)
    silent = Fields({name: replace(field, maps=0 * field.maps + 0.01) for name, field in maps.items()})
    found = []
    for height in (0.2, 0.4, 0.6, 0.8, 1.0):
        lower = Fields({name: replace(field, maps=field.maps * height) for name, field in maps.items()})
        found.append(codec.consistency(silent, lower, weights).item())
    assert found == sorted(found)
    assert found[0] > 0
    assert found[-1] < 2 * sum(codec.map_losses(silent, maps, weights).values())


@by_codec
def test_a_teacher_frozen_at_background_teaches_nobody(codec: SceneCodec) -> None:
    here = scene()
    fields = perfect_output(codec, here)
    empty = Fields({name: replace(field, maps=torch.zeros_like(field.maps)) for name, field in fields.items()})
    if isinstance(fields, InstanceFields):
        empty = InstanceFields(empty, fields.features, torch.zeros_like(fields.shared), soft)
    found = codec.detect(empty, 5)[0]
    assert found.weight.sum() == found.visible.sum() == 0
    assert torch.isfinite(found.keypoints).all()
    assert torch.equal(found.valid, torch.ones(3, 1, 32, 32))
    assert all(loss == 0 for loss in apart(codec, fields, found).values())
    _, weights = codec.targets(found, negatives=False)
    assert all(weight.maps.sum() == 0 for weight in weights.values())


@by_codec
def test_found_people_are_as_good_as_labels_where_the_answer_is_perfect(codec: SceneCodec) -> None:
    here = scene((2, 4))
    found, reliable = codec.detect(perfect_output(codec, here), 6)
    assert (reliable & found.present).sum() == 6
    assert (found.weight > 0).sum() == 6
    assert found.visible[found.weight == 0].sum() == 0
    hull = found.hull[found.present]
    assert torch.equal(found.box_size[found.present], hull)
    assert (hull.amin() > 15) & (hull.amax() < 50)
    scores = found.visible[found.present]
    assert (scores.amin() > 0.5) & (scores.amax() <= 1)


@by_codec
def test_who_is_found_lies_in_the_image_is_as_sure_as_asked_and_what_is_known_is_passed_on(codec: SceneCodec) -> None:
    here = scene((2, 4))
    fields, valid = noise(codec, here), torch.rand(2, 1, *codec.cells)
    found = codec.detect(fields, 6)[0]
    inside = ((found.keypoints >= -0.5) & (found.keypoints < SIZE[1] - 0.5)).all(-1)
    assert (found.visible > 0).any()
    assert inside[found.visible > 0].all()
    least = float(found.visible[found.visible > 0].median())
    surer = codec.detect(fields, 6, valid, least)[0]
    assert torch.equal(surer.visible, found.visible * (found.visible >= least))
    assert torch.equal(surer.weight, found.weight)
    assert torch.equal(surer.box_size, found.box_size)
    # CID's people are as sure of all their keypoints here.
    assert isinstance(codec, Instance) or not torch.equal(surer.hull, found.hull)
    assert surer.valid is valid


@by_codec
def test_hidden_keypoints_and_absent_people_have_no_influence(codec: SceneCodec) -> None:
    here = scene((2, 3))
    here.visible[0, 0, 1] = 0
    fields = noise(codec, here)
    before = codec.losses(fields, here)
    keypoints = torch.where((here.visible > 0)[..., None], here.keypoints, torch.tensor([777.0, -5.0]))
    box_size = torch.where(here.present[..., None], here.box_size, 55.0)
    visible = torch.where(here.present[..., None], here.visible, 1.0)
    after = codec.losses(fields, replace(here, keypoints=keypoints, box_size=box_size, visible=visible))
    for name, loss in before.items():
        torch.testing.assert_close(after[name], loss)


@by_codec
def test_the_order_of_people_changes_nothing(codec: SceneCodec) -> None:
    here, order = scene((2, 3)), torch.tensor([3, 1, 0, 2])
    fields = noise(codec, here)
    other = replace(
        here,
        keypoints=here.keypoints[:, order],
        visible=here.visible[:, order],
        weight=here.weight[:, order],
        box_size=here.box_size[:, order],
    )
    after = codec.losses(fields, other)
    for name, loss in codec.losses(fields, here).items():
        torch.testing.assert_close(after[name], loss)


@by_codec
def test_without_negatives_only_confident_keypoints_count_and_as_much(codec: SceneCodec) -> None:
    here = scene((2,))
    here = replace(here, visible=here.visible * torch.tensor([1.0, 0.3, 0.5, 0, 1]))
    here.valid[:, :, :, 16:] = 0
    maps, weights = codec.targets(here, negatives=False)
    for k, confidence in enumerate((1.0, 0.3, 0.5, 0, 1)):
        weight, heat = weights["heatmap"].maps[0, k], maps["heatmap"].maps[0, k]
        assert weight.unique().tolist() == torch.tensor(sorted({0.0, confidence})).tolist()
        assert (weight[:, 16:] == 0).all()
        assert (heat[weight == 0][:, None] * here.valid[0, 0][weight == 0][:, None] == 0).all()
    assert 0 < (weights["heatmap"].maps > 0).float().mean() < 0.5


@by_codec
def test_the_flip_test_of_a_mirrored_answer_is_the_answer(codec: SceneCodec) -> None:
    here = scene()
    straight, flipped = perfect_output(codec, here), perfect_output(codec, mirrored(here))
    both = mirrored_mean(straight, flipped, SIZE[1])
    if not isinstance(codec, AssociativeEmbedding):
        for name, field in straight.items():
            weight = 1.0 if field.kind == "scalar" else (codec.targets(here)[0]["center"].maps > 0.7)
            # A cell that holds a mirrored point need not be the mirrored cell.
            limit = 0.7 if isinstance(codec, Instance) else 1e-2
            assert ((both[name].maps - field.maps) * weight).abs().max() < limit
    else:
        assert both["tags"].maps.shape[1] == 10
    found, alone = codec.decode(both), codec.decode(straight)
    assert worst(found, here) <= (4 if isinstance(codec, Instance) else 2.2)
    assert torch.equal(found.person > 0, alone.person > 0)
    torch.testing.assert_close(found.person, alone.person, atol=0.35 if isinstance(codec, Instance) else 0.08, rtol=0)


@by_codec
def test_half_precision_answers_have_losses_and_people_in_full(codec: SceneCodec) -> None:
    here = scene()
    fields, _ = leaves(perfect_output(codec, here), dtype=torch.bfloat16)
    exact = codec.losses(leaves(perfect_output(codec, here))[0], here)
    for name, loss in codec.losses(fields, here).items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[name], rtol=0.05, atol=5e-3)
    assert codec.detect(fields.detach(), 4)[0].keypoints.dtype == torch.float32
    assert (codec.decode(fields.detach()).person > 0).sum() == 6


@by_codec
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_network_gone_bad_is_read_without_harm(codec: SceneCodec, number: float) -> None:
    here = scene()
    for broken in perfect_output(codec, here):
        fields = perfect_output(codec, here)
        fields[broken] = replace(fields[broken], maps=torch.full_like(fields[broken].maps, number))
        found, on_device = codec.decode(fields), codec.detect(fields, 5)[0]
        assert all(torch.isfinite(each).all() for each in (found.keypoints, on_device.keypoints))
        assert not any(each.isnan().any() for each in (found.scores, found.person))
        codec.targets(on_device)
        apart(codec, fields, on_device)


def step(codec: SceneCodec, fields: Fields, here: Scene) -> None:
    """All that a training step asks of a codec."""
    weights, targets = codec.targets(here, negatives=False)
    losses = [*codec.losses(fields, here).values(), *codec.map_losses(fields, targets, weights).values()]
    found, reliable = codec.detect(fields, 5)
    losses += [loss * reliable.any() for loss in apart(codec, fields, found).values()]
    torch.stack(losses).sum().backward()


@by_codec
def test_training_asks_for_as_many_operators_for_any_batch_and_reads_nothing(codec: SceneCodec) -> None:
    counts = []
    for here in (scene((2, 1), room=2), scene((2, 4, 0, 1, 3))):
        fields, _ = leaves(noise(codec, here))
        step(codec, fields, here)
        with Operators() as seen:
            step(codec, fields, here)
        assert seen.blocking == []
        counts.append(seen.count)
    assert counts[0] == counts[1]


@by_codec
def test_training_copies_nothing_from_the_host(codec: SceneCodec) -> None:
    here = scene()
    answered = noise(codec, here)
    with on_meta() as meta:
        there = on(meta, here)
        fields, _ = leaves(answered, str(meta))
        step(codec, fields, there)
        with Operators() as seen:
            step(codec, fields, there)
    assert seen.blocking == []


def test_the_codec_is_chosen_by_what_a_network_answers() -> None:
    maps = torch.zeros(1, 5, 32, 32)
    every = {
        name: Field(maps, "scalar", 4, SKELETON.flip)
        for name in ("heatmap", "fine_heatmap", "tags", "center", "offsets")
    }
    pick = lambda *names: scene_codec(Fields({name: every[name] for name in names}), SIZE, SKELETON)  # noqa: E731
    assert pick("heatmap", "tags", "fine_heatmap") == AssociativeEmbedding(SIZE, SKELETON)
    assert pick("heatmap", "tags") == AssociativeEmbedding(SIZE, SKELETON, fine=False)
    assert pick("heatmap", "center", "offsets") == CenterOffset(SIZE, SKELETON)
    assert pick("heatmap", "center") == Instance(SIZE, SKELETON)
    with pytest.raises(ValueError, match="tell no people apart"):
        pick("heatmap")


def test_sizes_are_the_published_ones_at_512_pixels_and_in_proportion_elsewhere() -> None:
    for side, sigma, least in ((512, 2.0, 32), (1024, 4.0, 64), (128, 1.5, 8)):
        codec = CenterOffset((side, side), SKELETON)
        assert (codec.sigma, codec.min_side, codec.cells) == (sigma, least, (side // 4, side // 4))


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
def test_a_network_answers_in_its_codecs_terms(name: str) -> None:
    network = small_scene(name, skeleton=SKELETON)
    here = scene((2, 0))
    image = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    fields = network(image)
    codec = scene_codec(fields, SIZE, SKELETON)
    losses = codec.losses(fields, here)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values(), torch.zeros(())).backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in network.parameters())
    both = mirrored_mean(fields, network(image.flip(-1)), SIZE[1])
    found = codec.detect(both, 5)[0]
    assert found.keypoints.shape == (2, 5, 5, 2)
    assert not found.keypoints.requires_grad
    assert not found.visible.requires_grad
    assert codec.decode(both, 7).keypoints.shape == (2, 7, 5, 2)


def consistency(codec: SceneCodec, student: Fields, teacher: Fields, confidence_mask: Tensor | None = None) -> Tensor:
    """Of an perfect_output to mirrored images with a teacher's perfect_output to them as they are."""
    method = MeanTeacher(builder(0, SKELETON), SKELETON)
    mirror = Affine.mirror(SIZE[1], 2)
    weak, strong = (View(torch.zeros(2, 3, *SIZE), affine) for affine in (Affine.identity(2), mirror))
    return method.consistency_loss(student, teacher, weak, strong, confidence_mask)


@by_codec
def test_a_teachers_maps_are_mirrored_with_their_partners_exchanged(codec: SceneCodec) -> None:
    here = scene((2, 4))
    teacher, student = perfect_output(codec, here), perfect_output(codec, mirrored(here))
    right = consistency(codec, student, teacher)
    for name in set(student) & {"heatmap", "fine_heatmap"}:
        student[name] = replace(student[name], maps=student[name].maps[:, list(SKELETON.flip)])
    assert right < 0.05 * consistency(codec, student, teacher)


@by_codec
def test_only_centers_are_learned_where_a_teachers_maps_are_not_confident(codec: SceneCodec) -> None:
    here = scene((2, 4))
    fields, asked = leaves(noise(codec, mirrored(here)))
    consistency(codec, fields, perfect_output(codec, here), torch.zeros(2, len(SKELETON))).backward()
    learned = {name for name, leaf in asked.items() if leaf.grad is not None and leaf.grad.abs().sum() > 0}
    assert learned == ({"center"} if "center" in fields else set())
    fields, asked = leaves(noise(codec, mirrored(here)))
    only = torch.tensor([[0.0, 1, 0, 0, 0]]).expand(2, -1)
    consistency(codec, fields, perfect_output(codec, here), only).backward()
    grad = asked["heatmap"].grad
    assert grad is not None
    # In a mirrored view the left hand takes the right one's place.
    assert (grad.abs().sum((0, 2, 3)) > 0).tolist() == [False, False, True, False, False]
