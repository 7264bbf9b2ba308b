"""Exchange tiles between images of a batch (MUM), and undo the exchange on a network's feature maps."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from semipose.errors import UsageError
from semipose.views.random_key import RandomKey

# In MUM (Kim et al., CVPR 2022), both the size of a group that exchanges tiles and the number of tiles a side.
_USUAL = 4


@dataclass(frozen=True)
class Tiles:
    """An exchange of tiles: tile (i, j) of image b comes from image `source[b, i, j]`.

    `source` (B, h, w) on the host holds rows of the batch for a grid of h x w tiles. For each tile they are a
    permutation. A tile never changes its place in the picture, so maps of any stride are exchanged alike, and exactly
    undone.
    """

    source: np.ndarray

    @classmethod
    def sampled(cls, random: RandomKey, name: str, grid: tuple[int, int], group: int = _USUAL) -> "Tiles":
        """Sample MUM's mix: for each tile, permute each `group` of neighbors in the batch at random.

        The sampler has shuffled the batch, so neighbors are random. Groups are counted in the global batch and
        never leave a process. Raises ValueError where the people do not divide into groups.
        """
        if random.count % group or random.start % group:
            raise ValueError(f"{random.count} people cannot be divided into groups of {group}")
        noise = random.uniform(name, *grid).reshape(-1, group, *grid)
        first = np.arange(0, random.count, group).reshape(-1, 1, 1, 1)
        return cls((noise.argsort(1) + first).reshape(random.count, *grid))

    def mix(self, maps: Tensor) -> Tensor:
        """Exchange the tiles of `maps` (B, C, H, W), images or features; the result is channels_last.

        Raises ValueError where they do not divide into the grid: resampling them would not be exact.
        """
        (height, width), (rows, columns) = maps.shape[-2:], self.source.shape[1:]
        if height % rows or width % columns:
            raise ValueError(f"a map of {height}x{width} cells does not divide into {rows}x{columns} tiles")
        # The cells of one row of a tile are contiguous in memory, and move as a whole.
        row = self.source.repeat(height // rows, 1) * height + np.arange(height)[:, None]
        index = torch.from_numpy((row * columns + np.arange(columns)).ravel()).to(maps.device, non_blocking=True)
        tile_rows = maps.permute(0, 2, 3, 1).reshape(len(maps) * height * columns, -1)
        return tile_rows.index_select(0, index).view(len(maps), height, width, -1).permute(0, 3, 1, 2)

    def inverse(self) -> "Tiles":
        """Return the UnMix, which brings every tile back."""
        return Tiles(self.source.argsort(0))

    def then(self, other: "Tiles") -> "Tiles":
        """Compose two exchanges of the same grid, this one first."""
        return Tiles(np.take_along_axis(self.source, other.source, 0))

    def after(self, count: int) -> "Tiles":
        """Extend the exchange to a batch with `count` images before these, which keep their tiles."""
        own = np.broadcast_to(np.arange(count).reshape(-1, 1, 1), (count, *self.source.shape[1:]))
        return Tiles(np.concatenate([own, self.source + count]))


def read_grid(text: str) -> tuple[int, int]:
    """Parse a grid of tiles, rows x columns, such as "4x3". Raises UsageError for anything else."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if found is None:
        raise UsageError(f"the grid of tiles is {text!r}; expected rows x columns, such as 4x3")
    return int(found[1]), int(found[2])


def usual_grid(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return the default grid (h, w) for images of `size` (H, W) whose coarsest map has cells of `cell` pixels.

    MUM's 4 tiles on a side where they are whole cells, else the nearest number that divides them, the smaller of two.

    >>> usual_grid((256, 192), 32), usual_grid((128, 96), 32), usual_grid((96, 96), 32)
    ((4, 3), (4, 3), (3, 3))
    """
    counts = [_divisor(side // cell) for side in size]
    return counts[0], counts[1]


def usual_group(people: int) -> int:
    """Return how many people exchange tiles: MUM's 4, or 3 or 2 where only those divide `people`; else ValueError."""
    group = next((group for group in range(_USUAL, 1, -1) if people % group == 0), None)
    if group is None:
        raise ValueError(f"{people} people cannot be divided into groups of 4, 3 or 2")
    return group


def _divisor(cells: int) -> int:
    """Return the divisor of `cells` nearest to MUM's 4; 1, which means no tiles, only for a single cell."""
    divisors = [count for count in range(2, cells + 1) if cells % count == 0]
    return min(divisors, key=lambda count: (abs(count - _USUAL), count), default=1)
