"""Cut one canonical uint8 crop per person: the box, enlarged so that augmented views stay inside.

A crop shows `MARGIN` times the padded box at `DENSITY` times the input's resolution. It is cut along whole pixels of
the image, and the copy begins at a whole pixel of the crop. The map between them is therefore exact, and only visible
pixels are resized. Beyond the image a crop is black, as in the papers.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

# The usual padding around a person's box (SimpleBaseline).
PADDING = 1.25
# Views zoom out to 0.75 and rotate; beyond 1.5 boxes they are black.
MARGIN = 1.5
# Slightly above the input's resolution, so that the second resampling blurs little.
DENSITY = 1.1
# Part of the disk cache's key: raise it if the same box gives other pixels than before.
EDITION = 1


@dataclass(frozen=True)
class CropFrame:
    """Frame of crops for a network input of `size` (H, W) pixels.

    The canonical view shows `padding` times the box, the crop `margin` times that view; both are 1 for whole images.
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
        """Bytes of one crop."""
        return self.crop_size[0] * self.crop_size[1] * 3

    def regions(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the region (N, 4) x, y, w, h of the image that each crop shows, in pixels.

        It may reach beyond the image. All are whole numbers, except for x or y below 0: the image then begins at a
        whole pixel of the crop.
        """
        x, y, w, h = np.asarray(boxes, np.float64).T
        aspect = self.size[1] / self.size[0]
        width = np.maximum(w, h * aspect) * (self.padding * self.margin)
        width, height = np.maximum(1, np.rint(width)), np.maximum(1, np.rint(width / aspect))
        # Pixels 0..w-1 have their center at (w - 1) / 2.
        left = np.rint(x + w / 2 - (width - 1) / 2)
        top = np.rint(y + h / 2 - (height - 1) / 2)
        pixel_height, pixel_width = height / self.crop_size[0], width / self.crop_size[1]
        left = np.where(left < 0, np.rint(left / pixel_width) * pixel_width, left)
        top = np.where(top < 0, np.rint(top / pixel_height) * pixel_height, top)
        return np.stack([left, top, width, height], -1)

    def affines(self, regions: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the maps (N, 3, 3) from image pixels to crop pixels."""
        x, y, w, h = regions.T
        height, width = self.crop_size
        sx, sy = width / w, height / h
        matrix = np.zeros((len(regions), 3, 3))
        matrix[:, 0, 0], matrix[:, 0, 2] = sx, (0.5 - x) * sx - 0.5
        matrix[:, 1, 1], matrix[:, 1, 2] = sy, (0.5 - y) * sy - 0.5
        matrix[:, 2, 2] = 1
        return matrix.astype(np.float32)


def read_image(path: str | Path) -> NDArray[np.uint8] | None:
    """Read an image as RGB (H, W, 3) uint8, rotated by its EXIF tag; None if it is missing, cut off or no image."""
    import cv2

    try:
        data = Path(path).read_bytes()
    except OSError:
        return None
    if not data or _cut_off(data):
        return None
    try:
        return cast(NDArray[np.uint8] | None, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
    except cv2.error:  # the header announces billions of pixels
        return None


def _cut_off(data: bytes) -> bool:
    """Return whether a JPEG file lacks its end: OpenCV would silently fill the missing part with gray."""
    if not data.startswith(b"\xff\xd8") or data.endswith(b"\xff\xd9"):
        return False
    offset = 2
    # Skip the header's segments: a thumbnail in one of them has an end marker of its own.
    while data[offset : offset + 1] == b"\xff" and data[offset + 1 : offset + 2] != b"\xda":
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return data.find(b"\xff\xd9", offset) < 0


def cut(image: NDArray[np.uint8], region: NDArray[np.float64], crop: NDArray[np.uint8]) -> None:
    """Fill `crop` (H', W', 3) with `region` (x, y, w, h) of `image` (H, W, 3), anti-aliased, black outside."""
    import cv2

    x, y, w, h = region.tolist()
    height, width = crop.shape[:2]
    scale_x, scale_y = width / w, height / h
    # Shrink first by a whole factor, averaging squares, then by less than 2 with interpolation: no pixel is skipped,
    # and it takes a third of the time of an area average.
    whole = max(1, int(min(1 / scale_x, 1 / scale_y)))
    right, bottom = (math.ceil(end / whole) * whole for end in (w, h))
    part = image[max(0, int(y)) : max(0, math.ceil(y) + bottom), max(0, int(x)) : max(0, math.ceil(x) + right)]
    crop.fill(0)
    if round(part.shape[0] * scale_y) == 0 or round(part.shape[1] * scale_x) == 0:
        return
    # With factors instead of a size OpenCV scales by exactly these.
    if whole > 1:
        part = cv2.resize(part, None, fx=1 / whole, fy=1 / whole, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    part = cv2.resize(part, None, fx=scale_x * whole, fy=scale_y * whole, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    left, top = round(max(0, -x) * scale_x), round(max(0, -y) * scale_y)
    target = crop[top : top + part.shape[0], left : left + part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]
