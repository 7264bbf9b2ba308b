"""Pose non-maximum suppression: remove duplicate detections of one person. Batched, on the device."""

import torch
from torch import Tensor

from semipose.geometry import constant

# Rounds of suppression in a training step: longer chains of duplicates are rare.
TRAINING_ROUNDS = 5


def survivors(same: Tensor, score: Tensor, rounds: int) -> Tensor:
    """(B, M) bool: the people that greedy suppression keeps, each unless a better duplicate is kept.

    `same[b, i, j]` (B, M, M) bool says that i and j are one person; `score` (B, M) is 0 for padding. All people are
    updated at once, `rounds` times. This is exact where no chain of duplicates is longer, so M rounds are always
    enough. After fewer rounds, an odd number, all people kept are right, and some may be missing.
    """
    suppresses, detected = same & better(score), score > 0
    kept = detected
    for _ in range(rounds):
        kept = detected & ~(suppresses & kept[:, None]).any(-1)
    return kept


def better(score: Tensor) -> Tensor:
    """(B, M, M) bool: `score` (B, M) of j is higher than that of i, or the same and j comes first."""
    one, other = score[:, :, None], score[:, None]
    return (other > one) | (other == one).tril(-1)


def near_poses(keypoints: Tensor, share: float) -> Tensor:
    """(B, M, M) bool: more than half of the keypoints of i are within `share` of pose j's diagonal from those of j.

    `keypoints` (B, M, K, 2). DEKR's rule: 8 of 17 or 7 of 14 are not yet enough.
    """
    each = keypoints.transpose(1, 2)
    limit = share * (keypoints.amax(2) - keypoints.amin(2)).norm(dim=-1)
    return (distances(each, each) < limit[:, None, None]).sum(1) > keypoints.shape[2] // 2


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Distances (..., n, m) of points `one` (..., n, d) from points `other` (..., m, d), exact for any number."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def oks_between(keypoints: Tensor, sigmas: tuple[float, ...]) -> Tensor:
    """OKS (B, M, M) of all pairs of people of an image, `keypoints` (B, M, K, 2) in pixels.

    The area of a pair is the mean area of their keypoints' boxes, as in public code.
    """
    area = (keypoints.amax(2) - keypoints.amin(2)).prod(-1)
    area = (area[:, :, None] + area[:, None]).clamp_min(2e-6)
    each = keypoints.transpose(1, 2)
    # Half of -8 sigma^2, as the area is the sum of two instead of their mean.
    variance = constant(tuple(((-4 * sigma**2,),) for sigma in sigmas), keypoints.device)
    return torch.exp(distances(each, each).square() / (variance * area[:, None])).mean(1)
