"""Pictures of several people: repeatable, from apart to crowded, with occlusion between people."""

import json
from pathlib import Path

import numpy as np
import pytest

from semipose.errors import UsageError
from semipose.formats.load import load
from semipose.pose.crowding import crowd_index, crowding_classes
from semipose.pose.skeleton import Skeleton
from semipose.synthetic.crowd import EIGHT_KEYPOINTS, crowding, draw_crowd, reduced_skeleton, write_crowds


def test_a_crowd_depends_on_seed_and_index_alone() -> None:
    first, again = draw_crowd(2, 7), draw_crowd(2, 7)
    assert np.array_equal(first.image, again.image)
    assert first.image.shape == (128, 128, 3)
    assert len(first.people) == len(again.people) >= 2
    assert not np.array_equal(first.image, draw_crowd(3, 7).image)
    assert len(draw_crowd(0, 0, people=(3, 3)).people) == 3


def test_crowds_spread_from_easy_to_hard_and_close_people_hide_each_other() -> None:
    crowds = [draw_crowd(0, index, (96, 96), 0.1) for index in range(40)]
    index = np.array([crowding(crowd.people) for crowd in crowds])
    shares = [float(rows.mean()) for rows in crowding_classes(index).values()]
    assert min(shares) > 0.15
    hidden = [np.mean([(one.visible == 1).mean() for one in crowd.people]) for crowd in crowds]
    assert np.mean(np.array(hidden)[index > 0.8]) > 1.5 * np.mean(np.array(hidden)[index < 0.2])


def test_keypoints_behind_nearer_people_are_hidden() -> None:
    together = draw_crowd(0, 3, people=(6, 6)).people
    seen = [(one.visible == 2).mean() for one in together]
    assert seen[-1] > 0.8
    assert min(seen) < 0.3


def test_written_crowds_are_read_back_with_their_index(tmp_path: Path) -> None:
    labels = write_crowds(tmp_path, 6, seed=1, first_index=10)
    value = json.loads(labels.read_text())
    data = load(labels, tmp_path / "images", whole_images=True)
    everybody = data.labeled
    assert everybody.images.ids.tolist() == list(range(11, 17))
    assert len(everybody) == len(value["annotations"]) > 12
    assert data.skeleton.keypoints == EIGHT_KEYPOINTS
    assert data.skeleton.sigmas == reduced_skeleton(EIGHT_KEYPOINTS).sigmas
    stored = [extra["crowdIndex"] for extra in everybody.images.extra]
    computed = crowd_index(everybody.poses, everybody.images.ids)
    np.testing.assert_allclose(stored, computed, atol=1e-3)


def test_a_reduced_skeleton_keeps_partners_and_joins_what_is_left() -> None:
    found = reduced_skeleton(EIGHT_KEYPOINTS)
    names = found.keypoints
    assert [names[partner] for partner in found.flip] == [
        "left_ankle",
        "left_hip",
        "right_hip",
        "right_ankle",
        "left_wrist",
        "right_wrist",
        "neck",
        "head_top",
    ]
    bones = {(names[a], names[b]) for a, b in found.bones}
    assert bones == {
        ("right_ankle", "right_hip"),
        ("right_hip", "neck"),
        ("left_hip", "neck"),
        ("left_ankle", "left_hip"),
        ("right_wrist", "neck"),
        ("left_wrist", "neck"),
        ("head_top", "neck"),
    }
    assert reduced_skeleton(["left_hip", "neck"]).flip == (0, 1)
    assert isinstance(found, Skeleton)


@pytest.mark.parametrize(
    ("names", "people"),
    [
        (["neck"], (2, 8)),
        (["neck", "neck"], (2, 8)),
        (["neck", "nose"], (2, 8)),
        (EIGHT_KEYPOINTS, (0, 4)),
        (EIGHT_KEYPOINTS, (5, 4)),
    ],
)
def test_wrong_usage_is_refused(tmp_path: Path, names: list[str], people: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="expected"):
        write_crowds(tmp_path, 1, seed=0, keypoints=names, people=people)
