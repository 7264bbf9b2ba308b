"""Find the peaks of maps, and read values of maps at points: batched, on the device.

Maps are (B, C, h, w); cells and points (B, C, n, 2), x and y.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.geometry import constant

# Lowest score of a detected keypoint or center (HigherHRNet's and DEKR's detection thresholds).
MIN_KEYPOINT_SCORE = 0.1
MIN_CENTER_SCORE = 0.01
# Memory format of networks' maps, in which a CPU pools up to three times as fast.
POOLING_FORMAT = torch.channels_last


def peaks(maps: Tensor, count: int, kernel: int = 3) -> tuple[Tensor, Tensor]:
    """Heights (B, C, count) and cells (B, C, count, 2) int64 of the highest peaks of each map, best first.

    A peak is the highest of the `kernel` x `kernel` cells around it. Where there are too few, heights are 0.
    """
    height, index = tops(maps, count, kernel)
    return height, cells_of(index, maps.shape[-1])


def tops(maps: Tensor, count: int, kernel: int = 3) -> tuple[Tensor, Tensor]:
    """Heights (B, C, count) of the `peaks`, and their cells (B, C, count) int64, counted row by row."""
    maps = maps.contiguous(memory_format=POOLING_FORMAT)
    height, index = maps.masked_fill(maps != F.max_pool2d(maps, kernel, 1, kernel // 2), 0).flatten(2).topk(count)
    return height, index


def cells_of(index: Tensor, width: int) -> Tensor:
    """Convert `index` (...), cells counted row by row in maps of this `width`, to x and y (..., 2)."""
    return torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1)


def center_kernel(size: tuple[int, int]) -> int:
    """Distance in cells within which peaks of a center map of `size` (h, w) are one person (DEKR's public code)."""
    side = sum(size) / 2
    return 7 if side > 300 else 5 if side > 200 else 3


def at_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Values (B, C, n) of `maps` at integer `cells`; beyond the border the nearest cell's."""
    x, y = cells.clamp(*_edges(maps)).unbind(-1)
    return maps.flatten(2).gather(2, y * maps.shape[-1] + x)


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, C, n) of `maps` at `points`, bilinear between the cells."""
    points = points.clamp(*_edges(maps))
    low = points.floor()
    (right, below), corner = (points - low).unbind(-1), low.long()
    four = corner[..., None, :] + constant(((0, 0), (1, 0), (0, 1), (1, 1)), maps.device, torch.int64)
    value = at_cells(maps, four.flatten(2, 3)).unflatten(2, (-1, 4))
    upper, lower = (torch.lerp(value[..., i], value[..., i + 1], right) for i in (0, 2))
    return torch.lerp(upper, lower, below)


def quarter(maps: Tensor, cells: Tensor) -> Tensor:
    """Offsets (B, C, n, 2) of a quarter cell toward the higher neighbor on each axis, negative where they are equal.

    As in HigherHRNet's public code; cells beyond the border equal the border's cell.
    """
    step = constant(((1, 0), (-1, 0), (0, 1), (0, -1)), maps.device, torch.int64)
    near = at_cells(maps, (cells[..., None, :] + step).flatten(2, 3)).unflatten(2, (-1, 2, 2))
    return 0.5 * (near[..., 0] > near[..., 1]) - 0.25


def smoothed(maps: Tensor) -> Tensor:
    """Average `maps` and their 3x3 means; cells beyond the border are 0."""
    maps = maps.contiguous(memory_format=POOLING_FORMAT)
    return torch.lerp(maps, F.avg_pool2d(maps, 3, 1, 1), 0.5)


def _edges(maps: Tensor) -> tuple[Tensor, Tensor]:
    """First and last cell, x and y."""
    last = (maps.shape[-1] - 1, maps.shape[-2] - 1)
    return constant((0, 0), maps.device, torch.int64), constant(last, maps.device, torch.int64)
