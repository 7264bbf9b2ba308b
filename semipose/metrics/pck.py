"""Distances of predicted from true keypoints, and PCK: the share of keypoints closer than a threshold.

Unlabeled keypoints are NaN. Percentages are 0..100. A keypoint is correct when its distance is strictly below the
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
    offset = np.asarray(predicted, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    distance = np.hypot(offset[..., 0], offset[..., 1])
    # A NaN prediction counts as wrong; left as NaN it would drop out of the mean and flatter the network.
    return np.where(np.asarray(visible) > 0, np.where(np.isfinite(distance), distance, np.inf), np.nan)


def box_side(boxes: ArrayLike) -> Floats:
    """Longer side (N,) of `boxes` (N, 4), x, y, w, h, in their pixels; NaN for an empty box."""
    side = np.asarray(boxes, dtype=np.float64)[:, 2:].max(axis=1)
    return np.where(side > 0, side, np.nan)


def torso_length(truth: ArrayLike, visible: ArrayLike, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Length (N,) of each person's torso in pixels; NaN where no pair has both keypoints labeled.

    `truth` (N, K, 2), `visible` (N, K); `pairs` as in `Skeleton.torso`. Uses the first pair whose keypoints are both
    labeled and do not coincide.
    """
    points, labeled = np.asarray(truth, dtype=np.float64), np.asarray(visible) > 0
    length = np.full(len(points), np.nan)
    for a, b in pairs:
        span = np.hypot(*(points[:, a] - points[:, b]).T)
        usable = labeled[:, a] & labeled[:, b] & (span > 0)
        length = np.where(np.isnan(length) & usable, span, length)
    return length


def head_size(head_boxes: ArrayLike) -> Floats:
    """MPII's head length (N,) for PCKh: 0.6 x the diagonal of `head_boxes` (N, 2, 2), opposite corners in pixels."""
    corners = np.asarray(head_boxes, dtype=np.float64)
    return 0.6 * np.hypot(*(corners[:, 1] - corners[:, 0]).T)


def within(distance: Floats, lengths: Floats, fraction: float) -> Floats:
    """1 where `distance` (N, K) < `fraction` x `lengths` (N,), else 0; NaN where either is NaN."""
    threshold = fraction * lengths[:, None]
    return np.where(np.isnan(distance) | np.isnan(threshold), np.nan, distance < threshold)


def pck(distance: Floats, lengths: Floats, fraction: float) -> Floats:
    """Percentage of correct keypoints (K,), 0..100; NaN for a keypoint that no person has labeled.

    `distance` (N, K) from `distances`; `lengths` (N,), the reference, in the same pixels. That is `box_side` for PCK by
    box, `torso_length` for PCK by torso and `head_size` for PCKh. People whose length is NaN are left out.
    """
    correct = within(distance, lengths, fraction)
    counted = ~np.isnan(correct)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * np.where(counted, correct, 0).sum(0) / counted.sum(0))
