"""Distances, what normalizes them, and the share within reach."""

import numpy as np
import pytest

from semipose.metrics.pck import box_side, distances, head_size, pck, torso_length, within
from semipose.pose.skeleton import PRESETS

NAN = np.nan


def test_distance_is_in_pixels_nan_where_unlabeled_and_infinite_where_the_prediction_is_broken():
    predicted = [[[3, 4], [NAN, 0], [NAN, 0], [1, 1]]]
    found = distances(predicted, np.zeros((1, 4, 2)), [[1, 2, 0, 0]])
    np.testing.assert_array_equal(found, [[5, np.inf, NAN, NAN]])


@pytest.mark.parametrize(
    ("apart", "correct", "remark"),
    [
        (9.999, 1, "closer than a tenth of 100"),
        (10.0, 0, "exactly the threshold is too far"),
        (np.inf, 0, "a broken prediction is wrong, not uncounted"),
        (NAN, NAN, "not labeled is not counted"),
    ],
)
def test_a_point_within_reach_is_strictly_closer(apart, correct, remark):
    np.testing.assert_array_equal(within(np.array([[apart]]), np.array([100.0]), 0.1), [[correct]], remark)


def test_pck_is_a_percentage_of_the_labeled_and_nan_for_a_keypoint_without_any():
    apart = np.array([[1, 50, NAN], [1, NAN, NAN], [50, 1, NAN], [1, 1, NAN]])
    np.testing.assert_allclose(pck(apart, np.array([100, 100, 100, NAN]), 0.1), [200 / 3, 50, NAN])


def test_boxes_count_by_their_longer_side():
    np.testing.assert_array_equal(box_side([[5, 5, 30, 40], [0, 0, 7, 2], [1, 1, 0, 0]]), [40, 7, NAN])


def test_heads_count_by_six_tenths_of_the_diagonal():
    np.testing.assert_allclose(head_size([[[10, 10], [13, 14]]]), [3.0])


@pytest.mark.parametrize(
    ("unlabeled", "length", "remark"),
    [
        ((), 5.0, "left shoulder to right hip"),
        (("right_shoulder",), 5.0, "the other diagonal is not needed"),
        (("left_shoulder",), 13.0, "right shoulder to left hip stands in"),
        (("right_hip",), 13.0, "right shoulder to left hip stands in"),
        (("right_hip", "left_hip"), NAN, "no hips"),
        (("left_shoulder", "left_hip"), NAN, "one point of each diagonal is not enough"),
    ],
)
def test_the_torso_is_the_first_diagonal_with_both_points(unlabeled, length, remark):
    skeleton = PRESETS["coco_17"]
    at = {name: k for k, name in enumerate(skeleton.keypoints)}
    points, visible = np.zeros((1, 17, 2)), np.full((1, 17), 2)
    points[0, at["right_hip"]], points[0, at["left_hip"]] = (3, 4), (5, 12)
    visible[0, [at[name] for name in unlabeled]] = 0
    np.testing.assert_array_equal(torso_length(points, visible, skeleton.torso), [length], remark)


def test_a_torso_of_no_length_is_no_torso():
    skeleton = PRESETS["coco_17"]
    assert np.isnan(torso_length(np.zeros((2, 17, 2)), np.ones((2, 17)), skeleton.torso)).all()
    assert np.isnan(torso_length(np.ones((2, 3, 2)), np.ones((2, 3)), ())).all()
