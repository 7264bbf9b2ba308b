"""Boxes of people (x, y, w, h in image pixels): from labels, from a detector's json, or the whole image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.pose.poses import AREA_SHARE

HULL_MARGIN = 0.12
"""The hull of the labeled keypoints grows by this share of its longer side on every side."""
LEAST_SCORE = 0.5
"""Detections scored below this are nobody: training on them would train on background."""
LEAST_OVERLAP = 0.3
"""A detection belongs to a labeled person when their boxes' intersection over union reaches this."""


SOURCES = ("given", "detections", "keypoints", "image")
"""Where a box can come from; a number of a row is the position here."""
GIVEN, DETECTIONS, KEYPOINTS, IMAGE = range(4)

Boxes = NDArray[np.float32]


def keypoint_hulls(keypoints: NDArray[Any], visible: NDArray[Any]) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes (N, 4) around the labeled keypoints (N, K, 2), enlarged by `HULL_MARGIN`; and where that is possible.

    It is not where fewer than two labeled keypoints differ: one point does not tell how large a person is.
    """
    labeled = (visible > 0)[..., None]
    low = np.where(labeled, keypoints, np.inf).min(1, initial=np.inf)
    high = np.where(labeled, keypoints, -np.inf).max(1, initial=-np.inf)
    known = ((high - low) > 0).any(1)
    low, high = np.where(known[:, None], low, 0), np.where(known[:, None], high, 0)
    margin = HULL_MARGIN * (high - low).max(1, keepdims=True)
    boxes = np.concatenate([low - margin, high - low + 2 * margin], 1)
    return boxes.astype(np.float32), known


def whole_images(sizes: NDArray[np.int64]) -> Boxes:
    """Boxes (I, 4) of images of `sizes` (I, 2) as (H, W)."""
    boxes = np.zeros((len(sizes), 4), np.float32)
    boxes[:, 2], boxes[:, 3] = sizes[:, 1], sizes[:, 0]
    return boxes


def box_areas(boxes: Boxes) -> NDArray[np.float32]:
    """Areas (N,) in square pixels as OKS takes them, guessed from boxes."""
    return boxes[:, 2] * boxes[:, 3] * np.float32(AREA_SHARE)


def describe(sources: NDArray[Any]) -> str:
    """`People.box_source` of rows with these positions in `SOURCES`, the most frequent first."""
    counts = np.bincount(sources, minlength=len(SOURCES))
    order = sorted(range(len(SOURCES)), key=lambda i: -int(counts[i]))
    return ",".join(SOURCES[i] for i in order if counts[i])


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union (A, B) of boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - shared
    ratio: Boxes = shared / np.maximum(union, 1e-9)
    return ratio


def match(people: Boxes, detected: Boxes) -> NDArray[np.int64]:
    """For every person (P, 4) the position of its detection (D, 4), -1 for none; each is used once, best first."""
    chosen = np.full(len(people), -1)
    if len(people) == 0 or len(detected) == 0:
        return chosen
    table = overlaps(people, detected)
    for _ in range(min(table.shape)):
        person, box = np.unravel_index(int(table.argmax()), table.shape)
        if table[person, box] < LEAST_OVERLAP:
            break
        chosen[person] = box
        table[person], table[:, box] = -1, -1
    return chosen
