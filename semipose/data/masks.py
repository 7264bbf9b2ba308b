"""The outline of a person or a crowd as COCO writes it: polygons, or run lengths, compressed or not.

Read only of those who are to be ignored. Nothing in a file is trusted: what does not fit is refused with the reason.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

# A file must not ask for all memory: pixels of one outline's picture.
_LARGEST = 2**28
# Characters of one compressed number: enough for any number of 32 bits.
_LONGEST = 7
# Beyond it, OpenCV's arithmetic overflows.
_FAR = 30_000


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


@dataclass(frozen=True)
class Outline:
    """`polygons`, each (P, 2) x, y in pixels; or `runs` (R,) of a picture of `size` (H, W), outside and inside in turn.

    Runs go down the columns, from the left one to the right one, and fill the picture.
    """

    polygons: tuple[NDArray[np.float64], ...] = ()
    runs: NDArray[np.int64] | None = None
    size: tuple[int, int] = (0, 0)

    def tobytes(self) -> bytes:
        """All of its numbers."""
        parts = [*self.polygons, *([] if self.runs is None else [self.runs])]
        return b"".join(part.tobytes() for part in parts)

    def fill(self, mask: NDArray[np.uint8], value: int) -> None:
        """Write `value` where the outline is in `mask` (H, W); raises ValueError where that has another size."""
        import cv2  # slow to load, and few files have somebody to ignore

        for polygon in self.polygons:
            points = np.rint(polygon.clip(-_FAR, _FAR)).astype(np.int32)
            # One by one: together, what two polygons share would be a hole.
            cv2.fillPoly(mask, [points], [value])
        if self.runs is None:
            return
        if self.size != mask.shape:
            raise ValueError(f"'segmentation' is of {_shape(self.size)}, the picture of {_shape(mask.shape)} pixels")
        inside = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        mask[inside.reshape(mask.shape[::-1]).T] = value


def read_outline(text: bytes) -> Outline | None:
    """The outline in the json `text`, None for an empty one; raises ValueError with what is wrong with it."""
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
    if min(height, width) <= 0 or height * width > _LARGEST:
        raise ValueError(f"'segmentation' is of {_shape(found.size)} pixels; expected the picture's height and width")
    runs = np.array(found.counts, np.int64) if isinstance(found.counts, list) else decompressed(found.counts)
    # Compared one by one first: a sum of large numbers could come round to the right one.
    fits = bool(((runs >= 0) & (runs <= height * width)).all()) and int(runs.sum()) == height * width
    if not fits:
        raise ValueError(f"'segmentation' has counts that do not fill its {_shape(found.size)} pixels")
    return Outline(runs=runs, size=(height, width))


def decompressed(text: str) -> NDArray[np.int64]:
    """The run lengths in COCO's short text: five bits a character, and from the fourth on the change from the last but
    one. Raises ValueError where it is no such text."""
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    sound = len(last) > 0 and bool(((codes >= 0) & (codes < 64)).all()) and last[-1] == len(codes) - 1
    if not sound or lengths.max() > _LONGEST:
        raise ValueError("'segmentation' has counts that are no run lengths compressed as COCO does")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    # The highest of a number's bits says that it is negative.
    runs -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _shape(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
