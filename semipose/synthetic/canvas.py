"""A canvas of numbered paints: every pixel holds one byte that says its color and whose body part it is.

Shapes are hulls of balls, filled finer than the picture; averaging down makes smooth edges, and the numbers
say afterwards what is hidden. Coordinates and radii are picture pixels (centers are integers).
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]  # RGB, 0..255
Bytes = NDArray[np.uint8]
Array = NDArray[np.float64]

FINE = 2  # canvas pixels per picture pixel
_BITS = 4  # fractional bits of a coordinate given to cv2
_SCALE, _OFFSET = FINE * (1 << _BITS), (FINE - 1) / 2 * (1 << _BITS)  # picture pixels to what cv2 gets
_ANGLES = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_TINY = 1.6  # pixels; smaller shapes get neither light nor pattern
TILE = 32  # side of a pattern tile


@dataclass(frozen=True)
class Material:
    """What a surface looks like. `tile` (TILE, TILE) says where it has its `second` color; None is plain."""

    color: Color
    second: Color = (0, 0, 0)
    tile: Bytes | None = None
    period: float = 0.25  # side of a tile in body heights


@lru_cache(maxsize=4096)
def shade(color: Color, factor: float) -> Color:
    """The color made darker (factor < 1) or lighter (factor > 1)."""
    red, green, blue = (min(255, max(0, round(c * factor))) for c in color)
    return red, green, blue


class Canvas:
    """Paint 0 is empty; any other stands for a color and an owner: 0 for all but the person asked for.

    `size` is (H, W) pixels, `light` (2,) the unit vector toward the light, `unit` pixels per body height.
    """

    def __init__(self, size: tuple[int, int], light: Array, unit: float) -> None:
        self.size, self.light, self.unit = size, light, unit
        self.ids: Bytes = np.zeros((size[0] * FINE, size[1] * FINE), np.uint8)
        self.colors: list[Color] = [(0, 0, 0)]
        self.owners: list[int] = [0]
        self._known: dict[tuple[int, tuple[Color, ...]], int] = {}

    def paints(self, colors: tuple[Color, ...], owner: int) -> int:
        """The first of consecutive paint numbers for these colors."""
        key = (owner, colors)
        if key not in self._known:
            self._known[key] = len(self.colors)
            self.colors += colors
            self.owners += [owner] * len(colors)
            if len(self.colors) > 256:
                raise ValueError(f"a canvas holds 255 paints, {len(self.colors) - 1} were asked for")
        return self._known[key]

    def hull(self, centers: Array, radii: Array, paint: int) -> None:
        """Fill the convex hull of discs with `centers` (P, 2) and `radii` (P,)."""
        points = (_SCALE * centers + _OFFSET)[:, None] + (_SCALE * radii)[:, None, None] * _CIRCLE
        outline = cv2.convexHull(np.rint(points).astype(np.int32).reshape(-1, 2))
        cv2.fillConvexPoly(self.ids, outline, paint, cv2.LINE_8, _BITS)

    def solid(self, centers: Array, radii: Array, material: Material, owner: int = 0) -> None:
        """Fill a hull of balls, brighter toward the light, with a pattern along the first to the last."""
        if radii.max() < _TINY:
            self.hull(centers, radii, self.paints((material.color,), owner))
            return
        tones = (shade(material.color, 0.78), material.color)
        if material.tile is None:
            first = self.paints(tones, owner)
        else:
            first = self.paints((*tones, shade(material.second, 0.78), material.second), owner)
        self.hull(centers, radii, first)
        self.hull(centers + 0.28 * radii[:, None] * self.light, 0.66 * radii, first + 1)
        if material.tile is not None:
            self._pattern(centers, radii, material.tile, first, self.unit * material.period)

    def _pattern(self, centers: Array, radii: Array, tile: Bytes, first: int, side: float) -> None:
        """Turn paints `first` and `first + 1` into the next two where the tile laid along the shape is 1."""
        height, width = self.ids.shape
        low = np.floor((centers - radii[:, None]).min(0) * FINE).astype(int)
        high = np.ceil((centers + radii[:, None]).max(0) * FINE).astype(int) + 2
        x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
        if x0 >= x1 or y0 >= y1:
            return
        along = centers[-1] - centers[0]
        length = float(np.hypot(*along))
        along = along / length if length > 1e-6 else np.array([0.0, 1.0])
        rate = TILE / (side * FINE)
        turn = rate * np.array([[-along[1], along[0]], [along[0], along[1]]])  # across, along
        offset = turn @ (np.array([x0, y0]) - FINE * centers[0])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        laid = cv2.warpAffine(
            tile, np.column_stack([turn, offset]), (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_WRAP
        )
        region = self.ids[y0:y1, x0:x1]
        # Bytes wrap around, so paints below `first` become large numbers and fail the comparison.
        region += 2 * (((region - np.uint8(first)) < 2) & (laid > 0)).astype(np.uint8)

    def owner_at(self, x: float, y: float) -> int:
        """Whose paint lies at a point of the picture; -1 outside of it."""
        column, row = int(np.rint(FINE * x + (FINE - 1) / 2)), int(np.rint(FINE * y + (FINE - 1) / 2))
        if not (0 <= row < self.ids.shape[0] and 0 <= column < self.ids.shape[1]):
            return -1
        return self.owners[self.ids[row, column]]

    def owned(self) -> Bytes:
        """1 where a paint has an owner, as (FINE * H, FINE * W)."""
        table = np.zeros((1, 256), np.uint8)
        table[0, : len(self.owners)] = np.array(self.owners) > 0
        return np.asarray(cv2.LUT(self.ids, table), np.uint8)

    def over(self, background: Bytes) -> Bytes:
        """The painted picture (H, W, 3) before `background` (H, W, 3)."""
        table = np.zeros((1, 256, 3), np.uint8)
        table[0, : len(self.colors)] = self.colors
        small = (self.size[1], self.size[0])
        paint = cv2.resize(cv2.LUT(cv2.merge([self.ids] * 3), table), small, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cv2.threshold(self.ids, 0, 255, cv2.THRESH_BINARY)[1], small, interpolation=cv2.INTER_AREA)
        # Empty paint is black, so `paint` is already weighted with `cover`.
        rest = (background.astype(np.uint16) * (255 - cover)[..., None].astype(np.uint16) + 127) // 255
        return np.asarray(cv2.add(paint, rest.astype(np.uint8)), np.uint8)
