import numpy as np
import pytest

from semipose.data.boxes import boxes_of_sizes, describe, keypoint_hulls, match, overlaps


@pytest.mark.parametrize(
    ("points", "visible", "box", "remark"),
    [
        ([[0, 0], [100, 50]], [2, 1], [-12, -12, 124, 74], "12 % of the longer side on every side"),
        ([[10, 10], [10, 30]], [2, 2], [7.6, 7.6, 4.8, 24.8], "a line has a box too"),
        ([[10, 10], [99, 99]], [2, 0], None, "one labeled point tells no size"),
        ([[10, 10], [10, 10]], [2, 2], None, "nor do two in one place"),
        ([[10, 10], [20, 20]], [0, 0], None, "nobody is labeled"),
    ],
)
def test_the_hull_of_labeled_keypoints_is_enlarged(points: list, visible: list, box: list | None, remark: str) -> None:
    boxes, known = keypoint_hulls(np.array([points], np.float32), np.array([visible]))
    assert known.tolist() == [box is not None], remark
    assert boxes[0].tolist() == pytest.approx(box or [0, 0, 0, 0]), remark


def test_overlap_is_intersection_over_union() -> None:
    a = np.array([[0, 0, 10, 10], [100, 100, 1, 1]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 10, 10]], np.float32)
    assert overlaps(a, b)[0].tolist() == pytest.approx([1, 1 / 3])
    assert overlaps(a, b)[1].tolist() == [0, 0]


def test_each_detection_goes_to_one_person_best_first() -> None:
    people = np.array([[0, 0, 10, 10], [2, 0, 10, 10], [50, 50, 10, 10]], np.float32)
    detected = np.array([[2, 0, 10, 10], [3, 0, 10, 10]], np.float32)
    assert match(people, detected).tolist() == [1, 0, -1]
    away = np.array([[8, 0, 10, 10]], np.float32)
    assert match(people[:1], away).tolist() == [-1]
    assert match(people, detected[:0]).tolist() == [-1, -1, -1]


def test_mixed_sources_are_named_most_frequent_first() -> None:
    assert describe(np.array([3, 0, 0, 2])) == "given,keypoints,image"
    assert describe(np.array([], np.int64)) == ""
    assert boxes_of_sizes(np.array([[48, 64]])).tolist() == [[0, 0, 64, 48]]
