"""Predicted and true keypoints in, distances and shares within reach out; a keypoint that is not labeled is
NaN.

Percentages run from 0 to 100. A point counts as correct when its distance is strictly smaller than the
threshold.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def distances(predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike) -> Floats:
    """Distance of every predicted keypoint from the true one, in pixels of the image.

    `predicted` and `truth` (N, K, 2) in image pixels, `visible` (N, K), where 0 means not labeled.
    Returns (N, K): NaN where not labeled, infinity where a labeled point was predicted as NaN or infinity.
    """
    found, there = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    apart = np.hypot(found[..., 0] - there[..., 0], found[..., 1] - there[..., 1])
    # A broken prediction is wrong; as NaN it would drop out of the mean and look like a better network.
    return np.where(np.asarray(visible) > 0, np.where(np.isfinite(apart), apart, np.inf), np.nan)


def box_side(boxes: ArrayLike) -> Floats:
    """Longer side (N,) of `boxes` (N, 4), x, y, w, h, in their pixels; NaN for a box without extent."""
    side = np.asarray(boxes, dtype=np.float64)[:, 2:].max(axis=1)
    return np.where(side > 0, side, np.nan)


def torso_length(truth: ArrayLike, visible: ArrayLike, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Length (N,) of each person's torso in pixels, NaN where no pair has both its points labeled.

    `truth` (N, K, 2), `visible` (N, K); `pairs` as in `Skeleton.torso`: the first pair of which both points
    are labeled and apart from each other counts.
    """
    points, labeled = np.asarray(truth, dtype=np.float64), np.asarray(visible) > 0
    length = np.full(len(points), np.nan)
    for a, b in pairs:
        span = np.hypot(*(points[:, a] - points[:, b]).T)
        usable = labeled[:, a] & labeled[:, b] & (span > 0)
        length = np.where(np.isnan(length) & usable, span, length)
    return length


def head_size(head_boxes: ArrayLike) -> Floats:
    """MPII's head length (N,): 0.6 x the diagonal of `head_boxes` (N, 2, 2), opposite corners in pixels."""
    corners = np.asarray(head_boxes, dtype=np.float64)
    return 0.6 * np.hypot(*(corners[:, 1] - corners[:, 0]).T)


def within(apart: Floats, lengths: Floats, fraction: float) -> Floats:
    """1 where `apart` (N, K) < `fraction` x `lengths` (N,), else 0; NaN where a point or its length is
    unknown.
    """
    reach = fraction * lengths[:, None]
    return np.where(np.isnan(apart) | np.isnan(reach), np.nan, apart < reach)


def pck(apart: Floats, lengths: Floats, fraction: float) -> Floats:
    """Percentage of correct keypoints (K,), 0..100, NaN for a keypoint that nobody has labeled.

    `apart` (N, K) from `distances`; `lengths` (N,) is what normalizes, in the same pixels: `box_side` for PCK
    by box, `torso_length` for PCK by torso, `head_size` for PCKh; people whose length is NaN are left out.
    """
    correct = within(apart, lengths, fraction)
    counted = ~np.isnan(correct)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * np.where(counted, correct, 0).sum(0) / counted.sum(0))
