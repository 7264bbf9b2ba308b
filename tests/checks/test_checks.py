import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.checks.checks import Finding, check
from semipose.checks.swapped_sides import swapped_sides
from semipose.formats.load import Data, load
from semipose.pose.skeleton import PRESETS, Skeleton
from tests.tiny import picture, project

MOUSE = Skeleton.from_category({"name": "mouse", "keypoints": ["nose", "left_ear", "right_ear", "tail"]})


def found(data: Data, level: str, part: str, quick: bool = True) -> list[Finding]:
    return [one for one in check(data, quick) if one.level == level and part in one.text]


def sound(folder: Path, change: Callable[[Any], Any] | None = None) -> Data:
    """45 people with moving keypoints in 45 pictures, nothing wrong."""

    def vary(document: dict) -> None:
        for number, one in enumerate(document["annotations"]):
            one["keypoints"][0::3] = [x + number % 7 for x in one["keypoints"][0::3]]
            one["bbox"] = [5, 5, 36, 36]
        if change is not None:
            change(document)

    return load(*project(folder, vary, images=45))


def test_sound_data_gives_only_notes(tmp_path: Path) -> None:
    findings = check(sound(tmp_path), quick=False)
    assert [one.level for one in findings] == ["note"]
    assert "OKS sigmas" in findings[0].text
    assert all(one.remedy for one in findings)


