"""Flag people whose left and right labels may be swapped, by two geometric heuristics."""

import numpy as np
from numpy.typing import NDArray

from semipose.pose.skeleton import Skeleton

Flags = NDArray[np.bool_]

MAX_EXCHANGED_LENGTH = 0.5
"""Two limbs are suspicious if exchanging an end of each shortens them together to less than this share..."""
MIN_STRETCH = 1.1
"""... and if they are longer than usual, for the person's size, by this factor.

On LSPET and COCO people the two conditions flag 0.2 and 0.6 % of the original labels, and a third of the people whose
wrists or elbows were exchanged on purpose.
"""
MIN_AGREEMENT = 0.95
"""The usual side of a keypoint is known if this share of at least `MIN_PEOPLE` people agree on it."""
MIN_PEOPLE = 20
MIN_SINE = 0.3
"""Lines at a smaller angle are nearly parallel and do not show a side."""


def swapped_sides(xy: NDArray[np.float32], visible: NDArray[np.uint8], skeleton: Skeleton) -> Flags:
    """Flag people (N,) whose left and right look exchanged in keypoints `xy` (N, K, 2) with `visible` (N, K).

    Crossed limbs: both forearms are unusually long, and would be much shorter with their wrists exchanged. Wrong side:
    nearly all people, as in pictures from above, have left on the same side of a line between two middle keypoints.
    This person has not.
    """
    return _crossed_limbs(xy, visible, skeleton) | _wrong_side(xy, visible, skeleton)


def _crossed_limbs(xy: NDArray[np.float32], visible: NDArray[np.uint8], skeleton: Skeleton) -> Flags:
    flagged = np.zeros(len(xy), bool)
    flip = skeleton.flip
    # Size is the spread of a person's labeled points, as boxes may come from other sources.
    labeled = np.where((visible > 0)[..., None], xy, np.nan)
    with np.errstate(all="ignore"):
        size = np.fmax.reduce(np.fmax.reduce(labeled, 1) - np.fmin.reduce(labeled, 1), 1)
    for a, b in skeleton.bones:
        if flip[a] == a or flip[b] == b or flip[a] == b or a > flip[a]:
            continue
        known = (visible[:, [a, b, flip[a], flip[b]]] > 0).all(1) & (size > 0)
        as_labeled = _length(xy, a, b) + _length(xy, flip[a], flip[b])
        exchanged = _length(xy, a, flip[b]) + _length(xy, flip[a], b)
        if not known.any():
            continue
        relative = as_labeled / np.where(known, size, 1)
        usual = np.median(relative[known])
        flagged |= known & (exchanged < MAX_EXCHANGED_LENGTH * as_labeled) & (relative > MIN_STRETCH * usual)
    return flagged


def _wrong_side(xy: NDArray[np.float32], visible: NDArray[np.uint8], skeleton: Skeleton) -> Flags:
    flagged = np.zeros(len(xy), bool)
    middle = [k for k, partner in enumerate(skeleton.flip) if partner == k]
    pairs = [(k, partner) for k, partner in enumerate(skeleton.flip) if k < partner]
    for m in range(len(middle)):
        for n in range(m):
            for a, b in pairs:
                flagged |= _disagrees(xy, visible, middle[m], middle[n], a, b)
    return flagged


def _disagrees(xy: NDArray[np.float32], visible: NDArray[np.uint8], m: int, n: int, a: int, b: int) -> Flags:
    """Flag people (N,) with b on another side of a than nearly all others, along the line from n to m."""
    along, across = xy[:, m] - xy[:, n], xy[:, b] - xy[:, a]
    cross = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    product = np.linalg.norm(along, axis=1) * np.linalg.norm(across, axis=1)
    clear = (visible[:, [m, n, a, b]] > 0).all(1) & (np.abs(cross) > MIN_SINE * product) & (product > 0)
    positive = int((clear & (cross > 0)).sum())
    total = int(clear.sum())
    if total < MIN_PEOPLE or max(positive, total - positive) < MIN_AGREEMENT * total:
        return np.zeros(len(xy), bool)
    return clear & ((cross > 0) != (positive * 2 > total))


def _length(xy: NDArray[np.float32], a: int, b: int) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.linalg.norm(xy[:, a] - xy[:, b], axis=1)
    return length
