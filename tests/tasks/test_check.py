"""`check` names every finding with its remedy, and its picture shows which side is which."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.drawing import SIDE_COLORS, draw
from semipose.formats.load import Data, load
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.tasks.check import check, mirror, sheet
from tests.finished_run import SKELETON
from tests.tiny import film, project


def test_findings_are_printed_with_remedies_and_the_sheet_is_written(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(data, tmp_path / "look") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "only 6 labeled people" in told
    assert "Label at least 20" in told
    assert "6 labeled people in 6 images, 14 unlabeled, 14 keypoints, 6 mirror pairs" in told
    image = cv2.imread(str(tmp_path / "look" / "contact_sheet.jpg"))
    assert image is not None
    assert image.shape[1] > 600


def test_an_error_gives_exit_code_1_and_brackets_stay(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    # The same pictures in both streams are an error; a file name with [brackets] is no markup for the console.
    assert data.val is not None
    both = replace(data, val=replace(data.labeled, source="[red]x[/]"))
    code = check(both, quick=True)
    told = capsys.readouterr().out
    assert code == int("  error  " in told)
    assert code == 1


def test_a_video_among_the_unlabeled_images_is_checked_and_its_frames_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, images = project(tmp_path)
    clip = film(tmp_path / "clip.avi", 11)
    assert check(load(labels, images, unlabeled=clip), quick=True) == 0
    told = "".join(capsys.readouterr().out.split())
    assert "11frames,3compared(stride5),3kept,0near-duplicatesdropped" in told


def test_a_mirrored_pose_lies_on_the_mirrored_picture() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    left, right = (SKELETON.keypoints.index(f"{side}_wrist") for side in ("left", "right"))
    image[20, 70] = 255
    poses = Poses.blank(1, len(SKELETON))
    poses.keypoints[0, left], poses.visible[0, left] = (70, 20), 2
    poses.boxes[0] = (50, 10, 30, 40)
    flipped, moved = mirror(image, poses, SKELETON)
    x, y = moved.keypoints[0, right].astype(int)
    assert flipped[y, x].sum() == 3 * 255
    assert (moved.visible[0, right], moved.visible[0, left]) == (2, 0)
    assert moved.boxes[0].tolist() == [9, 10, 30, 40]
    back = mirror(flipped, moved, SKELETON)[1]
    assert np.array_equal(back.keypoints, poses.keypoints)
    assert np.array_equal(back.boxes, poses.boxes)


def test_the_mirrored_example_exchanges_the_colors() -> None:
    dots: Skeleton = replace(SKELETON, bones=())
    image = np.zeros((60, 90, 3), np.uint8)
    poses = Poses.blank(1, len(dots))
    poses.keypoints[0, dots.keypoints.index("left_wrist")] = (70, 20)
    poses.visible[0, dots.keypoints.index("left_wrist")] = 2
    poses.boxes[0] = (0, 0, 90, 60)
    flipped, moved = mirror(image, poses, dots)
    assert tuple(draw(image, poses, dots, faded=False)[20, 70]) == SIDE_COLORS["left"]
    assert tuple(draw(flipped, moved, dots, faded=False)[20, 19]) == SIDE_COLORS["right"]


def test_a_sheet_without_a_readable_picture_is_still_a_picture(data: Data, tmp_path: Path) -> None:
    gone = tuple(str(tmp_path / "gone.jpg") for _ in data.labeled.images.files)
    people = replace(data.labeled, images=replace(data.labeled.images, files=gone))
    assert sheet(people).ndim == 3
