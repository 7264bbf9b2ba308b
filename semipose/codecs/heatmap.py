"""Convert between keypoints in input pixels and Gaussian heatmaps, one for each keypoint.

Cell i of a map with stride s is at input pixel s * i + (s - 1) / 2 (see geometry.py). Peaks are drawn at the exact
position of the keypoint, not at the nearest cell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.fields import Field, Fields
from semipose.geometry import constant

Decoding = Literal["dark", "quarter"]

# Reach of the blur in cells. The paper's kernel of 11 cells has sigma 2; at sigma / 2 three cells hold 99.7 %.
_BLUR_RADIUS = 3


@dataclass(frozen=True)
class HeatmapCodec:
    """Gaussian heatmaps of one network: `size` (H, W) of the input in pixels, `stride` of the map, `sigma` in cells.

    `sigma` 2 on 64x48 maps is SimpleBaseline's (Xiao et al. 2018). `for_size` keeps that share of the height on
    other sizes, but at least 1.5 cells. A narrower peak is blurred too much when it is moved between views.
    """

    size: tuple[int, int]
    flip: tuple[int, ...]
    stride: int = 4
    sigma: float = 2.0

    @classmethod
    def for_size(cls, size: tuple[int, int], flip: Sequence[int], stride: int = 4) -> "HeatmapCodec":
        """Choose the customary sigma for this input size."""
        return cls(size, tuple(flip), stride, max(1.5, 2.0 * (size[0] / stride) / 64.0))

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the maps."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Fields, Tensor]:
        """Draw `keypoints` (B, K, 2) in input pixels; `visible` (B, K) > 0 where labeled.

        Returns the fields and the weight (B, K, 1, 1) of each map. It is 0 where the keypoint is not labeled or is
        outside of the input: an empty map would teach "not there". (Public code keeps weight 1 up to three sigmas
        outside.)
        """
        height, width = self.cells
        points = (keypoints.float() - (self.stride - 1) / 2) / self.stride
        # A Gaussian is a product of its profiles in x and y: a few exponentials instead of h * w.
        offset = torch.arange(max(height, width), device=points.device) - points[..., None]
        x, y = torch.exp(offset.square() * (-0.5 / self.sigma**2)).unbind(2)
        maps = y[..., :height, None] * x[..., None, :width]
        # The map's cells reach half a cell beyond their centers.
        inside = ((points >= -0.5) & (points < constant((width - 0.5, height - 0.5), points.device))).all(-1)
        weight = ((visible > 0) & inside).to(maps.dtype).view(*maps.shape[:2], 1, 1)
        return Fields({"heatmap": Field(maps * weight, "scalar", self.stride, self.flip)}), weight

    def decode(self, fields: Fields, how: Decoding = "dark") -> tuple[Tensor, Tensor]:
        """Read keypoints (B, K, 2) in input pixels and their peak heights (B, K) from the heatmaps.

        "quarter" moves the highest cell a quarter cell toward its higher neighbors (Newell et al. 2016). "dark"
        takes the Taylor step of Zhang et al. (CVPR 2020, "Distribution-Aware coordinate Representation", eq. 8-9) on
        the logarithm of the blurred map, computed only around the peak. Differs from the paper: second differences
        span one cell instead of two, and there is no blur within its reach of the border. Both are exact on Gaussians,
        so the step also works where the public code gives up.
        """
        maps = fields["heatmap"].maps.float()
        score, index = highest(maps)
        width = maps.shape[-1]
        cell = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1)
        step = self._quarter(maps, index, cell) if how == "quarter" else self._dark(maps, index, cell)
        return self.stride * (cell + step) + (self.stride - 1) / 2, score

    def _quarter(self, maps: Tensor, index: Tensor, cell: Tensor) -> Tensor:
        """A quarter cell toward the higher neighbor on each axis; 0 where neighbors are equal or one is missing."""
        width = maps.shape[-1]
        near = _around(maps, index, constant((-1, 1, -width, width), maps.device, torch.int64))
        low, high = near.unflatten(-1, (2, 2)).unbind(-1)
        whole = (cell > 0) & (cell < _last(maps))
        return torch.sign(high - low) * whole * 0.25

    def _dark(self, maps: Tensor, index: Tensor, cell: Tensor) -> Tensor:
        """One Newton step on the log of the blurred map, at most one cell on each axis."""
        last = _last(maps)
        log = torch.log(self._blurred(maps, index, torch.minimum(cell, last - cell)).clamp_min(1e-10))
        # Rescaling the blurred map to its old maximum, as the paper does, cancels in differences of logarithms.
        log = self._beyond_border(log, cell[..., 0], maps.shape[-1])
        log = self._beyond_border(log.mT, cell[..., 1], maps.shape[-2]).mT
        dx = 0.5 * (log[..., 1, 2] - log[..., 1, 0])
        dy = 0.5 * (log[..., 2, 1] - log[..., 0, 1])
        dxx = log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0]
        dyy = log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1]
        dxy = 0.25 * (log[..., 2, 2] - log[..., 0, 2] - log[..., 2, 0] + log[..., 0, 0])
        determinant = dxx * dyy - dxy * dxy
        # Only where the peak really is one (negative definite); elsewhere the step would leave it.
        peak = (determinant > 1e-9) & (dxx < 0)
        step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / determinant.clamp_min(1e-9)[..., None]
        return step.clamp_(-1, 1).masked_fill_(~peak[..., None], 0)

    def _blurred(self, maps: Tensor, index: Tensor, border: Tensor) -> Tensor:
        """Blurred map (B, K, 3, 3) around each peak, which is `border` (B, K, 2) cells from the border.

        Along an axis where the blur would reach beyond the border, cells are not blurred.
        """
        side = torch.arange(-_BLUR_RADIUS - 1, _BLUR_RADIUS + 2, device=maps.device)
        patch = _around(maps, index, (side[:, None] * maps.shape[-1] + side).flatten())
        # One product with all four blurs (neither axis, x, y, both) instead of two small ones per map.
        with torch.autocast(maps.device.type, enabled=False):
            each = (patch @ _blurs(self.sigma, maps.device)).unflatten(-1, (4, 9))
        along = ((border > _BLUR_RADIUS) * constant((1, 2), maps.device, torch.int64)).sum(-1)
        return each.gather(2, along[..., None, None].expand(-1, -1, 1, 9)).unflatten(-1, (3, 3)).squeeze(2)

    def _beyond_border(self, log: Tensor, index: Tensor, cells: int) -> Tensor:
        """Continue `log` (B, K, 3, 3) along its last axis where the peak is a border cell and lacks a neighbor.

        A Gaussian's logarithm is a parabola of curvature -1 / sigma^2, so two cells determine the third.
        """
        low, middle, high = log.unbind(-1)
        bend = 1.0 / self.sigma**2
        first, last = ((index == edge).to(log.dtype)[..., None] for edge in (0, cells - 1))
        low = torch.lerp(low, 2 * middle - high - bend, first)
        high = torch.lerp(high, 2 * middle - low - bend, last)
        return torch.stack([low, middle, high], -1)


def highest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Height and index (B, K) of the highest cell of each map, counted row by row; the first of equal ones.

    Equals `maps.flatten(2).max(-1)`, which compares cell by cell on a CPU. Here vector units find the maximum of each
    block, and one block is searched. Pooling does the same for channels_last.
    """
    if maps.device.type == "cpu" and not maps.is_contiguous():
        score, index = F.max_pool2d(maps, (maps.shape[-2], maps.shape[-1]), return_indices=True)
        return score.flatten(1), index.flatten(1)
    size = math.gcd(maps.shape[-1] * maps.shape[-2], 128)
    blocks = maps.reshape(*maps.shape[:2], -1, size)
    score, block = blocks.amax(-1).max(-1)
    within = blocks.gather(2, block[..., None, None].expand(-1, -1, 1, size)).argmax(-1)
    return score, torch.add(within.squeeze(-1), block, alpha=size)


