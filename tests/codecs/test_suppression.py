"""People found twice: published example, and equal to going through them one after the other."""

import numpy as np
import pytest
import torch

from semipose.codecs.suppression import near_poses, oks_between, survivors
from semipose.metrics.oks import oks
from tests.codecs import plain


def test_of_two_poses_a_pixel_apart_the_higher_one_stays_and_a_far_one_too() -> None:
    random = torch.Generator().manual_seed(0)
    pose = torch.rand(17, 2, generator=random) * 100
    pose[:2] = torch.tensor([[0.0, 0.0], [100.0, 83.0]])
    poses = torch.stack([pose, pose + 1, pose + 50])[None]
    stays = survivors(near_poses(poses, 0.05), torch.tensor([[0.5, 0.9, 0.4]]), 3)
    assert stays.tolist() == [[False, True, True]]


def test_half_of_the_keypoints_are_not_enough_for_the_same_person() -> None:
    pose = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 100.0]])
    for moved, same in ((2, False), (1, True)):
        other = pose.clone()
        other[:moved] += 40
        assert bool(near_poses(torch.stack([pose, other])[None], 0.05)[0, 0, 1]) is same


def test_the_one_who_stays_says_how_near_is_the_same() -> None:
    """A small pose within a large one's reach; not the other way round."""
    small = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0]])
    large = torch.tensor([[0.0, 0.0], [5.0, 3.0], [3.0, 5.0], [100.0, 100.0]])
    assert near_poses(torch.stack([small, large])[None], 0.05)[0].tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize("seed", range(5))
def test_all_at_once_equals_one_after_the_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    same, score = random.random((4, 12, 12)) < 0.3, random.integers(0, 6, (4, 12)) / 6
    stays = survivors(torch.from_numpy(same), torch.from_numpy(score), 12)
    few = survivors(torch.from_numpy(same), torch.from_numpy(score), 3)
    assert not (few & ~stays).any()
    for image in range(4):
        assert stays[image].nonzero().flatten().tolist() == plain.suppressed(same[image], score[image])


def test_similarity_is_oks_with_the_mean_of_both_extents() -> None:
    random = np.random.default_rng(0)
    one, sigmas = random.random((6, 2)) * 50, (0.05, 0.1, 0.07, 0.08, 0.05, 0.1)
    other = one + random.normal(0, 3, one.shape)
    areas = [np.prod(np.ptp(each, 0)) for each in (one, other)]
    expected = oks(one[None], other[None], np.ones((1, 6)), sigmas, [np.mean(areas)])
    found = oks_between(torch.from_numpy(np.stack([one, other]))[None].float(), sigmas)
    np.testing.assert_allclose(found[0, 0, 1], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[0, [0, 1], [0, 1]], 1)
