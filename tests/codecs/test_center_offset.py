"""Centers and offsets: reference values, equal to plain loops; people come back from what they were drawn as."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.codecs.center_offset import CenterOffset, offset_loss
from semipose.fields import Fields
from semipose.geometry import Affine
from semipose.scene import Scene
from tests.codecs import plain
from tests.codecs.scenes import SIZE, SKELETON, perfect_output, scene, twice, worst

CODEC = CenterOffset(SIZE, SKELETON)


def cells(codec: CenterOffset, points: list[list[list[float]]], visible: list[list[float]]) -> Scene:
    """One image of people whose keypoints are given in cells."""
    keypoints = codec.in_pixels(torch.tensor(points))[None]
    shown = torch.tensor(visible)[None]
    people, valid = len(points), torch.ones(1, 1, *codec.cells)
    return Scene(keypoints, shown, torch.ones(1, people), torch.full((1, people, 2), 99.0), valid)


def test_offsets_have_their_reference_values() -> None:
    """Center (38.7, 44.2), truncated as the reference has it, and a size of 20 px."""
    codec = CenterOffset((256, 256), replace(SKELETON, keypoints=("a", "b"), flip=(0, 1), sigmas=(0.1, 0.1), bones=()))
    here = cells(codec, [[[40.3, 50.6], [35.7, 37.4]]], [[1.0, 1.0]])
    torch.testing.assert_close(codec.in_cells(here.centers[0, 0]).floor(), torch.tensor([38.0, 44.0]))
    target, weight = codec.offset_targets(here)
    rows, columns = weight[0, 0, 0].nonzero().unbind(1)
    torch.testing.assert_close(codec.in_cells(here.centers)[0, 0], torch.tensor([38.0, 44.0]))
    assert (columns.min(), columns.max(), rows.min(), rows.max(), len(rows)) == (34, 41, 40, 47, 64)
    torch.testing.assert_close(target[0, 0, :, 44, 38], torch.tensor([-2.3, -6.6]))
    torch.testing.assert_close(torch.tensor([38.0, 44.0]) - target[0, 0, :, 44, 38], torch.tensor([40.3, 50.6]))
    sized = replace(here, keypoints=here.centers[:, :, None] + torch.tensor([[6.0, 8.0], [-6.0, -8.0]]))
    assert codec.offset_targets(sized)[1].max().item() == pytest.approx(0.05)


def test_offsets_equal_loops_where_people_overlap_at_borders_and_without_labels() -> None:
    random = np.random.default_rng(0)
    codec = CenterOffset((96, 80), SKELETON)
    points = random.uniform(-1, 21, (6, 1, 2)) + random.normal(0, 4, (6, 5, 2))
    points[:, 0] = random.uniform(4, 16, (6, 2))
    visible = (random.random((6, 5)) < 0.7) & (points > -0.5).all(-1) & (points < [19.5, 23.5]).all(-1)
    visible[:, 0] = True
    here = cells(codec, points.tolist(), visible.astype(float).tolist())
    target, weight = codec.offset_targets(here)
    shown = [points[person][visible[person]] for person in range(6)]
    extents = np.array([max(80 / 16, 4 * np.linalg.norm(np.ptp(each, 0))) for each in shown])
    centers = np.array([each.mean(0) for each in shown])
    expected, weights = plain.offsets(points, visible, centers, extents, codec.cells)
    np.testing.assert_allclose(weight[0, :, 0], weights, rtol=1e-4)
    written = weights[:, None] > 0
    np.testing.assert_allclose(target[0].numpy() * written, expected * written, atol=1e-4)
    assert 0 < written.mean() < 0.9


def test_keypoints_without_label_have_no_offsets() -> None:
    here = scene((1,), room=1)
    here.visible[0, 0, 1:3] = 0
    _, weight = CODEC.offset_targets(here)
    assert (weight[0, :, 0].amax((1, 2)) > 0).tolist() == [True, False, False, True, True]


def test_the_reference_weighs_by_the_distance_from_the_images_corner() -> None:
    here = scene((1,), room=1)
    _, weight = replace(CODEC, extent="origin").offset_targets(here)
    assert weight.max().item() == pytest.approx(1 / here.keypoints[0, 0].amax(0).norm().item())


def test_maps_weigh_one_around_keypoints_a_tenth_elsewhere_and_nothing_where_nobody_knows() -> None:
    here = scene()
    fields, weights = CODEC.targets(here)
    assert set(weights["heatmap"].maps.unique().tolist()) == {torch.tensor(0.1).item(), 1.0}
    assert (weights["heatmap"].maps[2] < 0.11).all()
    here.valid[:, :, :8] = 0
    _, weights = CODEC.targets(here)
    assert weights["center"].maps[:, :, :8].sum() == 0
    assert weights["center"].maps[:, :, 8:].min() > 0
    wide, narrow = (replace(CODEC, center_sigma=each).targets(here)[0]["center"].maps for each in (2.0, 1.0))
    assert wide.sum() > 3 * narrow.sum() > 0
    assert fields["center"].maps.shape == (3, 1, 32, 32)


def test_people_too_small_have_keypoints_but_no_center() -> None:
    here = scene()
    small = replace(here, box_size=here.box_size * 0.2)
    fields, _ = CODEC.targets(small)
    assert fields["center"].maps.abs().sum() == 0
    assert fields["heatmap"].maps.max() > 0.9
    assert CODEC.offset_targets(small)[1].sum() == 0


def test_the_offset_loss_has_its_reference_value() -> None:
    predicted = torch.tensor([0.0, 0.05, 1.0, 3.0]).view(1, 1, 2, 2, 1)
    weight = torch.tensor([1.0, 0.5, 0.1, 0.0]).view(1, 1, 2, 2, 1)
    assert offset_loss(predicted, torch.zeros(1, 1, 2, 2, 1), weight).item() == pytest.approx(0.0333565, abs=1e-7)


def test_offsets_are_weighed_by_trust_in_keypoints_and_people() -> None:
    here = scene((2,))
    fields = perfect_output(CODEC, here)
    fields["offsets"] = replace(fields["offsets"], maps=fields["offsets"].maps + 1)
    before = CODEC.instance_losses(fields, here)["offset"]
    half = CODEC.instance_losses(fields, replace(here, visible=0.5 * here.visible))["offset"]
    torch.testing.assert_close(half, before / 2)
    half = CODEC.instance_losses(fields, replace(here, weight=0.5 * here.weight))["offset"]
    torch.testing.assert_close(half, before / 2)


def test_all_people_are_detected_in_a_perfect_output() -> None:
    here = scene()
    found = CODEC.decode(perfect_output(CODEC, here))
    assert worst(found, here) <= 0.01
    assert (found.person > 0).sum(1).tolist() == [2, 4, 0]
    on_device = CODEC.detect(perfect_output(CODEC, here), 6)[0]
    # Snapped to the nearest peak, which is known to a quarter of a cell.
    assert worst(on_device, here) <= 1.5
    assert (on_device.weight > 0).sum(1).tolist() == [2, 4, 0]
    assert (on_device.visible[on_device.weight > 0] > 0.8).all()


def test_a_keypoint_is_snapped_only_to_a_peak_nearby() -> None:
    here = scene((1,))
    fields = perfect_output(CODEC, here)
    for away, snapped in ((0.4, True), (1.5, False)):
        maps = fields["offsets"].maps.clone()
        maps[:, 0] -= away
        moved = Fields({**fields, "offsets": replace(fields["offsets"], maps=maps)})
        near = (CODEC.detect(moved, 4)[0].keypoints[0, 0, 0] - here.keypoints[0, 0, 0]).norm() < 1.5
        assert bool(near) is snapped


def test_people_found_twice_are_found_once() -> None:
    """A second peak of the center map beside the first, with the same pose."""
    here = scene((1,), room=1)
    fields = perfect_output(CODEC, here)
    x, y = (CODEC.in_cells(here.centers[0, 0]) + 0.5).long().tolist()
    center = fields["center"].maps
    center[0, 0, y, x], center[0, 0, y + 3, x + 3] = 2.0, 1.5
    for person in (CODEC.decode(fields).person, CODEC.detect(fields, 4)[0].weight):
        assert (person > 0).sum() == 1


def test_offsets_of_a_moved_scene_lead_to_the_moved_keypoints() -> None:
    """Pose from offsets in another view == the affine map applied to the pose: offsets turn with the view."""
    here = scene((2, 3))
    turn = Affine.about([0.3, -0.2], [0.9, 1.1], [True, False], (63.5, 63.5), (60.0, 66.0))
    there = here.moved(turn, SKELETON.flip)
    poses, height = CODEC._poses(perfect_output(CODEC, there), 4)
    by_hand = turn.keypoints(here.keypoints[:, 0], SKELETON.flip)
    apart = (CODEC.in_pixels(poses) - by_hand[:, None]).norm(dim=-1).masked_fill(there.visible[:, :1] == 0, 0).amax(-1)
    assert (apart.masked_fill(height == 0, 99).amin(1) < 1e-3).all()


def test_scales_agree_on_people_and_other_scales_find_whom_the_first_does_not() -> None:
    here = scene((2,))
    large = CenterOffset((256, 256), SKELETON)
    fields, other = perfect_output(CODEC, here), perfect_output(large, twice(here))
    alone, both = CODEC.decode(fields), CODEC.decode_scales([fields, other])
    assert worst(both, here) <= 0.1
    assert (both.person > 0).sum() == 2
    torch.testing.assert_close(both.person[0, :2], alone.person[0, :2], atol=0.2, rtol=0)
    x, y = (CODEC.in_cells(here.centers[0, 1]) + 0.5).long().tolist()
    fields["center"].maps[0, 0, y - 9 : y + 10, x - 9 : x + 10] = 0
    both = CODEC.decode_scales([fields, other])
    assert worst(both, here) <= 0.1
    assert 0.7 * both.person[0, 0] < both.person[0, 1] < 0.95 * both.person[0, 0]
