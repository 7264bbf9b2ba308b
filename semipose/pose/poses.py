"""Poses of people in images: NumPy arrays with one row a person, in image pixels; COCO results json out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError

RESCORE_THRESHOLD = 0.2
"""Keypoints scored above this make a person's score: the customary rescoring of top-down networks."""

AREA_SHARE = 0.53
"""A person's area as a share of the box, for OKS where no area is given: COCO's mean, and CrowdPose's rule."""

# Shape behind the number of people, and type, of every array of `Poses`; "K" is the number of keypoints.
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
    """N people with K keypoints each; arrays are converted to the types below and their shapes checked.

    `keypoints` (N, K, 2) x, y and `boxes` (N, 4) x, y, width, height in image pixels, a pixel's center at integer
    coordinates; `scores` (N, K) and `box_scores` (N,) in 0..1; `visible` (N, K) 0 unlabeled, 1 occluded, 2 visible;
    `areas` (N,) in square pixels, as OKS uses them; `crowd` (N,) bool; `image_ids`, `ids` (N,) of the json.

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
                    f"Poses: {name} have shape {array.shape}; expected {expected} "
                    f"beside keypoints of shape {shape} (N people, K keypoints, x and y)."
                )
            setattr(self, name, array)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: "slice | NDArray[Any] | Sequence[int]") -> "Poses":
        """The people of `rows`: a slice, integer positions or a boolean mask."""
        if isinstance(rows, int | np.integer):
            raise TypeError("Poses are taken by slice, integer array or mask; for one person use poses[i : i + 1]")
        at = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64 if len(rows) == 0 else None)
        return Poses(**{field.name: getattr(self, field.name)[at] for field in fields(self)})

    def confident(self) -> "Poses":
        """The people scored above `RESCORE_THRESHOLD`: what a detector-free network is sure enough of to show."""
        return self[self.box_scores > RESCORE_THRESHOLD]

    @classmethod
    def empty(cls, keypoints: int) -> "Poses":
        """No people, of a skeleton with `keypoints` keypoints."""
        return cls.blank(0, keypoints)

    @classmethod
    def blank(cls, people: int, keypoints: int) -> "Poses":
        """`people` rows of zeros with box scores of 1: to be filled in."""
        shapes = {
            name: (people, *(keypoints if size == "K" else int(size) for size in layout))
            for name, (layout, _) in _LAYOUT.items()
        }
        arrays: dict[str, Any] = {name: np.zeros(shapes[name], kind) for name, (_, kind) in _LAYOUT.items()}
        arrays["box_scores"] += 1
        return cls(**arrays)

    @classmethod
    def concatenate(cls, parts: "Sequence[Poses]") -> "Poses":
        """One after the other; at least one part, all with the same number of keypoints."""
        counts = {part.keypoints.shape[1] for part in parts}
        if len(counts) != 1:
            raise DataError(f"Poses: parts with {sorted(counts)} keypoints cannot be joined; expected one number.")
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def to_coco_results(self, category_id: int = 1, rescored: bool = True) -> list[dict[str, Any]]:
        """COCO keypoint results: x, y, score flat; a person's score is the mean of the keypoint scores above
        `RESCORE_THRESHOLD` (0 when there is none) times the box score, or not `rescored` the latter alone."""
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
