"""Affine maps between pixel frames: the one place where coordinates change hands.

A pixel's center has integer coordinates; (0, 0) is the center of the top-left pixel. Cell i of a map with stride s
lies at image pixel s * i + (s - 1) / 2. All matrices are float32 and computed element by element: a matrix product
under bf16 autocast is off by a pixel, and `torch.linalg.inv` waits for the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Sampling = Literal["bilinear", "bicubic"]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Affine:
    """`matrix` (B, 3, 3) float32 takes homogeneous source pixels to destination pixels; the last row is 0 0 1."""

    matrix: Tensor

    @staticmethod
    def identity(count: int, device: torch.device | str = "cpu") -> "Affine":
        """The map that leaves every pixel where it is, `count` times."""
        return Affine(torch.eye(3, device=device).expand(count, 3, 3))

    @staticmethod
    def mirror(width: int, count: int, device: torch.device | str = "cpu") -> "Affine":
        """Left and right exchanged in an image `width` pixels wide, `count` times."""
        rows = constant(((-1.0, 0.0, width - 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), torch.device(device))
        return Affine(rows.expand(count, 3, 3))

    @staticmethod
    def about(
        angle: ArrayLike, scale: ArrayLike, mirrored: ArrayLike, source: Sequence[float] | NDArray[Any],
        destination: Sequence[float] | NDArray[Any],
    ) -> "Affine":
        """Rotate by `angle` (B,) radians (clockwise on the screen), enlarge by `scale` (B,), then mirror in x where
        `mirrored` (B,) bool, taking the point `source` (x, y) to the point `destination` (x, y), or to B points (2, B).

        From numbers on the CPU, and there until `to`: on a GPU each operation on so few is a launch.
        """
        turn, size = np.asarray(angle, np.float64), np.asarray(scale, np.float64)
        cos, sin, sign = np.cos(turn) * size, np.sin(turn) * size, np.where(np.asarray(mirrored), -1.0, 1.0)
        (sx, sy), (dx, dy) = source, destination
        first = [sign * cos, -sign * sin, dx - sign * (cos * sx - sin * sy)]
        second = [sin, cos, dy - sin * sx - cos * sy]
        third = [np.zeros_like(cos), np.zeros_like(cos), np.ones_like(cos)]
        rows = np.stack([*first, *second, *third], -1).reshape(-1, 3, 3)
        return Affine(torch.from_numpy(rows.astype(np.float32)))

    def __matmul__(self, first: "Affine") -> "Affine":
        """`first`, then this map."""
        # Broadcast and sum instead of a matrix product, which autocast and TF32 would round.
        return Affine((self.matrix[:, :, :, None] * first.matrix[:, None, :, :]).sum(2))

    @cached_property
    def _cofactors(self) -> Tensor:
        """(B, 3, 3): row i is the cross product of the two rows after row i."""
        return torch.linalg.cross(self.matrix.roll(-1, 1), self.matrix.roll(-2, 1))

    @cached_property
    def _inverse(self) -> Tensor:
        return self._cofactors.mT / self._cofactors[:, 2:, 2:]

    def inverse(self) -> "Affine":
        """The way back, in closed form."""
        return Affine(self._inverse)

    @property
    def determinant(self) -> Tensor:
        """(B,) signed change of area; negative exactly when the map mirrors."""
        return self._cofactors[:, 2, 2]

    @cached_property
    def mirrored(self) -> Tensor:
        """(B,) bool: left and right are exchanged."""
        return self.determinant < 0

    @cached_property
    def _made(self) -> dict[object, Any]:
        return {}

    def _once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` answers, kept: what is moved and where it is known share a grid."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def __getitem__(self, rows: slice | Tensor) -> "Affine":
        return Affine(self.matrix[rows])

    def to(self, device: torch.device | str) -> "Affine":
        """The same map on another device."""
        return Affine(self.matrix.to(device, non_blocking=True))

    def points(self, xy: Tensor) -> Tensor:
        """Move points (B, N, 2)."""
        x, y = xy.float().split(1, -1)
        of_x, of_y, shift = self.matrix[:, None, :2].unbind(-1)
        return torch.addcmul(torch.addcmul(shift, of_y, y), of_x, x)

    def keypoints(self, xy: Tensor, flip: Sequence[int]) -> Tensor:
        """Move keypoints (B, K, 2); where the map mirrors, a left wrist takes the right wrist's place."""
        return exchange(self.points(xy), flip, self.mirrored)

    def at_stride(self, stride: int) -> "Affine":
        """The same map between the cells of two maps of `stride`, instead of between their input pixels."""
        return self._once(("stride", stride), lambda: self.between(stride, stride))

    def between(self, source_stride: int, destination_stride: int) -> "Affine":
        """The same map from cells of a map with one stride to cells of a map with another."""
        change = _restride(source_stride, destination_stride, self.matrix.device)
        return Affine((self.matrix.reshape(-1, 1, 9) * change).sum(-1).view(-1, 3, 3))

    def image(self, source: Tensor, size: tuple[int, int], mode: Sampling = "bilinear") -> Tensor:
        """Resample `source` (B, C, H, W) into the destination frame of `size` (H, W), zeros outside.

        The sampling grid is float32 whatever autocast says; the result has the dtype of `source`.
        """
        with torch.autocast(source.device.type, enabled=False):
            grid = self._grid((source.shape[-2], source.shape[-1]), size).permute(0, 2, 3, 1)
            moved = F.grid_sample(source.float(), grid, mode=mode, align_corners=False)
        return moved.to(source.dtype)

    def _grid(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Where each destination pixel comes from, x and y in the -1..1 of `grid_sample`: (B, 2, H, W)."""
        return self._once((source_size, size), lambda: self._new_grid(source_size, size))

    def _new_grid(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        (tall, wide), (height, width), device = source_size, size, self.matrix.device
        # 2 (p + 0.5) / span - 1 turns pixel p into grid coordinates without align_corners.
        start = constant(((0.0, 0.0, 1 / wide - 1), (0.0, 0.0, 1 / tall - 1)), device)
        back = torch.addcmul(start, self._inverse[:, :2], constant(((2 / wide,), (2 / tall,)), device))
        of_x, of_y, shift = back.view(-1, 2, 1, 1, 3).unbind(-1)
        along_y = torch.addcmul(shift, of_y, indices(height, device, upright=True))
        return torch.addcmul(along_y, of_x, indices(width, device))

    def inside(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Share (B, 1, H, W) in 0..1 of each destination pixel that the source image of `source_size` covers."""
        tall, wide = source_size
        far = self._grid(source_size, size).abs()
        # Bilinear weights of the pixels that exist: whole up to the outermost center, none a pixel further out.
        reach = constant((((wide / 2 + 0.5,),), ((tall / 2 + 0.5,),)), far.device)
        slope = constant((((-wide / 2,),), ((-tall / 2,),)), far.device)
        return torch.addcmul(reach, far, slope).clamp_(0, 1).prod(1, keepdim=True)


def exchange(values: Tensor, flip: Sequence[int], where: Tensor) -> Tensor:
    """Reorder dim 1 of `values` (B, C, ...) by the permutation `flip` in the samples where `where` (B,) is true."""
    if list(flip) == list(range(len(flip))):
        return values
    # Indexing by a host list would copy the list to the device each time.
    order = constant(tuple(flip), values.device, torch.int64)
    where = where.view(-1, *[1] * (values.ndim - 1))
    return torch.where(where, values.index_select(1, order), values)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def constant(values: tuple[object, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nested tuples as a tensor that stays on the device: a new one would be a copy that the host waits for."""
    return torch.tensor(values, device=device, dtype=dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def indices(count: int, device: torch.device, upright: bool = False) -> Tensor:
    """0, 1, ..., count - 1 as float32 (count,), or `upright` (count, 1), kept on the device."""
    index = torch.arange(count, device=device, dtype=torch.float32)
    return index[:, None] if upright else index


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _restride(source: int, destination: int, device: torch.device) -> Tensor:
    """(9, 9): takes the nine numbers of a map between pixels to those of the same map between cells."""
    up = torch.tensor([[source, 0.0, (source - 1) / 2], [0.0, source, (source - 1) / 2], [0.0, 0.0, 1.0]])
    down = torch.tensor([[destination, 0.0, (destination - 1) / 2], [0.0, destination, (destination - 1) / 2],
                         [0.0, 0.0, 1.0]])  # fmt: skip
    return torch.kron(torch.linalg.inv(down.double()), up.double().mT).float().to(device)
