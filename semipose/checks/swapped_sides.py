"""Which people's left and right may have been exchanged by whoever labeled them: two cheap geometric rules."""

import numpy as np
from numpy.typing import NDArray

from semipose.pose.skeleton import Skeleton

Flags = NDArray[np.bool_]

CROSSED = 0.5
"""Two limbs are suspicious when exchanging one end of each makes them shorter together by this factor..."""
STRETCHED = 1.1
"""... and they are longer than usual for the person's size by this one.

On LSPET and COCO people the two flag 0.2 and 0.6 % of the labels as they are, and a third of those whose wrists or
elbows were exchanged on purpose.
"""
AGREEING = 0.95
"""A side is known from the others when at least this share of people, and `WITNESSES` of them, agree on it."""
WITNESSES = 20


def swapped_sides(xy: NDArray[np.float32], visible: NDArray[np.uint8], skeleton: Skeleton) -> Flags:
    """(N,) true where left and right look exchanged, in `xy` (N, K, 2) with `visible` (N, K).

    First rule: of two partner limbs (left and right forearm) the labeled ones are unusually long, and elbows with
    each other's wrists would be much shorter. Second rule: seen along a line between two keypoints of the middle, left
    lies on the same side for nearly everybody, as in pictures from above, but not for this one.
    """
    return _crossed_limbs(xy, visible, skeleton) | _wrong_side(xy, visible, skeleton)


def _crossed_limbs(xy: NDArray[np.float32], visible: NDArray[np.uint8], skeleton: Skeleton) -> Flags:
    flagged = np.zeros(len(xy), bool)
    flip = skeleton.flip
    # The spread of a person's labeled points stands for size: boxes may come from anywhere.
    seen = np.where((visible > 0)[..., None], xy, np.nan)
    with np.errstate(all="ignore"):
        size = np.fmax.reduce(np.fmax.reduce(seen, 1) - np.fmin.reduce(seen, 1), 1)
    for a, b in skeleton.bones:
        if flip[a] == a or flip[b] == b or flip[a] == b or a > flip[a]:
            continue
        known = (visible[:, [a, b, flip[a], flip[b]]] > 0).all(1) & (size > 0)
        straight = _length(xy, a, b) + _length(xy, flip[a], flip[b])
        crossed = _length(xy, a, flip[b]) + _length(xy, flip[a], b)
        if not known.any():
            continue
        relative = straight / np.where(known, size, 1)
        usual = np.median(relative[known])
        flagged |= known & (crossed < CROSSED * straight) & (relative > STRETCHED * usual)
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
    """Where b lies on the other side of a, seen along n to m, than for nearly everybody."""
    along, across = xy[:, m] - xy[:, n], xy[:, b] - xy[:, a]
    cross = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    product = np.linalg.norm(along, axis=1) * np.linalg.norm(across, axis=1)
    # Nearly parallel lines say nothing about sides.
    clear = (visible[:, [m, n, a, b]] > 0).all(1) & (np.abs(cross) > 0.3 * product) & (product > 0)
    positive = int((clear & (cross > 0)).sum())
    total = int(clear.sum())
    if total < WITNESSES or max(positive, total - positive) < AGREEING * total:
        return np.zeros(len(xy), bool)
    return clear & ((cross > 0) != (positive * 2 > total))


def _length(xy: NDArray[np.float32], a: int, b: int) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.linalg.norm(xy[:, a] - xy[:, b], axis=1)
    return length
