"""People seen from overhead: a fisheye lens that looks straight down, and files like those of WEPDTOF-Pose."""

import json
from pathlib import Path

import numpy as np
import pytest

from semipose.formats.labels import load_labels
from semipose.metrics.truth import areas_of
from semipose.pose.skeleton import PRESETS
from semipose.synthetic.body import POINT, random_body, rotation
from semipose.synthetic.overhead import Overhead, random_overhead
from semipose.synthetic.single import draw_person, write_demo, write_people


@pytest.mark.parametrize(("pitch", "yaw", "roll"), [(40.0, 30.0, 0.0), (85.0, -120.0, 0.0), (25.0, 170.0, 70.0)])
def test_a_points_distance_from_the_lenss_middle_is_its_angle_to_straight_down(
    pitch: float, yaw: float, roll: float
) -> None:
    """The same picture made in the room's axes, without the camera's turns."""
    points, distance = random_body(np.random.default_rng(0), 0.5).points, 2.2
    turn = rotation(pitch, yaw, roll)
    lens = turn.T @ (0, 0, distance)

    def seen(at: np.ndarray) -> np.ndarray:
        away = at - lens
        flat = away[..., [0, 2]]  # looking down, x is right and z is down in the picture
        aside = np.linalg.norm(flat, axis=-1, keepdims=True)
        return np.arctan2(aside, -away[..., 1:2]) * flat / aside

    middle = seen(np.zeros(3))
    # Turned so that away from the lens's middle is up, then by the roll.
    outward = np.arctan2(middle[1], middle[0])
    angle = -np.pi / 2 - outward - np.radians(roll)
    way = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (seen(points) - middle) @ way.T * 100 * distance + (50, 60)
    found = Overhead(turn, distance, 100.0, (50.0, 60.0)).project(points)
    np.testing.assert_allclose(found[:, :2], expected, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], distance - np.linalg.norm(points - lens, axis=1))


def test_sizes_are_how_much_the_picture_stretches_there() -> None:
    camera = Overhead(rotation(35, 20, 50), 2.0, 100.0)
    points = np.random.default_rng(1).normal(0, 0.3, (20, 3))
    size = camera.project(points)[:, 3]
    step = 1e-4
    for point, expected in zip(points, size, strict=True):
        toward = camera.rotation.T @ (0, 0, camera.distance) - point
        across = np.linalg.svd(toward[None])[2][1:]  # two directions across the line of sight
        moved = camera.project(np.stack([point, *(point + step * across)]))[:, :2]
        area = abs(np.linalg.det(moved[1:] - moved[0])) / step**2
        assert expected == pytest.approx(area**0.5, rel=1e-3)


def test_heads_point_away_from_the_lens_in_all_directions() -> None:
    ways = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        body, camera = random_body(rng, 0.0), random_overhead(rng)
        at = camera.project(body.points)
        up = at[POINT["head_top"], :2] - at[[POINT["left_ankle"], POINT["right_ankle"]], :2].mean(0)
        ways.append(np.degrees(np.arctan2(up[1], up[0])))
        assert at[POINT["head_top"], 3] > at[POINT["left_ankle"], 3]  # nearer, so larger
    assert (np.histogram(ways, 8, (-180, 180))[0] > 8).all()


def test_people_from_overhead_differ_and_are_repeatable() -> None:
    first, again = (draw_person(3, 5, (96, 96), overhead=True) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert not np.allclose(first.keypoints, draw_person(3, 5, (96, 96)).keypoints, atol=1)
    people = [draw_person(1, index, (96, 96), 0.2, overhead=True) for index in range(20)]
    assert np.mean([person.visible > 0 for person in people]) > 0.98
    assert 0.4 < np.mean([person.visible == 2 for person in people]) < 0.95


def test_files_have_the_order_and_sigmas_of_wepdtof_and_no_area_but_the_boxs(tmp_path: Path) -> None:
    labels = write_people(tmp_path, 3, seed=0, size=(96, 96), overhead=True)
    people = load_labels(labels, tmp_path / "images")
    preset = PRESETS["wepdtof_14"]
    assert people.skeleton is not None
    assert people.skeleton.keypoints == preset.keypoints
    assert people.skeleton.sigmas == preset.sigmas
    assert people.skeleton.flip == (3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8, 12, 13)
    assert all("area" not in row for row in json.loads(labels.read_text())["annotations"])
    areas, from_box = areas_of(people.poses)
    assert from_box.all()
    np.testing.assert_allclose(areas, 0.53 * people.poses.boxes[:, 2:].prod(1), rtol=1e-5)
    drawn = draw_person(0, 1, (96, 96), overhead=True)
    names = PRESETS["lsp_14"].keypoints
    for name in ("head_top", "left_wrist"):
        row, column = names.index(name), preset.keypoints.index(name)
        np.testing.assert_allclose(people.poses.keypoints[1, column], drawn.keypoints[row], atol=0.006)


def test_a_demo_of_people_from_overhead(tmp_path: Path) -> None:
    demo = write_demo(tmp_path, labeled=1, unlabeled=1, val=1, size=(96, 96), overhead=True)
    assert json.loads(demo.val.read_text())["categories"][0]["keypoints"] == list(PRESETS["wepdtof_14"].keypoints)
