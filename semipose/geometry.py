"""Affine maps between pixel frames: the one place where coordinates change hands.

A pixel's center has integer coordinates; (0, 0) is the center of the top-left pixel. Cell i of a map with stride s
lies at image pixel s * i + (s - 1) / 2. All matrices are float32 and computed element by element: a matrix product
under bf16 autocast is off by a pixel, and `torch.linalg.inv` waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Sampling = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Affine:
    """`matrix` (B, 3, 3) float32 takes homogeneous source pixels to destination pixels; the last row is 0 0 1."""

    matrix: Tensor

    @staticmethod
    def from_rows(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> "Affine":
        """x' = a x + b y + c and y' = d x + e y + f, each coefficient (B,)."""
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        return Affine(torch.stack([a, b, c, d, e, f, zero, zero, one], -1).reshape(-1, 3, 3))

    @staticmethod
    def identity(count: int, device: torch.device | str = "cpu") -> "Affine":
        """The map that leaves every pixel where it is, `count` times."""
        return Affine(torch.eye(3, device=device).expand(count, 3, 3))

    @staticmethod
    def mirror(width: int, count: int, device: torch.device | str = "cpu") -> "Affine":
        """Left and right exchanged in an image `width` pixels wide, `count` times."""
        one, zero = torch.ones(count, device=device), torch.zeros(count, device=device)
        return Affine.from_rows(-one, zero, one * (width - 1), zero, one, zero)

    @staticmethod
    def about(
        angle: Tensor, scale: Tensor, mirrored: Tensor, source: Sequence[float], destination: Sequence[float]
    ) -> "Affine":
        """Rotate by `angle` (B,) radians (clockwise on the screen), enlarge by `scale` (B,), then mirror in x where
        `mirrored` (B,) bool, taking the point `source` (x, y) to the point `destination` (x, y)."""
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        sign = 1.0 - 2.0 * mirrored.to(cos.dtype)
        a, b, d, e = sign * cos, -sign * sin, sin, cos
        (sx, sy), (dx, dy) = source, destination
        return Affine.from_rows(a, b, dx - a * sx - b * sy, d, e, dy - d * sx - e * sy)

    def __matmul__(self, first: "Affine") -> "Affine":
        """`first`, then this map."""
        # Broadcast and sum instead of a matrix product, which autocast and TF32 would round.
        return Affine((self.matrix[:, :, :, None] * first.matrix[:, None, :, :]).sum(2))

    def inverse(self) -> "Affine":
        """The way back, in closed form."""
        (a, b, c), (d, e, f) = (row.unbind(-1) for row in self.matrix[:, :2].unbind(1))
        scale = 1.0 / (a * e - b * d)
        ia, ib, id_, ie = e * scale, -b * scale, -d * scale, a * scale
        return Affine.from_rows(ia, ib, -ia * c - ib * f, id_, ie, -id_ * c - ie * f)

    @property
    def determinant(self) -> Tensor:
        """(B,) signed change of area; negative exactly when the map mirrors."""
        return self.matrix[:, 0, 0] * self.matrix[:, 1, 1] - self.matrix[:, 0, 1] * self.matrix[:, 1, 0]

    @property
    def mirrored(self) -> Tensor:
        """(B,) bool: left and right are exchanged."""
        return self.determinant < 0

    def __getitem__(self, rows: slice | Tensor) -> "Affine":
        return Affine(self.matrix[rows])

    def to(self, device: torch.device | str) -> "Affine":
        """The same map on another device."""
        return Affine(self.matrix.to(device, non_blocking=True))

    def points(self, xy: Tensor) -> Tensor:
        """Move points (B, N, 2)."""
        linear, shift = self.matrix[:, None, :2, :2], self.matrix[:, None, :2, 2]
        return (xy[..., None, :].float() * linear).sum(-1) + shift

    def keypoints(self, xy: Tensor, flip: Sequence[int]) -> Tensor:
        """Move keypoints (B, K, 2); where the map mirrors, a left wrist takes the right wrist's place."""
        return exchange(self.points(xy), flip, self.mirrored)

    def at_stride(self, stride: int) -> "Affine":
        """The same map between the cells of two maps of `stride`, instead of between their input pixels."""
        return self.between(stride, stride)

    def between(self, source_stride: int, destination_stride: int) -> "Affine":
        """The same map from cells of a map with one stride to cells of a map with another."""
        up, down = (source_stride - 1) / 2, (destination_stride - 1) / 2
        linear, shift = self.matrix[:, :2, :2], self.matrix[:, :2, 2]
        moved = (linear.sum(-1) * up + shift - down) / destination_stride
        top = torch.cat([linear * (source_stride / destination_stride), moved[..., None]], -1)
        return Affine(torch.cat([top, self.matrix[:, 2:]], 1))

    def image(self, source: Tensor, size: tuple[int, int], mode: Sampling = "bilinear") -> Tensor:
        """Resample `source` (B, C, H, W) into the destination frame of `size` (H, W), zeros outside.

        The sampling grid is float32 whatever autocast says; the result has the dtype of `source`.
        """
        with torch.autocast(source.device.type, enabled=False):
            grid = self._grid(source, size)
            moved = F.grid_sample(source.float(), grid, mode=mode, align_corners=False)
        return moved.to(source.dtype)

    def _grid(self, source: Tensor, size: tuple[int, int]) -> Tensor:
        """Where each destination pixel comes from, in the -1..1 coordinates of `grid_sample`: (B, H, W, 2)."""
        height, width = size
        back = self.inverse().matrix
        x = torch.arange(width, device=source.device, dtype=torch.float32)
        y = torch.arange(height, device=source.device, dtype=torch.float32)
        # 2 (p + 0.5) / span - 1 turns pixel p into grid coordinates without align_corners.
        span = (float(source.shape[-1]), float(source.shape[-2]))
        rows = []
        for axis in (0, 1):
            step = 2.0 / span[axis]
            a, b, c = (back[:, axis, column] * step for column in range(3))
            offset = c + (0.5 * step - 1.0)
            rows.append(a[:, None, None] * x + (b[:, None] * y + offset[:, None])[:, :, None])
        return torch.stack(rows, -1)

    def inside(self, source_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Share (B, 1, H, W) in 0..1 of each destination pixel that the source image of `source_size` covers."""
        ones = torch.ones(1, 1, *source_size, device=self.matrix.device)
        return self.image(ones.expand(len(self.matrix), -1, -1, -1), size)


def exchange(values: Tensor, flip: Sequence[int], where: Tensor) -> Tensor:
    """Reorder dim 1 of `values` (B, C, ...) by the permutation `flip` in the samples where `where` (B,) is true."""
    if list(flip) == list(range(len(flip))):
        return values
    # One gather with a per-sample order: indexing by a host list would copy the list to the device each time.
    order = _permutation(tuple(flip), values.device)
    straight = torch.arange(len(order), device=values.device)
    index = torch.where(where[:, None], order, straight)
    return values[torch.arange(len(values), device=values.device)[:, None], index]


_PERMUTATIONS: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def _permutation(flip: tuple[int, ...], device: torch.device) -> Tensor:
    """The permutation as a tensor that stays on the device."""
    key = (flip, device)
    if key not in _PERMUTATIONS:
        _PERMUTATIONS[key] = torch.tensor(flip, device=device)
    return _PERMUTATIONS[key]
