"""Points of everybody in a batch -> Gaussians on maps, drawn on the device.

Points are in cells of the map, a cell's center at integer coordinates. Each Gaussian is written as a small window of
cells: on a CPU that takes a fraction of the time of whole maps, most of which are zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from semipose.geometry import constant, multiples

Size = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """p x p cells around each of B images' M x K points.

    `sizes` (h, w): each equal share of the K maps has one of its own, the coarser and the finer maps of a network.
    `index` (B, M, K, p, p) counts the cells of an image's maps one after the other, each row by row. `profile`
    (B, M, K, 2, p) is the Gaussian in x and y, 0 where the window or the map ends. `trust` (B, M, K) is 0 where nothing
    is drawn.
    """

    index: Tensor
    profile: Tensor
    trust: Tensor
    sizes: tuple[Size, ...]

    @classmethod
    def around(
        cls, at: Tensor, trust: Tensor, sigma: float | Tensor, reach: float | Tensor, most: float, sizes: Sequence[Size]
    ) -> "Windows":
        """Around points `at` (B, M, K, 2), x and y in cells; those of `trust` (B, M, K) 0 have none, which those
        outside of the map must be.

        `sigma` and `reach` in cells are numbers or broadcast to (B, M, K, 2, p), no reach larger than `most`: the
        window of a point x goes from floor(x - reach) to ceil(x + reach).
        """
        span, maps = math.ceil(most), Maps.of(tuple(sizes), at.shape[2] // len(sizes), at.device)
        cell = at.floor()[..., None] + constant(tuple(range(-span, span + 2)), at.device)
        inside = cell.clamp(constant((0.0,), at.device), maps.last)
        away = cell - at[..., None]
        within = (inside == cell) & (away.abs() < reach + 1)
        # A Gaussian is a product of its profiles in x and y.
        profile = torch.exp(away.square_() * (-0.5 / sigma**2)) * within
        x, y = inside.long().unbind(3)
        index = torch.addcmul((x + maps.start)[..., None, :], y[..., None], maps.width)
        return cls(index, profile, trust, tuple(sizes))

    @cached_property
    def _each(self) -> Tensor:
        """(B, M, K, p, p): the Gaussian of each point, whatever its trust."""
        x, y = self.profile.unbind(3)
        return y[..., None] * x[..., None, :]

    def gaussians(self) -> list[Tensor]:
        """Maps (B, K / len(sizes), h, w) of each size with a peak of 1 at each point of some trust; of several people
        the higher value."""
        return self._highest(self._each * (self.trust > 0)[..., None, None])

    def trusted(self) -> list[Tensor]:
        """As `gaussians` the highest trust of those whose window holds the cell, 0 where there is none."""
        return self._highest((self._each > 0) * self.trust[..., None, None])

    def _highest(self, values: Tensor) -> list[Tensor]:
        """`values` (B, M, K, p, p), at least 0, written to their cells: of several the highest.

        Cells beyond the map carry 0 and may point anywhere within it.
        """
        each = values.shape[2] // len(self.sizes)
        lengths = [each * height * width for height, width in self.sizes]
        row = values.new_zeros(len(values), sum(lengths))
        row.scatter_reduce_(1, self.index.flatten(1), values.flatten(1), "amax")
        return [part.unflatten(1, (each, *size)) for part, size in zip(row.split(lengths, 1), self.sizes, strict=True)]


@dataclass(frozen=True)
class Stamps:
    """The Gaussians of people around whole cells, as wide as each person asks for: sigma = (2 reach + 1) / 6, cut off
    at the reach.

    They are written to maps of `size` (h, w) with a margin of one cell, which takes what lies beyond and is cut off
    again. `index` (B, M, K, p * p) int64 counts the cells of such maps, one for each of K points, one after the other;
    `values` (B, M, K, p * p) are the Gaussian, or 0 where nothing is drawn.
    """

    index: Tensor
    values: Tensor
    size: Size

    @classmethod
    def around(cls, at: Tensor, trust: Tensor, reach: Tensor, most: int, size: Size) -> "Stamps":
        """Around the cells `at` (B, M, K, 2), x and y, of some `trust` (B, M, K), of people with these `reach` (B, M)
        int64, at most `most`."""
        height, width = size
        # The margin comes first in each row and column.
        borders = (constant(((each[0],), (each[1],)), at.device) for each in ((0, 0), (width + 1, height + 1)))
        cell = (at[..., None] + constant(tuple(range(1 - most, most + 2)), at.device)).clamp(*borders).long()
        x, y = cell.unbind(3)
        x = x + multiples(at.shape[2], (height + 2) * (width + 2), at.device)
        index = torch.add(x[..., None, :], y[..., None], alpha=width + 2).flatten(3)
        return cls(index, _by_reach(most, at.device)[reach] * (trust > 0)[..., None], size)

    def weighed(self, trust: Tensor) -> "Stamps":
        """With the `trust` (B, M, K) in a point in place of its Gaussian."""
        return replace(self, values=(self.values > 0) * trust[..., None])

    def first(self, keypoints: int, people: Tensor | None = None) -> "Stamps":
        """Those of the first `keypoints`; with `people` (B, P) int64 only of those of the batch's B * M."""
        index, values = self.index[:, :, :keypoints], self.values[:, :, :keypoints]
        if people is not None:
            index, values = index.flatten(0, 1)[people], values.flatten(0, 1)[people]
        return Stamps(index, values, self.size)

    def highest(self, own: "Stamps | None" = None) -> Tensor:
        """Maps (B, K, h, w), in each cell the highest value of all people; behind them the P * K maps of the people of
        `own`, one after the other, each with what is theirs alone."""
        height, width = self.size
        keypoints, cells, device = self.index.shape[2], (height + 2) * (width + 2), self.index.device
        people, each = (0, 0) if own is None else own.index.shape[1:3]
        maps = self.values.new_zeros(len(self.index), (keypoints + people * each) * cells)
        maps.scatter_reduce_(1, self.index.flatten(1), self.values.flatten(1), "amax")
        if own is not None:
            index = own.index + _behind(keypoints * cells, people, each * cells, device)
            maps.scatter_reduce_(1, index.flatten(1), own.values.flatten(1), "amax")
        return maps.view(len(maps), -1, height + 2, width + 2)[..., 1:-1, 1:-1]


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _by_reach(most: int, device: torch.device) -> Tensor:
    """(most + 1, 1, p * p): the Gaussian of each reach from 0 to `most`, p = 2 * most + 1; kept on the device."""
    reach, away = torch.arange(most + 1.0)[:, None], torch.arange(-most, most + 1.0)
    profile = torch.exp(-18 * (away / (2 * reach + 1)).square()) * (away.abs() <= reach)
    return (profile[:, :, None] * profile[:, None]).flatten(1)[:, None].to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _behind(first: int, people: int, each: int, device: torch.device) -> Tensor:
    """(people, 1, 1) int64: where each one's own maps begin, `each` cells long and behind the `first`."""
    return first + each * torch.arange(people, device=device)[:, None, None]


@dataclass(frozen=True)
class Maps:
    """Maps of several sizes in one row: of each its `last` (K, 2, 1) column and row, its `width` (K, 1, 1) and where it
    does `start` (K, 1)."""

    last: Tensor
    width: Tensor
    start: Tensor

    @classmethod
    @lru_cache(maxsize=64)
    @torch.inference_mode(False)
    def of(cls, sizes: tuple[Size, ...], each: int, device: torch.device) -> "Maps":
        """`each` maps of every size; kept on the device."""
        height, width = torch.tensor(sizes).repeat_interleave(each, 0).T
        start = (height * width).cumsum(0) - height * width
        last = torch.stack([width, height], -1) - 1.0
        parts = (last[..., None], width[:, None, None], start[:, None])
        return cls(*(part.to(device) for part in parts))


def on_map(at: Tensor, size: tuple[int, int]) -> Tensor:
    """(...,) bool: the points `at` (..., 2) in cells lie on a map of `size` (h, w), whose cells reach half a cell
    beyond their centers."""
    return ((at >= -0.5) & (at < constant((size[1] - 0.5, size[0] - 0.5), at.device))).all(-1)
