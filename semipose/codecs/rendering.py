"""Points of everybody in a batch -> Gaussians on maps, drawn on the device.

Points are in cells of the map, a cell's center at integer coordinates. Each Gaussian is written as a small window of
cells: on a CPU that takes a fraction of the time of whole maps, most of which are zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from semipose.geometry import constant, indices


@dataclass(frozen=True)
class Windows:
    """p x p cells around each of B images' M x K points: `index` (B, M, K, p, p) counts a map's cells row by row, and
    `profile` (B, M, K, 2, p) is the Gaussian in x and y, 0 where the window or the map of `size` (h, w) ends. `trust`
    (B, M, K) is 0 where nothing is drawn."""

    index: Tensor
    profile: Tensor
    trust: Tensor
    size: tuple[int, int]

    @classmethod
    def around(
        cls, at: Tensor, trust: Tensor, sigma: float | Tensor, reach: float | Tensor, size: tuple[int, int], most: float
    ) -> "Windows":
        """Around points `at` (B, M, K, 2), x and y in cells; those outside of the map have none, nor those of `trust`
        (B, M, K) 0.

        `sigma` and `reach` in cells are numbers or (B, M, 1, 1, 1), no reach larger than `most`: the window of a point
        x goes from floor(x - reach) to ceil(x + reach).
        """
        span = math.ceil(most)
        cell = at.floor()[..., None] + (indices(2 * span + 2, at.device) - span)
        inside = torch.minimum(cell.clamp_min(0), constant(((size[1] - 1.0,), (size[0] - 1.0,)), at.device))
        away = cell - at[..., None]
        within = (inside == cell) & (away.abs() < reach + 1)
        # A Gaussian is a product of its profiles in x and y.
        profile = torch.exp(away.square_() * (-0.5 / sigma**2)) * within
        x, y = inside.long().unbind(3)
        return cls(y[..., None] * size[1] + x[..., None, :], profile, trust * on_map(at, size), size)

    def gaussians(self) -> Tensor:
        """(B, K, h, w) maps with a peak of 1 at each point of some trust; where people overlap the higher value."""
        x, y = (self.profile * (self.trust > 0)[..., None, None]).unbind(3)
        return self._highest(y[..., None] * x[..., None, :])

    def trusted(self) -> Tensor:
        """(B, K, h, w) the highest trust of those whose window holds the cell, 0 where there is none."""
        x, y = (self.profile > 0).unbind(3)
        return self._highest((y[..., None] & x[..., None, :]) * self.trust[..., None, None])

    def _highest(self, values: Tensor) -> Tensor:
        """`values` (B, M, K, p, p), at least 0, written to their cells: of several the highest.

        Cells beyond the map carry 0 and may point anywhere.
        """
        values, index = (each.transpose(1, 2).flatten(2) for each in (values, self.index))
        maps = values.new_zeros(*values.shape[:2], self.size[0] * self.size[1])
        return maps.scatter_reduce_(2, index, values, "amax").unflatten(2, self.size)


def on_map(at: Tensor, size: tuple[int, int]) -> Tensor:
    """(...,) bool: the points `at` (..., 2) in cells lie on a map of `size` (h, w), whose cells reach half a cell
    beyond their centers."""
    return ((at >= -0.5) & (at < constant((size[1] - 0.5, size[0] - 0.5), at.device))).all(-1)
