from dataclasses import replace

import numpy as np
import pytest

from semipose.errors import DataError
from semipose.pose.poses import Poses


def poses(people: int = 3, keypoints: int = 2) -> Poses:
    blank = Poses.blank(people, keypoints)
    blank.ids = np.arange(people)
    blank.keypoints += np.arange(people, dtype=np.float32)[:, None, None]
    return blank


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("keypoints", np.zeros((3, 2)), r"\(3, 2\); expected \(N, K, 2\)"),
        ("keypoints", np.zeros((3, 2, 3)), r"\(3, 2, 3\); expected \(3, 2, 2\)"),
        ("scores", np.zeros((3, 3)), r"scores has shape \(3, 3\); expected \(3, 2\)"),
        ("boxes", np.zeros((3, 5)), r"boxes has shape \(3, 5\); expected \(3, 4\)"),
        ("ids", np.zeros(2), r"ids has shape \(2,\); expected \(3,\)"),
    ],
)
def test_a_wrong_shape_is_refused_with_both_shapes(field: str, value: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        replace(poses(), **{field: value})


def test_types_are_those_announced() -> None:
    one = poses()
    kinds = [one.keypoints.dtype, one.visible.dtype, one.ids.dtype, one.crowd.dtype]
    assert kinds == [np.float32, np.uint8, np.int64, np.bool_]


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (slice(1, None), [1, 2]),
        (np.array([2, 0]), [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        ([], []),
        ([1], [1]),
    ],
)
def test_rows_are_taken_by_slice_positions_or_mask(rows: object, ids: list[int]) -> None:
    assert poses()[rows].ids.tolist() == ids  # type: ignore[index]


def test_a_single_number_is_no_row_selection() -> None:
    with pytest.raises(TypeError, match="poses"):
        poses()[0]  # type: ignore[index]


def test_parts_of_poses_joined_are_the_poses() -> None:
    whole = poses(5)
    again = Poses.concatenate([whole[:2], whole[2:2], whole[2:]])
    assert np.array_equal(again.keypoints, whole.keypoints)
    assert np.array_equal(again.ids, whole.ids)
    with pytest.raises(DataError, match="cannot be joined"):
        Poses.concatenate([poses(1, 2), poses(1, 3)])


def test_results_are_rescored_by_the_keypoints_that_count() -> None:
    one = poses(3)
    one.scores = np.array([[0.9, 0.5], [0.9, 0.1], [0.2, 0.1]], np.float32)
    one.box_scores = np.array([1, 0.5, 1], np.float32)
    results = one.to_coco_results(category_id=7)
    # Means over 0.9 and 0.5; over 0.9 alone, times the box score; over nothing, as 0.2 is not above the threshold.
    assert [result["score"] for result in results] == pytest.approx([0.7, 0.45, 0.0])
    assert results[1]["keypoints"] == pytest.approx([1, 1, 0.9, 1, 1, 0.1])
    assert results[0]["category_id"] == 7
    assert Poses.empty(4).to_coco_results() == []
