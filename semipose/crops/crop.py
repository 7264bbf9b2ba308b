"""One canonical uint8 crop per person: the box, enlarged so that every view of it finds its pixels inside.

A crop shows `MARGIN` times the padded box at `DENSITY` times the input's resolution. The image's pixels are cut along
whole pixels and their copy begins at a whole pixel of the crop, so the map between them is exact and only what is seen
has to be resized. Beyond the image a crop is black, as in the papers.
"""

import math
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
# Part of the disk cache's key: raise it when the same box gives other pixels.
EDITION = 1


@dataclass(frozen=True)
class CropFrame:
    """Where crops lie for a network input of `size` (H, W) pixels.

    `padding` times the box is what the canonical view shows, and `margin` times that the crop; both 1 for whole images.
    """

    size: tuple[int, int]
    padding: float = PADDING
    margin: float = MARGIN

    @property
    def crop_size(self) -> tuple[int, int]:
        """(H', W') of the canonical crop in pixels."""
        height, width = (round(side * self.margin * DENSITY) for side in self.size)
        return height, width

    @property
    def zoom(self) -> float:
        """Crop pixels per input pixel."""
        return self.crop_size[0] / (self.size[0] * self.margin)

    @property
    def crop_bytes(self) -> int:
        """Memory of one crop."""
        return self.crop_size[0] * self.crop_size[1] * 3

    def regions(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """The region (N, 4) x, y, w, h of the image that each crop shows, in pixels; may reach beyond the image.

        All are whole numbers, but for an x or y below 0: there the image begins at a whole pixel of the crop.
        """
        x, y, w, h = np.asarray(boxes, np.float64).T
        aspect = self.size[1] / self.size[0]
        width = np.maximum(w, h * aspect) * (self.padding * self.margin)
        wide, tall = np.maximum(1, np.rint(width)), np.maximum(1, np.rint(width / aspect))
        # Pixels 0..w-1 have their middle at (w - 1) / 2.
        left = np.rint(x + w / 2 - (wide - 1) / 2)
        top = np.rint(y + h / 2 - (tall - 1) / 2)
        down, across = tall / self.crop_size[0], wide / self.crop_size[1]
        left = np.where(left < 0, np.rint(left / across) * across, left)
        top = np.where(top < 0, np.rint(top / down) * down, top)
        return np.stack([left, top, wide, tall], -1)

    def affines(self, regions: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, 3, 3) image pixels to crop pixels."""
        x, y, w, h = regions.T
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
    try:
        return cast(NDArray[np.uint8] | None, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
    except cv2.error:  # A header that announces billions of pixels.
        return None


def _cut_off(data: bytes) -> bool:
    """A JPEG file without its end: OpenCV would fill the missing part with gray and say nothing."""
    if not data.startswith(b"\xff\xd8") or data.endswith(b"\xff\xd9"):
        return False
    place = 2
    # Skip the header's segments: a thumbnail in one of them has an end of its own.
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data.find(b"\xff\xd9", place) < 0


def cut(image: NDArray[np.uint8], region: NDArray[np.float64], crop: NDArray[np.uint8]) -> None:
    """Fill `crop` (H', W', 3) with `region` (x, y, w, h) of `image` (H, W, 3), anti-aliased, black outside."""
    import cv2

    x, y, w, h = region.tolist()
    tall, wide = crop.shape[:2]
    across, down = wide / w, tall / h
    # Shrunk first by a whole factor, to means of squares, then by less than 2 between neighbors: no pixel is skipped,
    # and it takes a third of the time of means over parts of pixels.
    whole = max(1, int(min(1 / across, 1 / down)))
    right, bottom = (math.ceil(end / whole) * whole for end in (w, h))
    part = image[max(0, int(y)) : max(0, math.ceil(y) + bottom), max(0, int(x)) : max(0, math.ceil(x) + right)]
    crop.fill(0)
    if round(part.shape[0] * down) == 0 or round(part.shape[1] * across) == 0:
        return
    # Given the factors and not the size, OpenCV resizes by just these.
    if whole > 1:
        part = cv2.resize(part, None, fx=1 / whole, fy=1 / whole, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    part = cv2.resize(part, None, fx=across * whole, fy=down * whole, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    left, top = round(max(0, -x) * across), round(max(0, -y) * down)
    place = crop[top : top + part.shape[0], left : left + part.shape[1]]
    place[:] = part[: place.shape[0], : place.shape[1]]
