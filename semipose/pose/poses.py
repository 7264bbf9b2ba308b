"""Poses of people in images: NumPy arrays with one row per person, in image pixels, and their COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError

RESCORE_THRESHOLD = 0.2
"""Only keypoints scored above this count in a person's score, as is usual for top-down networks."""

AREA_SHARE = 0.53
"""A person's area as a share of the box, for OKS where no area is given: COCO's mean, and CrowdPose's rule."""

# Shape (after the number of people) and type of every array of `Poses`; "K" is the number of keypoints.
_LAYOUT: dict[str, tuple[tuple[int | str, ...], type]] = {
    "keypoints": (("K", 2), np.float32),
    "scores": (("K",), np.float32),
    "visible": (("K",), np.uint8),
    "boxes": ((4,), np.float32),
    "image_ids": ((), np.int64),
    "ids": ((), np.int64),
    "areas": ((), np.float32),
    "crowd": ((), np.bool_),
    "box_scores": ((), np.float32),
}


@dataclass
class Poses:
    """N people with K keypoints each. Arrays are converted to their types, and their shapes are checked.

    - `keypoints` (N, K, 2): x, y in image pixels; a pixel's center has integer coordinates
    - `boxes` (N, 4): x, y, width, height in image pixels
    - `scores` (N, K), `box_scores` (N,): 0..1
    - `visible` (N, K): 0 unlabeled, 1 occluded, 2 visible
    - `areas` (N,): square pixels, as OKS uses them
    - `crowd` (N,): bool
    - `image_ids`, `ids` (N,): as in the json

    >>> Poses.empty(17).keypoints.shape
    (0, 17, 2)
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    visible: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    image_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowd: NDArray[np.bool_]
    box_scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = np.shape(self.keypoints)
        if len(shape) != 3:
            raise DataError(f"Poses: keypoints have shape {shape}; expected (N, K, 2).")
        for name, (layout, kind) in _LAYOUT.items():
            array: NDArray[Any] = np.asarray(getattr(self, name), dtype=kind)
            expected = (shape[0], *(shape[1] if size == "K" else size for size in layout))
            if array.shape != expected:
                raise DataError(
                    f"Poses: {name} has shape {array.shape}; expected {expected} "
                    f"for keypoints of shape {shape} (N people, K keypoints, x and y)."
                )
            setattr(self, name, array)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: "slice | NDArray[Any] | Sequence[int]") -> "Poses":
        """Select people by a slice, integer positions or a boolean mask."""
        if isinstance(rows, int | np.integer):
            raise TypeError("index Poses by a slice, an integer array or a mask; for one person use poses[i : i + 1]")
        index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64 if len(rows) == 0 else None)
        return Poses(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def confident(self) -> "Poses":
        """Select the people scored above `RESCORE_THRESHOLD`: the detections worth showing."""
        return self[self.box_scores > RESCORE_THRESHOLD]

    @classmethod
    def empty(cls, keypoints: int) -> "Poses":
        """Make poses of no people, with `keypoints` keypoints."""
        return cls.blank(0, keypoints)

    @classmethod
    def blank(cls, people: int, keypoints: int) -> "Poses":
        """Make `people` rows of zeros to fill in, with box scores of 1."""
        shapes = {
            name: (people, *(keypoints if size == "K" else int(size) for size in layout))
            for name, (layout, _) in _LAYOUT.items()
        }
        arrays: dict[str, Any] = {name: np.zeros(shapes[name], kind) for name, (_, kind) in _LAYOUT.items()}
        arrays["box_scores"] += 1
        return cls(**arrays)

    @classmethod
    def concatenate(cls, parts: "Sequence[Poses]") -> "Poses":
        """Join at least one part; all must have the same number of keypoints."""
        counts = {part.keypoints.shape[1] for part in parts}
        if len(counts) != 1:
            raise DataError(
                f"Poses: parts with {sorted(counts)} keypoints cannot be joined; expected parts of one skeleton."
            )
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def to_coco_results(self, category_id: int = 1, rescored: bool = True) -> list[dict[str, Any]]:
        """Return COCO keypoint results, with keypoints as a flat list of x, y, score.

        A person's score is the box score times the mean of the keypoint scores above `RESCORE_THRESHOLD` (0 where there
        is none). With `rescored` False it is the box score alone.
        """
        counted = self.scores > RESCORE_THRESHOLD
        total = np.where(counted, self.scores, 0).sum(1, dtype=np.float64)
        person = total / np.maximum(counted.sum(1), 1) * self.box_scores if rescored else self.box_scores
        flat = np.concatenate([self.keypoints, self.scores[..., None]], 2).reshape(
            len(self), 3 * self.keypoints.shape[1]
        )
        rows = zip(self.image_ids.tolist(), flat.tolist(), person.tolist(), self.boxes.tolist(), strict=True)
        return [
            {
                "image_id": image,
                "category_id": category_id,
                "keypoints": keypoints,
                "score": score,
                "bbox": box,
            }
            for image, keypoints, score, box in rows
        ]
