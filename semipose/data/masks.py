"""Decode COCO segmentations: polygons, or run lengths, compressed or not.

Only regions to be ignored are decoded. Files may be malformed or hostile, so every number is checked before it is used.
faster_coco_eval decodes the same run lengths, but accepts some malformed ones, such as negative runs.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

# Pixels of a mask: a file must not be able to demand all memory.
_MAX_PIXELS = 2**28
# Characters of one compressed number: enough for 32 bits.
_MAX_CHARACTERS = 7
# OpenCV's arithmetic overflows with larger coordinates.
_MAX_COORDINATE = 30_000


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


@dataclass(frozen=True)
class Outline:
    """A region: `polygons`, each (P, 2) x, y in pixels; or `runs` (R,) of a mask of `size` (H, W).

    Runs are lengths in pixels, outside and inside in turn. They go down the columns, from left to right, and fill the
    mask.
    """

    polygons: tuple[NDArray[np.float64], ...] = ()
    runs: NDArray[np.int64] | None = None
    size: tuple[int, int] = (0, 0)

    def tobytes(self) -> bytes:
        """Return all numbers as bytes, for hashing."""
        parts = [*self.polygons, *([] if self.runs is None else [self.runs])]
        return b"".join(part.tobytes() for part in parts)

    def fill(self, mask: NDArray[np.uint8], value: int) -> None:
        """Set `mask` (H, W) to `value` inside the outline; raises ValueError for a mask of another size."""
        import cv2  # slow to load, and few files have regions to ignore

        for polygon in self.polygons:
            points = np.rint(polygon.clip(-_MAX_COORDINATE, _MAX_COORDINATE)).astype(np.int32)
            # One by one: filled together, the overlap of two polygons would be a hole.
            cv2.fillPoly(mask, [points], [value])
        if self.runs is None:
            return
        if self.size != mask.shape:
            raise ValueError(f"'segmentation' is of {_shape(self.size)}, the picture of {_shape(mask.shape)} pixels")
        inside = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        mask[inside.reshape(mask.shape[::-1]).T] = value


def read_outline(text: bytes) -> Outline | None:
    """Decode a segmentation from its json `text`, None for an empty one; raises ValueError with the reason."""
    try:
        found = msgspec.json.decode(text, type=list[list[float]] | _Runs)
        if isinstance(found, _Runs):
            return _of_runs(found)
    except (msgspec.MsgspecError, OverflowError) as error:
        raise ValueError(f"'segmentation' is neither polygons nor run lengths ({error})") from error
    polygons = tuple(np.array(numbers, np.float64) for numbers in found)
    for number, polygon in enumerate(polygons):
        if len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all():
            raise ValueError(
                f"'segmentation'[{number}] holds {len(polygon)} numbers; expected x and y of 3 or more points, finite"
            )
    return Outline(tuple(polygon.reshape(-1, 2) for polygon in polygons)) if polygons else None


def _of_runs(found: _Runs) -> Outline:
    height, width = found.size
    if min(height, width) <= 0 or height * width > _MAX_PIXELS:
        raise ValueError(f"'segmentation' is of {_shape(found.size)} pixels; expected the picture's height and width")
    runs = np.array(found.counts, np.int64) if isinstance(found.counts, list) else decompress(found.counts)
    # Each is compared first: a sum of large numbers could overflow to the right one.
    fits = bool(((runs >= 0) & (runs <= height * width)).all()) and int(runs.sum()) == height * width
    if not fits:
        raise ValueError(f"'segmentation' has counts that do not fill its {_shape(found.size)} pixels")
    return Outline(runs=runs, size=(height, width))


def decompress(text: str) -> NDArray[np.int64]:
    """Decode COCO's compressed run lengths; raises ValueError for any other text.

    Each character holds five bits of a number. From the fourth number on, it is the difference to the last but one.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    sound = len(last) > 0 and bool(((codes >= 0) & (codes < 64)).all()) and last[-1] == len(codes) - 1
    if not sound or lengths.max() > _MAX_CHARACTERS:
        raise ValueError("'segmentation' has counts that are not run lengths in COCO's compression")
    position = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * position), starts)
    # The highest bit of a number is its sign.
    runs -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _shape(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