def _around(maps: Tensor, index: Tensor, offset: Tensor) -> Tensor:
    """Values (B, K, n) of the cells `index` (B, K) + `offset` (n,), counted row by row; any cell beyond the border."""
    cells = maps.shape[-1] * maps.shape[-2]
    return maps.flatten(2).gather(2, (index[..., None] + offset).clamp_(0, cells - 1))


def _last(maps: Tensor) -> Tensor:
    """Column and row (2,) of the last cell."""
    return constant((maps.shape[-1] - 1, maps.shape[-2] - 1), maps.device, torch.int64)


def _blurs(sigma: float, device: torch.device) -> Tensor:
    """Matrix (81, 36) from a patch of 9x9 cells to its middle 3x3, blurred along neither axis, x, y, and both."""
    reach = torch.arange(-_BLUR_RADIUS - 1, _BLUR_RADIUS + 2, device=device)
    offset = reach - torch.arange(-1, 2, device=device)[:, None]
    kernel = torch.exp(offset.square() * (-0.5 / max(0.5, sigma / 2) ** 2)) * (offset.abs() <= _BLUR_RADIUS)
    rows = torch.stack([(offset == 0).float(), kernel / kernel.sum(-1, keepdim=True)])
    return torch.einsum("aip,bjq->pqabij", rows, rows).reshape(len(reach) ** 2, -1)
