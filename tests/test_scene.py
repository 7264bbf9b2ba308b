"""People of a view seen in another view: moved, mirrored, dropped; padding never counts."""

from dataclasses import replace

import numpy as np
import torch

from semipose.geometry import Affine
from semipose.scene import Labels, Scene

FLIP = (0, 2, 1)


def scene() -> Scene:
    """Two images of 64x48 px with room for two: one person in the first, nobody in the second."""
    keypoints = torch.zeros(2, 2, 3, 2)
    keypoints[0, 0] = torch.tensor([[10.0, 20.0], [30.0, 40.0], [40.0, 10.0]])
    visible = torch.zeros(2, 2, 3)
    visible[0, 0] = torch.tensor([1.0, 1.0, 0.5])
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    box_size = torch.tensor([[[36.0, 40.0], [0, 0]], [[0, 0], [0, 0]]])
    return Scene(keypoints, visible, weight, box_size, torch.ones(2, 1, 16, 12))


def test_centers_and_hulls_are_those_of_visible_keypoints_and_zero_for_nobody() -> None:
    here = scene()
    here.visible[0, 0, 2] = 0
    assert here.centers[0, 0].tolist() == [20, 30]
    assert here.hull[0, 0].tolist() == [20, 20]
    assert here.centers[1].abs().sum() == 0
    assert here.hull[1].abs().sum() == 0
    assert here.present.tolist() == [[True, False], [False, False]]


def test_a_mirror_exchanges_partners_and_their_confidence() -> None:
    here = scene()
    there = here.moved(Affine.mirror(48, 2), FLIP)
    assert there.keypoints[0, 0].tolist() == [[37, 20], [7, 10], [17, 40]]
    assert there.visible[0, 0].tolist() == [1, 0.5, 1]
    back = there.moved(Affine.mirror(48, 2), FLIP)
    assert torch.equal(back.keypoints[0, 0], here.keypoints[0, 0])
    torch.testing.assert_close(back.valid, here.valid, atol=1e-5, rtol=0)


def test_what_falls_outside_is_dropped_and_boxes_grow_with_the_view() -> None:
    twice = Affine.about([0.0, 0.0], [2.0, 2.0], [False, False], (0, 0), (0, 0))
    there = scene().moved(twice, FLIP)
    assert there.keypoints[0, 0, 0].tolist() == [20, 40]
    assert there.visible[0, 0].tolist() == [1, 0, 0]
    torch.testing.assert_close(there.box_size[0, 0], torch.tensor([72.0, 80.0]))
    gone = scene().moved(Affine.about([0.0, 0.0], [1.0, 1.0], [False, False], (0, 0), (100, 0)), FLIP)
    assert gone.weight.sum() == 0


def test_a_view_reaches_half_a_pixel_beyond_its_centers() -> None:
    """From there on a cell of a map that holds the keypoint is one that there is."""
    at = torch.tensor([[-0.5, -0.5], [47.49, 63.49], [47.5, 0.0], [0.0, 63.5], [-0.51, 0.0], [torch.nan, 0.0]])
    here = replace(scene(), keypoints=at.view(2, 1, 3, 2), visible=torch.ones(2, 1, 3), weight=torch.ones(2, 1))
    there = here.moved(Affine.identity(2), FLIP, (64, 48))
    assert there.visible.flatten().tolist() == [1, 1, 0, 0, 0, 0]
    assert there.weight.flatten().tolist() == [1, 0]


def test_beyond_the_view_nothing_is_known() -> None:
    away = Affine.about([0.0, 0.0], [1.0, 1.0], [False, False], (0, 0), (16, 0))
    there = scene().moved(away, FLIP, (64, 80))
    assert there.valid.shape == (2, 1, 16, 20)
    assert there.valid[..., :3].sum() == 0
    assert (there.valid[..., 4:16] > 0.999).all()
    assert there.valid[..., 16:].sum() == 0


def test_labels_moved_on_the_cpu_are_what_the_device_makes_of_them() -> None:
    """Also at the borders, beyond them, in mirrored views and where there is nobody."""
    generator = np.random.default_rng(2)
    count, size = 40, (64, 48)
    keypoints = generator.uniform(-10, 70, (count, 3, 3, 2)).astype(np.float32)
    keypoints[:8, 0] = [[-0.5, -0.5], [47.49, 63.49], [47.5, 0.0]]
    visible = generator.random((count, 3, 3)) < 0.8
    visible[:, 2] = False
    box_size = generator.uniform(5, 50, (count, 3, 2)).astype(np.float32)
    labels, valid = Labels(keypoints, visible, box_size), torch.ones(count, 1, 16, 12)
    affine = Affine.about(
        generator.uniform(-1, 1, count),
        generator.uniform(0.7, 1.3, count),
        generator.random(count) < 0.5,
        (24, 32),
        (24, 32),
    )
    affine.rows[:8] = np.eye(3)
    at, shown = torch.from_numpy(keypoints), torch.from_numpy(visible)
    expected = Scene(at, shown.float(), shown.any(-1).float(), torch.from_numpy(box_size), valid).moved(
        affine, FLIP, size
    )
    found = labels.moved(affine, FLIP, size)
    assert 0.2 < found.visible[:, :2].mean() < 0.7
    for name in ("keypoints", "visible", "box_size"):
        torch.testing.assert_close(
            torch.from_numpy(getattr(found, name)).float(), getattr(expected, name), atol=1e-4, rtol=1e-5
        )
    assert found.visible[0, 0].tolist() == ([True, True, False] * visible[0, 0]).tolist()


def test_the_box_of_detected_people_survives_a_replace_and_is_not_taken_into_another_view() -> None:
    """It holds all their keypoints, also those that are not confident."""
    keypoints = torch.tensor([[10.0, 10], [20, 30], [50, 40]]).view(1, 1, 3, 2)
    scores = torch.tensor([0.9, 0.8, 0.2]).view(1, 1, 3)
    detected = Scene.detected(keypoints, scores, torch.ones(1, 1), torch.ones(1, 1, 16, 16), min_score=0.3)
    other = replace(detected, valid=torch.zeros(1, 1, 16, 16), visible=0 * detected.visible)
    for scene_of in (detected, other):
        assert scene_of.extent is not None
        assert [each.flatten().tolist() for each in scene_of.extent] == [[10, 10], [50, 40]]
    assert detected.box_size.flatten().tolist() == [40, 30]
    assert detected.hull.flatten().tolist() == [10, 20]
    assert detected.moved(Affine.mirror(64, 1), FLIP).extent is None
