"""Drawn people: the same on every call, with keypoints where the joints were drawn."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.errors import UsageError
from semipose.pose.skeleton import PRESETS
from semipose.synthetic.appearance import Appearance, random_appearance
from semipose.synthetic.body import KEYPOINTS, POINT, Camera, random_body, rotation
from semipose.synthetic.canvas import Canvas, Material
from semipose.synthetic.person import PersonRenderer
from semipose.synthetic.single import draw_person, write_demo, write_people

SIZE = (144, 112)
SKIN, HAIR, SHOES = (250, 0, 0), (0, 250, 0), (0, 0, 250)
FRONT, BACK = 0.0, 180.0


def bare_appearance(**changes: object) -> Appearance:
    """Skin, hair and shoes in three pure colors, gray clothes, nothing that hides a joint."""
    appearance = random_appearance(np.random.default_rng(0), 0.0)
    plain = {name: Material((90, 90, 90)) for name in ("shirt", "trousers", "extra")}
    plain |= {"skin": Material(SKIN), "hair": Material(HAIR), "shoes": Material(SHOES)}
    fixed = {"sleeve": 0.0, "leg": 0.4, "skirt": 0.0, "hair_style": "short", "backpack": False}
    return replace(appearance, outline=None, front="plain", glasses=False, **{**plain, **fixed, **changes})


def rendered(yaw: float, appearance: Appearance | None = None, seed: int = 0) -> tuple[np.ndarray, PersonRenderer]:
    """A calm person seen from `yaw` degrees on a black picture."""
    camera = Camera(rotation(0, yaw, 0), 5.0, scale=110, shift=(56, 76))
    canvas = Canvas(SIZE, np.array([0.0, -1.0]), camera.scale)
    body = random_body(np.random.default_rng(seed), 0.0)
    renderer = PersonRenderer(canvas, body, camera, appearance or bare_appearance(), owned=True)
    renderer.draw()
    return canvas.over(np.zeros((*SIZE, 3), np.uint8)), renderer


def near(picture: np.ndarray, point: np.ndarray, reach: int = 4) -> np.ndarray:
    """Mean color of the pixels around a point."""
    x, y = np.rint(point).astype(int)
    return picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].reshape(-1, 3).mean(0)


def test_the_names_are_those_of_the_preset():
    assert PRESETS["lsp_14"].keypoints == KEYPOINTS


def test_a_person_depends_on_seed_and_index_alone():
    first = [draw_person(3, index) for index in (5, 2, 9)]
    again = [draw_person(3, index) for index in (9, 5, 2)]
    for one, other in zip(first, (again[1], again[2], again[0]), strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.keypoints, other.keypoints)
        assert np.array_equal(one.visible, other.visible)
        assert np.array_equal(one.box, other.box)


def test_another_process_draws_the_same_person():
    program = (
        "from semipose.synthetic.single import draw_person as d; print(d(3, 5).image.sum(), d(3, 5).keypoints.tolist())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    person = draw_person(3, 5)
    assert said.strip() == f"{person.image.sum()} {person.keypoints.tolist()}"


@pytest.mark.parametrize("other", [{"index": 6}, {"seed": 4}])
def test_other_indices_and_seeds_give_other_people(other):
    one, two = draw_person(3, 5), draw_person(**{"seed": 3, "index": 5, **other})
    assert not np.allclose(one.keypoints, two.keypoints, atol=1)
    assert np.abs(one.image.astype(int) - two.image).mean() > 5


def test_pixels_move_with_the_size_asked_for():
    small, large = draw_person(3, 5, (96, 72)), draw_person(3, 5, (192, 144))
    # A pixel's center is an integer: doubling takes x to 2 x + 0.5.
    assert np.allclose(2 * small.keypoints + 0.5, large.keypoints, atol=1e-3)


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_people_are_in_their_pictures(difficulty):
    people = [draw_person(1, index, difficulty=difficulty) for index in range(40)]
    inside = np.mean([person.visible > 0 for person in people])
    seen = np.mean([person.visible == 2 for person in people])
    assert inside > (0.98 if difficulty else 0.999)
    assert 0.5 < seen < 0.97
    for person in people:
        assert person.image.shape == (*SIZE, 3)
        assert person.image.dtype == person.visible.dtype == np.uint8
        assert person.keypoints.dtype == np.float32
        assert 0 < person.area <= person.box[2:].prod() + 1


def test_the_box_holds_the_visible_keypoints():
    for index in range(40):
        person = draw_person(2, index)
        points = person.keypoints[person.visible == 2]
        low, high = person.box[:2], person.box[:2] + person.box[2:]
        assert (points >= low - 1.5).all()
        assert (points <= high + 1.5).all()


def test_the_person_fills_the_picture():
    shares = [draw_person(4, index, occluders=0).box[2:] / (SIZE[1], SIZE[0]) for index in range(30)]
    assert np.mean([share.max() > 0.7 for share in shares]) > 0.9


@pytest.mark.parametrize("yaw", [FRONT, BACK])
def test_head_top_and_ankles_lie_where_head_and_feet_are_drawn(yaw):
    picture, renderer = rendered(yaw)
    points = dict(zip(KEYPOINTS, renderer.keypoints(), strict=True))
    assert near(picture, points["head_top"]).argmax() == 1  # hair
    for side in ("left", "right"):
        assert near(picture, renderer.points[POINT[f"{side}_toe"], :2], 2).argmax() == 2  # shoes
        assert near(picture, points[f"{side}_wrist"], 1).argmax() == 0  # skin


@pytest.mark.parametrize("name", ["ankle", "knee", "wrist", "elbow"])
def test_a_visible_joint_is_drawn_under_its_keypoint(name):
    bare = bare_appearance(leg=0.2, shoes=Material(SKIN))
    for seed in range(8):
        picture, renderer = rendered(20.0, bare, seed)
        for row, keypoint in enumerate(KEYPOINTS):
            if keypoint.endswith(name) and renderer.visible()[row] == 2:
                assert near(picture, renderer.keypoints()[row], 0)[0] > 150


def test_a_face_is_visible_only_from_the_front():
    def skin_share(yaw: float) -> float:
        picture, renderer = rendered(yaw)
        center = renderer.camera.project(renderer.body.head_center[None])[0, :2]
        color = near(picture, center, 3)
        return float(color[0] / (color.sum() + 1))

    assert skin_share(FRONT) > 0.6
    assert skin_share(BACK) < 0.2


@pytest.mark.parametrize(("yaw", "sign"), [(FRONT, 1), (BACK, -1)])
def test_left_is_on_our_right_from_the_front_and_on_our_left_from_the_back(yaw, sign):
    for seed in range(10):
        _, renderer = rendered(yaw, seed=seed)
        points = dict(zip(KEYPOINTS, renderer.keypoints(), strict=True))
        for part in ("shoulder", "hip"):
            assert sign * (points[f"left_{part}"][0] - points[f"right_{part}"][0]) > 0


def test_the_far_shoulder_hides_behind_the_body():
    for seed in range(10):
        for yaw, far in ((65.0, "left_shoulder"), (-65.0, "right_shoulder")):
            _, renderer = rendered(yaw, seed=seed)
            assert renderer.visible()[POINT[far]] == 1


def test_things_in_front_hide_keypoints():
    free, covered = (
        np.mean([(draw_person(5, index, occluders=count).visible == 2).mean() for index in range(25)])
        for count in (0, 6)
    )
    assert covered < free - 0.1


def test_difficulty_hides_more_and_varies_more():
    def spread(difficulty: float) -> float:
        people = [draw_person(6, index, difficulty=difficulty) for index in range(40)]
        boxes = np.stack([(f.keypoints - f.box[:2]) / f.box[2:].max() for f in people])
        return float(boxes.std(0).mean())

    assert spread(1.0) > 1.2 * spread(0.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"size": (16, 112)}, "at least 32"),
        ({"difficulty": 1.5}, "from 0"),
        ({"difficulty": float("nan")}, "from 0"),
    ],
)
def test_wrong_requests_are_refused(arguments, expected):
    with pytest.raises(UsageError, match=expected):
        draw_person(0, 0, **arguments)


def test_negative_counts_are_refused(tmp_path):
    with pytest.raises(UsageError, match="number of pictures is -1"):
        write_people(tmp_path, -1, seed=0)


def test_the_json_describes_the_pictures(tmp_path):
    path = write_people(tmp_path, 3, seed=7, first_index=10)
    labels = json.loads(path.read_text())
    assert [image["id"] for image in labels["images"]] == [11, 12, 13]
    assert labels["categories"] == [PRESETS["lsp_14"].to_category()]
    for image, labeled in zip(labels["images"], labels["annotations"], strict=True):
        person = draw_person(7, image["id"] - 1)
        read = cv2.imread(str(tmp_path / "images" / image["file_name"]))[..., ::-1]
        assert (image["height"], image["width"]) == read.shape[:2] == SIZE
        assert np.abs(read.astype(int) - person.image).mean() < 8  # jpg
        flat = np.array(labeled["keypoints"]).reshape(14, 3)
        seen = person.visible > 0
        assert np.array_equal(flat[:, 2], person.visible)
        assert np.allclose(flat[seen, :2], person.keypoints[seen], atol=0.01)
        assert labeled["num_keypoints"] == seen.sum()
        assert np.allclose(labeled["bbox"], person.box, atol=0.01)


def test_the_parts_of_a_demo_share_no_person_and_are_independent(tmp_path):
    small = write_demo(tmp_path / "a", labeled=2, unlabeled=3, val=2, seed=1)
    large = write_demo(tmp_path / "b", labeled=3, unlabeled=4, val=3, test=1, seed=1)
    pictures = sorted(Path(tmp_path / "b").rglob("*.jpg"))
    assert len({path.read_bytes() for path in pictures}) == len(pictures) == 3 + 4 + 3 + 1
    assert (small.test, small.test_images) == (None, None)
    assert large.test is not None
    for path in sorted(small.unlabeled.iterdir()) + sorted(small.val_images.iterdir()):
        baseline = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert baseline.read_bytes() == path.read_bytes()
    assert not list(large.unlabeled.glob("*.json"))


def test_a_demo_loads_like_any_other_data(tmp_path):
    coco = pytest.importorskip("semipose.formats.labels")
    demo = write_demo(tmp_path, labeled=3, unlabeled=1, val=2)
    people = coco.load_labels(demo.labels, demo.images)
    assert len(people) == 3
    assert people.skeleton.keypoints == KEYPOINTS
