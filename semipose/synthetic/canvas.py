"""Canvas of paint numbers: one byte per pixel stands for a color and for the body part painted there.

Shapes are convex hulls of balls, filled at a higher resolution; averaging down gives smooth edges, and the numbers show
which parts are hidden. Coordinates and radii are in picture pixels; pixel centers are integers.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from semipose.synthetic.arrays import Array, Bytes

Color = tuple[int, int, int]  # RGB, 0..255

SUPERSAMPLING = 2  # canvas pixels per picture pixel
_BITS = 4  # fractional bits of a coordinate given to cv2
# From picture pixels to cv2's coordinates.
_SCALE, _OFFSET = SUPERSAMPLING * (1 << _BITS), (SUPERSAMPLING - 1) / 2 * (1 << _BITS)
_ANGLES = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_MIN_SHADED_RADIUS = 1.6  # pixels; smaller shapes get neither light nor pattern
TILE_SIDE = 32  # side of a pattern tile


@dataclass(frozen=True)
class Material:
    """Color and pattern of a surface. `tile` (TILE_SIDE, TILE_SIDE) is 1 where it has its `second` color."""

    color: Color
    second: Color = (0, 0, 0)
    tile: Bytes | None = None
    period: float = 0.25  # side of a tile in body heights


@lru_cache(maxsize=4096)
def shade(color: Color, factor: float) -> Color:
    """Make a color darker (factor < 1) or lighter (factor > 1)."""
    red, green, blue = (min(255, max(0, round(c * factor))) for c in color)
    return red, green, blue


class Canvas:
    """Picture of paint numbers. 0 is empty; any other number stands for a color and an owner.

    The owner is a body part of the labeled person, or 0 for everything else. `size` is (H, W) pixels, `light` (2,) the
    unit vector toward the light, `unit` pixels per body height.
    """

    def __init__(self, size: tuple[int, int], light: Array, unit: float) -> None:
        self.size, self.light, self.unit = size, light, unit
        self.ids: Bytes = np.zeros((size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), np.uint8)
        self.colors: list[Color] = [(0, 0, 0)]
        self.owners: list[int] = [0]
        self._numbers: dict[tuple[int, tuple[Color, ...]], int] = {}

    def paints(self, colors: tuple[Color, ...], owner: int) -> int:
        """Return the first of consecutive paint numbers for these colors."""
        key = (owner, colors)
        if key not in self._numbers:
            self._numbers[key] = len(self.colors)
            self.colors += colors
            self.owners += [owner] * len(colors)
            if len(self.colors) > 256:
                raise ValueError(f"a canvas holds at most 255 paints, found {len(self.colors) - 1}")
        return self._numbers[key]

    def hull(self, centers: Array, radii: Array, paint: int) -> None:
        """Fill the convex hull of discs with `centers` (P, 2) and `radii` (P,)."""
        points = (_SCALE * centers + _OFFSET)[:, None] + (_SCALE * radii)[:, None, None] * _CIRCLE
        outline = cv2.convexHull(np.rint(points).astype(np.int32).reshape(-1, 2))
        cv2.fillConvexPoly(self.ids, outline, paint, cv2.LINE_8, _BITS)

    def solid(self, centers: Array, radii: Array, material: Material, owner: int = 0) -> None:
        """Fill a hull of balls, brighter toward the light, with the pattern aligned from the first to the last."""
        if radii.max() < _MIN_SHADED_RADIUS:
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
        """Replace paints `first` and `first + 1` by the next two where the tile, aligned with the shape, is 1."""
        height, width = self.ids.shape
        low = np.floor((centers - radii[:, None]).min(0) * SUPERSAMPLING).astype(int)
        high = np.ceil((centers + radii[:, None]).max(0) * SUPERSAMPLING).astype(int) + 2
        x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
        if x0 >= x1 or y0 >= y1:
            return
        along = centers[-1] - centers[0]
        length = float(np.hypot(*along))
        along = along / length if length > 1e-6 else np.array([0.0, 1.0])
        rate = TILE_SIDE / (side * SUPERSAMPLING)
        turn = rate * np.array([[-along[1], along[0]], [along[0], along[1]]])  # across, along
        offset = turn @ (np.array([x0, y0]) - SUPERSAMPLING * centers[0])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        pattern = cv2.warpAffine(
            tile, np.column_stack([turn, offset]), (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_WRAP
        )
        region = self.ids[y0:y1, x0:x1]
        # Bytes wrap around, so paints below `first` become large numbers and fail the comparison.
        region += 2 * (((region - np.uint8(first)) < 2) & (pattern > 0)).astype(np.uint8)

    def owner_at(self, x: float, y: float) -> int:
        """Return the owner of the paint at a point of the picture; -1 outside of it."""
        offset = (SUPERSAMPLING - 1) / 2
        column, row = int(np.rint(SUPERSAMPLING * x + offset)), int(np.rint(SUPERSAMPLING * y + offset))
        if not (0 <= row < self.ids.shape[0] and 0 <= column < self.ids.shape[1]):
            return -1
        return self.owners[self.ids[row, column]]

    def owned(self) -> Bytes:
        """Mask of paints with an owner, (SUPERSAMPLING * H, SUPERSAMPLING * W)."""
        table = np.zeros((1, 256), np.uint8)
        table[0, : len(self.owners)] = np.array(self.owners) > 0
        return np.asarray(cv2.LUT(self.ids, table), np.uint8)

    def over(self, background: Bytes) -> Bytes:
        """Blend the painted picture over `background` (H, W, 3)."""
        table = np.zeros((1, 256, 3), np.uint8)
        table[0, : len(self.colors)] = self.colors
        small = (self.size[1], self.size[0])
        paint = cv2.resize(cv2.LUT(cv2.merge([self.ids] * 3), table), small, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cv2.threshold(self.ids, 0, 255, cv2.THRESH_BINARY)[1], small, interpolation=cv2.INTER_AREA)
        # Empty paint is black, so `paint` is already weighted with `cover`.
        rest = (background.astype(np.uint16) * (255 - cover)[..., None].astype(np.uint16) + 127) // 255
        return np.asarray(cv2.add(paint, rest.astype(np.uint8)), np.uint8)
