"""A table built by a format is checked, and hides the labels that must not be read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.data.people import Images, ListedImage
from semipose.errors import DataError
from semipose.formats.label_format import MAX_FAULTS_SHOWN, LabelTable, ReadOptions, find_images
from tests.tiny import picture

CATEGORY = {"name": "mouse", "keypoints": ["nose", "tail"]}


def build(boxes: Any = None, rule: str = "auto", change: Any = None, **options: Any) -> LabelTable:
    """A table of three mice in two images."""
    keypoints = np.array([[[1, 2, 2], [3, 4, 1]]] * 3, float)
    if change is not None:
        change(keypoints)
    images = Images(("a.png", "b.png"), np.array([7, 8]), np.zeros((2, 2), np.int64), ({}, {}))
    chosen = ReadOptions(Path("labels.csv"), "", {}, rule, **options)
    return LabelTable.build(chosen, images, CATEGORY, np.array([0, 1, 1]), keypoints, boxes)


def test_boxes_are_optional_for_each_person() -> None:
    boxes = np.array([[1, 2, 3, 4], [np.nan] * 4, [5, 6, 7, 8]])
    table = build(boxes)
    assert table.boxed.tolist() == [True, False, True]
    assert table.boxes[1].tolist() == [0, 0, 0, 0]
    assert not build(boxes, rule="keypoints").boxed.any()
    assert not build().boxed.any()


def test_hidden_people_have_no_keypoints_but_boxes() -> None:
    table = build(np.ones((3, 4)), labeled_ids=frozenset({8}), labeled_people=frozenset({1, 3}))
    assert table.hidden_images.tolist() == [True, False]
    assert table.hidden.tolist() == [True, True, False]
    assert (table.keypoints != 0).any((1, 2)).tolist() == [False, False, True]
    assert table.boxed.all()


def test_positions_of_unlabeled_keypoints_are_dropped() -> None:
    def change(keypoints: np.ndarray) -> None:
        keypoints[1, 0] = np.nan, np.nan, 0

    assert build(change=change).keypoints[1, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("boxes", "rule", "row", "value", "said"),
    [
        (None, "auto", (1, 0, 0), np.inf, "person 2 in b.png: a coordinate is no finite number"),
        (None, "auto", (2, 1, 2), 0.5, "person 3 in b.png: a visibility is not 0"),
        (None, "given", (0, 0, 0), 5, "person 1 in a.png: there is no box"),
        ([[1, 1, 0, 5]] * 3, "auto", (0, 0, 0), 5, "person 1 in a.png: the box has no area"),
        ([[1, 1, np.inf, 5]] * 3, "auto", (0, 0, 0), 5, "3 faults.*the box has no area or is not finite"),
    ],
)
def test_faults_are_named_by_person(boxes: Any, rule: str, row: tuple, value: float, said: str) -> None:
    given = None if boxes is None else np.array(boxes, float)
    with pytest.raises(DataError, match=f"(?s){said}"):
        build(given, rule, lambda keypoints: keypoints.__setitem__(row, value))


def test_a_wrong_number_of_keypoints_is_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(3, 1, 3\); expected \(3, 2, 3\)"):
        LabelTable.build(
            ReadOptions(Path("labels.csv"), "", {}, "auto"),
            Images(("a.png",), np.array([7]), np.zeros((1, 2), np.int64), ({},)),
            CATEGORY,
            np.zeros(3, int),
            np.zeros((3, 1, 3)),
        )


def test_images_are_found_inside_their_folder_only(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    options = ReadOptions(tmp_path / "labels.csv", str(tmp_path), {}, "auto")
    images = find_images([ListedImage(3, "a/1.png", {"video_id": 5})], options)
    assert images.files == (str(tmp_path / "a" / "1.png"),)
    assert images.extra == ({"video_id": 5},)
    with pytest.raises(DataError, match=r"(?s)30 faults.*image 0: .*leads out.* and 10 more"):
        find_images([ListedImage(row, "../1.png", {}) for row in range(MAX_FAULTS_SHOWN + 10)], options)
