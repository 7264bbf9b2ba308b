"""Draw Gaussians around the keypoints of all people in a batch, on the device.

Points are in cells of the map, a cell's center at integer coordinates. Each Gaussian is written as a small window of
cells. On a CPU that takes a fraction of the time of whole maps, which are mostly zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from semipose.geometry import constant


@dataclass(frozen=True)
class Windows:
    """Windows of p x p cells around the M x K points of each of B images, on K maps of `size` (h, w).

    `index` (B, M, K, p, p) int64 counts the cells of an image's maps row by row, one map after the other. `gaussian`
    (B, M, K, p, p) is 0 outside of the window and of the map. It is also 0 where a point's `confidence` (B, M, K) is 0.
    """

    index: Tensor
    gaussian: Tensor
    confidence: Tensor
    size: tuple[int, int]

    @classmethod
    def around(
        cls,
        points: Tensor,
        confidence: Tensor,
        sigma: float | Tensor,
        reach: float | Tensor,
        max_reach: float,
        size: tuple[int, int],
    ) -> "Windows":
        """Windows around `points` (B, M, K, 2), x and y in cells; points outside of the map need a `confidence` of 0.

        `sigma` and `reach` in cells are numbers or broadcast to (B, M, K, 2, p), no reach larger than `max_reach`. The
        window of a point x goes from floor(x - reach) to ceil(x + reach).
        """
        (height, width), span, device = size, math.ceil(max_reach), points.device
        cell = points.floor()[..., None] + torch.arange(-span, span + 2, device=device)
        offset = cell - points[..., None]
        x, y = cell.unbind(3)
        inside = torch.stack([(x >= 0) & (x < width), (y >= 0) & (y < height)], 3) & (offset.abs() < reach + 1)
        inside = inside & (confidence > 0)[..., None, None]
        # A Gaussian is the product of its profiles in x and y.
        horizontal, vertical = (torch.exp(offset.square() * (-0.5 / sigma**2)) * inside).unbind(3)
        # Cells beyond the map carry 0 and may point anywhere within it.
        x, y = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
        start = height * width * torch.arange(points.shape[2], device=device)[:, None, None]
        index = start + y[..., None] * width + x[..., None, :]
        return cls(index, vertical[..., None] * horizontal[..., None, :], confidence, size)

    def gaussians(self) -> Tensor:
        """Maps (B, K, h, w) with a peak of 1 at each confident point; where people overlap, the higher value."""
        return self._highest(self.gaussian)

    def confidences(self) -> Tensor:
        """Maps (B, K, h, w) of the highest confidence among the windows that hold a cell, 0 without a window."""
        return self._highest((self.gaussian > 0) * self.confidence[..., None, None])

    def _highest(self, values: Tensor) -> Tensor:
        """Write `values` (B, M, K, p, p), at least 0, to their cells; where people overlap, the highest."""
        count, (height, width) = values.shape[2], self.size
        maps = values.new_zeros(len(values), count * height * width)
        maps.scatter_reduce_(1, self.index.flatten(1), values.flatten(1), "amax")
        return maps.view(-1, count, height, width)


def on_map(points: Tensor, size: tuple[int, int]) -> Tensor:
    """(...,) bool: `points` (..., 2) in cells are on a map of `size` (h, w), including half a cell around it."""
    return ((points >= -0.5) & (points < constant((size[1] - 0.5, size[0] - 0.5), points.device))).all(-1)
