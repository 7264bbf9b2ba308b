"""CrowdPose's index of an image, and the classes made by it."""

import numpy as np
import pytest

from semipose.pose.crowding import crowd_index, crowding_classes
from semipose.pose.poses import Poses


def two() -> Poses:
    """Two people of whom each has a keypoint in the other's box."""
    people = Poses.blank(2, 4)
    people.keypoints[0] = [(1, 1), (5, 5), (9, 9), (8, 9)]
    people.visible[0] = [2, 1, 2, 0]
    people.keypoints[1] = [(8, 8), (15, 15), (12, 12), (18, 18)]
    people.visible[1] = 2
    people.boxes[:] = [(0, 0, 10, 10), (7, 7, 12, 12)]
    return people


def test_the_index_is_the_mean_share_of_others_keypoints_within_the_box():
    assert crowd_index(two(), [0]) == pytest.approx([(1 / 3 + 1 / 4) / 2])


def test_people_of_other_images_and_empty_images_do_not_count():
    apart = two()
    apart.image_ids[:] = [7, 5]
    np.testing.assert_array_equal(crowd_index(apart, [5, 6, 7]), [0, 0, 0])
    both = Poses.concatenate([two(), apart])
    np.testing.assert_allclose(crowd_index(both, [7, 0]), [0, 7 / 24])


def test_the_border_of_the_box_belongs_to_it():
    people = two()
    people.keypoints[1, 0] = (10, 10)
    assert crowd_index(people, [0]) == pytest.approx([7 / 24])
    people.keypoints[1, 0] = (10, 10.01)
    assert crowd_index(people, [0]) == pytest.approx([1 / 8])


def test_crowd_regions_and_people_without_labels_are_left_out():
    people = Poses.concatenate([two(), two(), two()])
    people.crowd[2:4], people.visible[4:] = True, 0
    assert crowd_index(people, [0]) == pytest.approx([7 / 24])


def test_classes_part_at_the_limits_and_leave_out_unknown_indices():
    index = np.array([0.0, 0.1, 0.19, 0.2, 0.79, 0.8, 3.0, np.nan])
    assert [of.sum() for of in crowding_classes(index).values()] == [3, 2, 2]
    assert [of.sum() for of in crowding_classes(index, (0.1, 0.8)).values()] == [1, 4, 2]
