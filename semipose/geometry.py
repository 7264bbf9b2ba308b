"""Affine maps between pixel frames, and the convention for coordinates.

A pixel's center has integer coordinates; (0, 0) is the center of the top-left pixel. Cell i of a map with stride s is
at image pixel s * i + (s - 1) / 2. Affine maps are kept on the CPU in float64. Composing them there avoids kernel
launches, and autocast and TF32 cannot round them (by up to a pixel).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Sampling = Literal["bilinear", "bicubic"]

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Affine:
    """B affine maps: `rows` (B, 3, 3) float64 on the CPU take homogeneous source pixels to destination pixels.

    The last row is 0 0 1. Points and images that they move are on `device`, where matrices are float32.
    """

    rows: NDArray[np.float64]
    device: torch.device = CPU

    @staticmethod
    def identity(count: int, device: torch.device | str = "cpu") -> "Affine":
        """Make `count` maps that leave every pixel in place."""
        return Affine(np.broadcast_to(np.eye(3), (count, 3, 3)), torch.device(device))

    @staticmethod
    def mirror(width: int, count: int, device: torch.device | str = "cpu") -> "Affine":
        """Make `count` maps that mirror an image `width` pixels wide in x."""
        rows = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return Affine(np.broadcast_to(rows, (count, 3, 3)), torch.device(device))

    @staticmethod
    def about(
        angle: ArrayLike,
        scale: ArrayLike,
        mirrored: ArrayLike,
        source: Sequence[float] | NDArray[Any],
        destination: Sequence[float] | NDArray[Any],
        device: torch.device | str = "cpu",
    ) -> "Affine":
        """Make maps that take the point `source` (x, y) to `destination`, a point (x, y) or B points (2, B).

        They rotate by `angle` (B,) radians (clockwise on the screen), enlarge by `scale` (B,), then mirror in x where
        `mirrored` (B,) bool.
        """
        turn, size = np.asarray(angle, np.float64), np.asarray(scale, np.float64)
        cos, sin, sign = np.cos(turn) * size, np.sin(turn) * size, np.where(np.asarray(mirrored), -1.0, 1.0)
        (sx, sy), (dx, dy) = source, destination
        first = [sign * cos, -sign * sin, dx - sign * (cos * sx - sin * sy)]
        second = [sin, cos, dy - sin * sx - cos * sy]
        third = [np.zeros_like(cos), np.zeros_like(cos), np.ones_like(cos)]
        return Affine(np.stack([*first, *second, *third], -1).reshape(-1, 3, 3), torch.device(device))

    @staticmethod
    def stacked(maps: "Sequence[Affine]") -> "Affine":
        """Concatenate all `maps`."""
        return Affine(np.concatenate([each.rows for each in maps]), maps[0].device)

    def __matmul__(self, first: "Affine") -> "Affine":
        """Compose: `first`, then this map, on this map's device."""
        return Affine(self.rows @ first.rows, self.device)

    def inverse(self) -> "Affine":
        """Invert: map destination to source."""
        return Affine(self._inverse, self.device)

    def to(self, other: "Affine") -> "Affine":
        """Map this one's destination to that of `other`; both have the same source."""
        return other @ self.inverse()

    @cached_property
    def _inverse(self) -> NDArray[np.float64]:
        return np.linalg.inv(self.rows).astype(np.float64, copy=False)

    @property
    def matrix(self) -> Tensor:
        """Matrices (B, 3, 3) float32 on the device."""
        return self._placed(self.rows)

    @property
    def _determinant(self) -> NDArray[np.float64]:
        """Signed change of area (B,), negative exactly where the map mirrors."""
        return np.linalg.det(self.rows)

    @cached_property
    def mirrored(self) -> Tensor:
        """(B,) bool on the device: the map exchanges left and right."""
        return self._given(self._determinant < 0)

    @property
    def host_scale(self) -> NDArray[np.float64]:
        """Factor (B, 1, 1) by which lengths change, on the CPU."""
        return np.sqrt(np.abs(self._determinant))[:, None, None]

    @cached_property
    def scale(self) -> Tensor:
        """Factor (B, 1, 1) by which lengths change, on the device."""
        return self._placed(self.host_scale)

    def _placed(self, values: NDArray[np.float64]) -> Tensor:
        return self._given(np.array(values, np.float32))

    def _given(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def points(self, xy: Tensor) -> Tensor:
        """Move points (B, ..., 2)."""
        rows = self.rows[:, :2].reshape(-1, *[1] * (xy.ndim - 2), 2, 3)
        of_x, of_y, shift = self._placed(rows).unbind(-1)
        x, y = xy.float().split(1, -1)
        return torch.addcmul(torch.addcmul(shift, of_y, y), of_x, x)

    def keypoints(self, xy: Tensor, flip: Sequence[int]) -> Tensor:
        """Move keypoints (B, K, 2), and exchange left and right ones where the map mirrors."""
        return self.exchanged(self.points(xy), flip)

    def exchanged(self, values: Tensor, flip: Sequence[int], dim: int = 1) -> Tensor:
        """Reorder `dim` of `values` (B, ..., C, ...) by the permutation `flip` where the map mirrors."""
        if list(flip) == list(range(len(flip))):
            return values
        mirrored = self.mirrored.view(-1, *[1] * (values.ndim - 1))
        partners = constant(tuple(flip), values.device, torch.int64)
        return torch.where(mirrored, values.index_select(dim, partners), values)

    def order(self, flip: Sequence[int]) -> NDArray[np.int64]:
        """Order (B, C) of channels after the move, on the CPU: `flip` where the map mirrors."""
        return np.where(self._determinant[:, None] < 0, flip, np.arange(len(flip)))

    def host_points(self, xy: NDArray[Any]) -> NDArray[np.float32]:
        """Move points (B, ..., 2) on the CPU."""
        rows = self.rows.reshape(-1, *[1] * (xy.ndim - 3), 3, 3)
        moved = xy @ rows[..., :2, :2].swapaxes(-1, -2) + rows[..., :2, 2][..., None, :]
        return moved.astype(np.float32)

    def at_stride(self, stride: int) -> "Affine":
        """Convert to a map between cells of `stride`, instead of between input pixels."""
        return self.between(stride, stride)

    def between(self, source_stride: int, destination_stride: int) -> "Affine":
        """Convert to a map from cells of one stride to cells of another."""
        to_pixels, to_cells = _pixels_of_cells(source_stride), np.linalg.inv(_pixels_of_cells(destination_stride))
        return Affine(to_cells @ self.rows @ to_pixels, self.device)

    def image(self, source: Tensor, size: tuple[int, int], mode: Sampling = "bilinear") -> Tensor:
        """Resample `source` (B, C, H, W) into the destination frame of `size` (H, W), zeros outside.

        The sampling grid is float32 even under autocast; the result has the dtype of `source`.
        """
        with torch.autocast(source.device.type, enabled=False):
            grid = self._grid((source.shape[-2], source.shape[-1]), size).permute(0, 2, 3, 1)
            moved = F.grid_sample(source.float(), grid, mode=mode, align_corners=False)
        return moved.to(source.dtype)

    def _grid(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Source (B, 2, H, W) of each destination pixel, x and y in the -1..1 of `grid_sample`."""
        (tall, wide), (height, width), device = source_size, size, self.device
        # 2 (p + 0.5) / span - 1 turns pixel p into grid coordinates without align_corners.
        back = self._inverse[:, :2] * (2 / np.array([[wide], [tall]]))
        back[:, :, 2] += 1 / np.array([wide, tall]) - 1
        of_x, of_y, shift = self._placed(back.reshape(-1, 2, 1, 1, 3)).unbind(-1)
        along_y = torch.addcmul(shift, of_y, torch.arange(height, device=device)[:, None])
        return torch.addcmul(along_y, of_x, torch.arange(width, device=device))

    def inside(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Share (B, 1, H, W) in 0..1 of each destination pixel that the source image of `source_size` covers."""
        tall, wide = source_size
        far = self._grid(source_size, size).abs()
        # Sum of the bilinear weights of existing pixels: 1 up to the outermost center, 0 a pixel further out.
        reach = constant((((wide / 2 + 0.5,),), ((tall / 2 + 0.5,),)), far.device)
        slope = constant((((-wide / 2,),), ((-tall / 2,),)), far.device)
        return torch.addcmul(reach, far, slope).clamp_(0, 1).prod(1, keepdim=True)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def constant(values: tuple[object, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return nested tuples as a cached tensor on the device: for a new copy the host would wait."""
    return torch.tensor(values, device=device, dtype=dtype)


def _pixels_of_cells(stride: int) -> NDArray[np.float64]:
    """Matrix (3, 3) from the cells of a map of `stride` to pixels."""
    return np.array([[stride, 0.0, (stride - 1) / 2], [0.0, stride, (stride - 1) / 2], [0.0, 0.0, 1.0]])
