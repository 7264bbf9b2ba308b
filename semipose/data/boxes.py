"""Boxes of people (x, y, w, h in image pixels): from labels, from a detector's json, or the whole image."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError

HULL_MARGIN = 0.12
"""The hull of the labeled keypoints grows by this share of its longer side on every side."""
LEAST_SCORE = 0.5
"""Detections scored below this are nobody: training on them would train on background."""
LEAST_OVERLAP = 0.3
"""A detection belongs to a labeled person when their boxes' intersection over union reaches this."""
AREA_SHARE = 0.53
"""Where no area is given, it is this share of the box: the mean over COCO's people, also CrowdPose's rule."""

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


class _Detection(msgspec.Struct, gc=False):
    bbox: tuple[float, float, float, float]
    image_id: int | str | None = None
    file_name: str | None = None
    score: float = 1.0
    category_id: int | None = None


@dataclass
class Detections:
    """A detector's boxes (D, 4), scores (D,) and category ids (D,), found by image id or file name."""

    boxes: Boxes
    scores: NDArray[np.float32]
    categories: NDArray[np.int64]
    rows: dict[int | str, list[int]]
    path: str

    def of(self, *keys: int | str) -> NDArray[np.int64]:
        """Positions of the boxes of the image known by any of `keys`, the surest first."""
        found = next((self.rows[key] for key in keys if key in self.rows), [])
        return np.array(sorted(found, key=lambda row: -float(self.scores[row])), np.int64)

    def only(self, keep: NDArray[np.bool_]) -> "Detections":
        """Those where `keep` (D,) is true."""
        rows = {key: kept for key, at in self.rows.items() if (kept := [row for row in at if keep[row]])}
        return Detections(self.boxes, self.scores, self.categories, rows, self.path)


def load_detections(path: str | Path, categories: frozenset[int] = frozenset()) -> Detections:
    """Read COCO results: [{"image_id" or "file_name", "bbox", "score", "category_id"}, ...].

    Boxes without area are left out. Where the file holds several category ids, those of `categories` are kept.
    """
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=list[_Detection])
    except OSError as error:
        raise DataError(f"{path}: the detections cannot be read ({error.strerror}). Check --detections.") from error
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path}: no COCO detections: {error}. Expected a list of objects with image_id (or file_name), "
            "bbox [x, y, w, h] and score."
        ) from error
    rows: dict[int | str, list[int]] = defaultdict(list)
    for row, one in enumerate(found):
        key = one.image_id if one.image_id is not None else one.file_name
        if key is None:
            raise DataError(f"{path}: detection {row} has neither image_id nor file_name; expected one of them.")
        rows[key].append(row)
    boxes = np.array([one.bbox for one in found], np.float32).reshape(-1, 4)
    kinds = np.array([-1 if one.category_id is None else one.category_id for one in found], np.int64)
    keep: NDArray[np.bool_] = np.all(np.isfinite(boxes) & (boxes[:, [2, 3, 2, 3]] > 0), axis=1)
    if len(np.unique(kinds)) > 1:
        keep = keep & np.isin(kinds, list(categories))
    scores = np.array([one.score for one in found], np.float32)
    detections = Detections(boxes, scores, kinds, dict(rows), str(path)).only(keep)
    if not detections.rows:
        raise DataError(
            f"{path}: none of its {len(found)} detections is usable; expected boxes with an area, of category "
            f"{', '.join(map(str, sorted(categories))) or 'any'} (found: {', '.join(map(str, np.unique(kinds)))})."
        )
    return detections


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
