"""One canonical uint8 crop per person: the box, enlarged so that every view of it finds its pixels inside.

A crop shows `MARGIN` times the padded box at `DENSITY` times the input's resolution. It is cut along whole pixels, so
the map from image to crop pixels is exact. Beyond the image it is black, as in the papers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

# The customary room around a person's box (SimpleBaseline).
PADDING = 1.25
# Views zoom out to 0.75 and turn; what they show beyond 1.5 boxes is black.
MARGIN = 1.5
# A little above the input's resolution, so that resampling a second time blurs little.
DENSITY = 1.1


@dataclass(frozen=True)
class CropFrame:
    """Where crops lie for a network input of `size` (H, W) pixels."""

    size: tuple[int, int]

    @property
    def crop_size(self) -> tuple[int, int]:
        """(H', W') of the canonical crop in pixels."""
        height, width = (round(side * MARGIN * DENSITY) for side in self.size)
        return height, width

    @property
    def crop_bytes(self) -> int:
        """Memory of one crop."""
        return self.crop_size[0] * self.crop_size[1] * 3

    def regions(self, boxes: NDArray[np.float32]) -> NDArray[np.int64]:
        """The whole-pixel region (N, 4) x, y, w, h of the image that each crop shows; may reach beyond the image."""
        x, y, w, h = np.asarray(boxes, np.float64).T
        aspect = self.size[1] / self.size[0]
        width = np.maximum(w, h * aspect) * (PADDING * MARGIN)
        wide, tall = np.maximum(1, np.rint(width)), np.maximum(1, np.rint(width / aspect))
        # Pixels 0..w-1 have their middle at (w - 1) / 2.
        left = np.rint(x + w / 2 - (wide - 1) / 2)
        top = np.rint(y + h / 2 - (tall - 1) / 2)
        return np.stack([left, top, wide, tall], -1).astype(np.int64)

    def affines(self, regions: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, 3, 3) image pixels to crop pixels."""
        x, y, w, h = regions.astype(np.float64).T
        height, width = self.crop_size
        sx, sy = width / w, height / h
        matrix = np.zeros((len(regions), 3, 3))
        matrix[:, 0, 0], matrix[:, 0, 2] = sx, (0.5 - x) * sx - 0.5
        matrix[:, 1, 1], matrix[:, 1, 2] = sy, (0.5 - y) * sy - 0.5
        matrix[:, 2, 2] = 1
        return matrix.astype(np.float32)


def read_image(path: str | Path) -> NDArray[np.uint8] | None:
    """RGB (H, W, 3) uint8, turned as EXIF says; None when the file is missing, cut off or no image."""
    import cv2

    try:
        data = Path(path).read_bytes()
    except OSError:
        return None
    if not data or _cut_off(data):
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else cast(NDArray[np.uint8], cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _cut_off(data: bytes) -> bool:
    """A JPEG file without its end: OpenCV would fill the missing part with gray and say nothing."""
    if not data.startswith(b"\xff\xd8"):
        return False
    place = 2
    # Skip the header's segments: a thumbnail in one of them has an end of its own.
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data.find(b"\xff\xd9", place) < 0


def cut(image: NDArray[np.uint8], region: NDArray[np.int64], crop_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut `region` (x, y, w, h) out of `image` (H, W, 3) and resize it to `crop_size`, anti-aliased, black outside."""
    import cv2

    x, y, w, h = (int(value) for value in region)
    height, width = image.shape[:2]
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
    if (left, top, right, bottom) == (x, y, x + w, y + h):
        part = image[y : y + h, x : x + w]
    else:
        part = np.zeros((h, w, 3), np.uint8)
        if left < right and top < bottom:
            part[top - y : bottom - y, left - x : right - x] = image[top:bottom, left:right]
    shrinks = h > crop_size[0] and w > crop_size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(NDArray[np.uint8], cv2.resize(part, (crop_size[1], crop_size[0]), interpolation=how))
