"""Maps -> their highest places, and values of maps at places: batched, on the device, nothing read back.

Places are cells (B, C, n, 2), x and y, of maps (B, C, h, w).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.geometry import constant

# A keypoint or person less certain than this is not there at all (HigherHRNet's and DEKR's detection thresholds).
LEAST_KEYPOINT = 0.1
LEAST_CENTER = 0.01


def peaks(maps: Tensor, count: int, kernel: int = 3) -> tuple[Tensor, Tensor]:
    """Heights (B, C, count) and cells (B, C, count, 2) int64 of the highest cells of each map, best first.

    Only cells that are the highest of the `kernel` x `kernel` around them count; for want of further ones heights
    are 0.
    """
    height, spots = tops(maps, count, kernel)
    return height, cells_of(spots, maps.shape[-1])


def tops(maps: Tensor, count: int, kernel: int = 3) -> tuple[Tensor, Tensor]:
    """Heights (B, C, count) of the `peaks`, and their cells (B, C, count) int64, counted row by row."""
    height, spots = maps.masked_fill(maps != _around(maps, kernel), 0).flatten(2).topk(count)
    return height, spots


def cells_of(spots: Tensor, width: int) -> Tensor:
    """(..., 2) x and y of the cells `spots` (...), counted row by row in maps of this `width`."""
    return torch.stack([spots % width, torch.div(spots, width, rounding_mode="floor")], -1)


def center_kernel(size: tuple[int, int]) -> int:
    """Cells within which two peaks of a center map of `size` (h, w) are one person (DEKR's public code)."""
    side = sum(size) / 2
    return 7 if side > 300 else 5 if side > 200 else 3


def at_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Values (B, C, n) of `maps` (B, C, h, w) at integer `cells` (B, C, n, 2); beyond the border the nearest cell's."""
    x, y = cells.clamp(*_edges(maps)).unbind(-1)
    return maps.flatten(2).gather(2, y * maps.shape[-1] + x)


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, C, n) of `maps` (B, C, h, w) between the cells, at `points` (B, C, n, 2), bilinearly."""
    points = points.clamp(*_edges(maps))
    low = points.floor()
    (across, down), corner = (points - low).unbind(-1), low.long()
    four = corner[..., None, :] + constant(((0, 0), (1, 0), (0, 1), (1, 1)), maps.device, torch.int64)
    value = at_cells(maps, four.flatten(2, 3)).unflatten(2, (-1, 4))
    upper, lower = (torch.lerp(value[..., i], value[..., i + 1], across) for i in (0, 2))
    return torch.lerp(upper, lower, down)


def quarter(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, C, n, 2) of each place a quarter cell toward the higher neighbor on each axis, down where they are equal.

    As HigherHRNet's public code does it; what lies beyond the border counts as the border's cell.
    """
    step = constant(((1, 0), (-1, 0), (0, 1), (0, -1)), maps.device, torch.int64)
    near = at_cells(maps, (cells[..., None, :] + step).flatten(2, 3)).unflatten(2, (-1, 2, 2))
    return torch.add(constant((-0.25,), maps.device), near[..., 0] > near[..., 1], alpha=0.5)


def smoothed(maps: Tensor) -> Tensor:
    """The mean of `maps` (B, C, h, w) and their 3x3 means; beyond the border they are 0."""
    if _pooled(maps):
        return torch.lerp(maps, F.avg_pool2d(maps, 3, 1, 1), 0.5)
    return torch.add(0.5 * maps, _with_neighbors(maps, torch.add, 0.0), alpha=0.5 / 9)


def _around(maps: Tensor, kernel: int) -> Tensor:
    """The highest of the `kernel` x `kernel` cells around each cell, of fewer at the border; `kernel` is odd."""
    if _pooled(maps):
        return F.max_pool2d(maps, kernel, 1, kernel // 2)
    for _ in range(kernel // 2):
        maps = _with_neighbors(maps, torch.maximum, -torch.inf)
    return maps


def _pooled(maps: Tensor) -> bool:
    """A CPU pools slowly, which does not matter for one map of each image."""
    return maps.device.type != "cpu" or maps.shape[1] == 1


def _with_neighbors(maps: Tensor, combined: Callable[[Tensor, Tensor], Tensor], beyond: float) -> Tensor:
    """Each cell `combined` with those around it, `beyond` the border this: ten times faster than pooling on a CPU,
    which has vector units for this but not for that."""
    wide = F.pad(maps, (1, 1, 1, 1), value=beyond)
    wide = combined(combined(wide[..., :-2], wide[..., 2:]), wide[..., 1:-1])
    return combined(combined(wide[:, :, :-2], wide[:, :, 2:]), wide[:, :, 1:-1])


def _edges(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last cell, x and y."""
    last = (maps.shape[-1] - 1, maps.shape[-2] - 1)
    return constant((0, 0), maps.device, torch.int64), constant(last, maps.device, torch.int64)