def test_copies_between_streams_are_found_by_content(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    val, val_images = project(tmp_path / "val", images=2, seed=500)
    frames = tmp_path / "frames"
    picture(frames / "fresh.png", seed=900)
    shutil.copy(images / "1.png", frames / "renamed.png")
    shutil.copy(images / "2.png", val_images / "1.png")
    shutil.copy(val_images / "2.png", frames / "seen.png")
    data = load(path, images, unlabeled=frames, val=val, val_images=val_images)
    assert len(found(data, "error", "1 labeled images are also validation images")) == 1
    assert len(found(data, "warning", "1 labeled images are also among the unlabeled")) == 1
    assert len(found(data, "warning", "1 validation images are also among the unlabeled")) == 1
    assert "renamed.png" in found(data, "warning", "labeled images are also among")[0].text
    shutil.copy(images / "1.png", images / "3.png")
    assert len(found(load(path, images), "warning", "appear twice under different names")) == 1


def test_a_copy_is_found_where_no_other_file_has_its_size(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    picture(images / "1.png", (40, 50))
    (tmp_path / "frames").mkdir()
    shutil.copy(images / "1.png", tmp_path / "frames" / "a.png")
    assert found(load(path, images, unlabeled=tmp_path / "frames"), "warning", "also among")


def test_pictures_of_the_same_size_in_bytes_are_no_copies(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    frames = tmp_path / "frames"
    frames.mkdir()
    content = bytearray((images / "1.png").read_bytes())
    content[-20] ^= 1
    (frames / "other.png").write_bytes(content)
    assert not found(load(path, images, unlabeled=frames), "warning", "also among")


CASES = [
    ("warning", "outside of their image", lambda one: one["keypoints"].__setitem__(0, 90)),
    ("warning", "far outside of their box", lambda one: one.update(bbox=[5, 5, 3, 3])),
    ("note", "smaller than 32 pixels", lambda one: one.update(bbox=[12, 9, 18, 22])),
    ("note", "fewer than 3 labeled keypoints", lambda one: one["keypoints"].__setitem__(slice(6, 12), [0] * 6)),
]


@pytest.mark.parametrize(("level", "said", "plant"), CASES, ids=[case[1] for case in CASES])
def test_a_planted_fault_is_found_by_annotation(tmp_path: Path, level: str, said: str, plant: Any) -> None:
    data = sound(tmp_path, lambda document: plant(document["annotations"][6]))
    findings = found(data, level, said)
    assert len(findings) == 1
    assert "annotation 70" in findings[0].text
    assert not found(sound(tmp_path), level, said)


def test_keypoints_that_are_never_labeled_are_named(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        for number, one in enumerate(document["annotations"]):
            one["keypoints"][9:] = [0, 0, 0]
            if number:
                one["keypoints"][6:9] = [0, 0, 0]

    data = sound(tmp_path, change)
    assert "tail" in found(data, "warning", "never labeled in the labeled mice")[0].text
    assert found(data, "note", "right_ear (1)") or found(data, "warning", "right_ear")


def test_few_labels_and_few_unlabeled_images_are_reported(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    picture(tmp_path / "frames" / "x.png", seed=900)
    data = load(path, images, unlabeled=tmp_path / "frames")
    assert found(data, "warning", "only 3 labeled mice")
    assert found(data, "note", "there is no validation set")
    assert found(data, "note", "fewer unlabeled mice (1) than labeled ones (3)")


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (["nose", "left_ear", "right_eye", "tail"], "warning", "partner for mirrored images: left_ear, right_eye"),
        (["nose", "paw_LF", "paw1_RF", "tail"], "warning", "have no partner"),
        (["nose", "back", "middle", "tail"], "note", "no keypoint has a left/right partner"),
    ],
)
def test_missing_partners_are_reported(tmp_path: Path, names: list[str], level: str, said: str) -> None:
    data = sound(tmp_path, lambda document: document["categories"][0].update(keypoints=names))
    assert found(data, level, said)


def test_only_the_full_check_decodes_pictures(tmp_path: Path) -> None:
    data = sound(tmp_path)
    broken, other, turned = data.labeled.images.files[:3]
    content = Path(broken).read_bytes()
    Path(broken).write_bytes(content[:24] + bytes(len(content) - 24))
    picture(Path(other), (20, 30))
    picture(Path(turned), (64, 48))
    assert not found(data, "error", "")
    assert broken in found(data, "error", "1 labeled images cannot be decoded", quick=False)[0].text
    assert "is 30x20, in the labels 64x48" in found(data, "error", "differ in size", quick=False)[0].text
    assert "EXIF" in found(data, "error", "rotated by 90 degrees", quick=False)[0].remedy


def test_errors_come_first(tmp_path: Path) -> None:
    data = sound(tmp_path)
    Path(data.labeled.images.files[0]).write_bytes(b"x")
    levels = [one.level for one in check(data, quick=False)]
    assert levels == sorted(levels, key=("error", "warning", "note").index)
    assert levels[0] == "error"


def mice(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Mice from above, turned at random: nose ahead, tail behind, ears left and right."""
    rng = np.random.default_rng(0)
    body = np.array([[0, -30], [-10, -20], [10, -20], [0, 30]], np.float32)
    angle = rng.uniform(0, 2 * np.pi, count)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    points = body @ turn.transpose(0, 2, 1) + rng.normal(0, 1, (count, 4, 2)) + 100
    return points.astype(np.float32), np.full((count, 4), 2, np.uint8)


def test_swapped_ears_of_a_mouse_are_found() -> None:
    xy, visible = mice()
    assert not swapped_sides(xy, visible, MOUSE).any()
    xy[7, [1, 2]] = xy[7, [2, 1]]
    assert np.flatnonzero(swapped_sides(xy, visible, MOUSE)).tolist() == [7]
    visible[7, 3] = 0
    assert not swapped_sides(xy, visible, MOUSE).any()


def test_sides_that_differ_from_picture_to_picture_are_no_swaps() -> None:
    xy, visible = mice()
    xy[::2, [1, 2]] = xy[::2, [2, 1]]
    assert not swapped_sides(xy, visible, MOUSE).any()


def test_no_people_give_no_flags() -> None:
    assert swapped_sides(np.zeros((0, 4, 2), np.float32), np.zeros((0, 4), np.uint8), MOUSE).shape == (0,)


def test_swapped_wrists_of_real_people_are_found_and_few_others(data_root: Path) -> None:
    folder = data_root / "lspet"
    people = load(folder / "annotations" / "person_keypoints_train.json", folder / "images").labeled
    xy, visible = people.poses.keypoints.copy(), people.poses.visible
    assert swapped_sides(xy, visible, PRESETS["lsp_14"]).mean() < 0.005
    wrists = [PRESETS["lsp_14"].keypoints.index(name) for name in ("left_wrist", "right_wrist")]
    both = (visible[:, wrists] > 0).all(1)
    xy[:, wrists] = xy[:, wrists[::-1]]
    assert swapped_sides(xy, visible, PRESETS["lsp_14"])[both].mean() > 0.3
