"""Keypoints in input pixels <-> one Gaussian heatmap per keypoint.

Cell i of a map with stride s lies at input pixel s * i + (s - 1) / 2 (see geometry.py); peaks are drawn where the
keypoint is, not at the nearest cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from semipose.fields import Field, Fields

Decoding = Literal["dark", "quarter"]

# Reach of the blur in cells. The paper's kernel of 11 cells has sigma 2; at sigma / 2 three cells hold 99.7 %.
_BLUR_RADIUS = 3


@dataclass(frozen=True)
class HeatmapCodec:
    """Gaussian heatmaps of one network: `size` (H, W) of the input in pixels, `stride` of the map, `sigma` in cells.

    `sigma` 2 on 64x48 maps is SimpleBaseline's (Xiao et al. 2018); `for_size` keeps that share of the height on
    other sizes, but never below 1.5 cells: a narrower peak suffers from being moved between views.
    """

    size: tuple[int, int]
    flip: tuple[int, ...]
    stride: int = 4
    sigma: float = 2.0

    @classmethod
    def for_size(cls, size: tuple[int, int], flip: Sequence[int], stride: int = 4) -> "HeatmapCodec":
        """The codec with the customary sigma for this input size."""
        return cls(size, tuple(flip), stride, max(1.5, 2.0 * (size[0] / stride) / 64.0))

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the maps."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Fields, Tensor]:
        """Draw `keypoints` (B, K, 2) in input pixels; `visible` (B, K) > 0 where labeled.

        Returns the fields and the weight (B, K, 1, 1) of each map: 0 where the keypoint is not labeled or lies
        outside of the input, because an empty map would teach "not there". (Public code keeps weight 1 up to three
        sigmas outside.)
        """
        height, width = self.cells
        at = (keypoints.float() - (self.stride - 1) / 2) / self.stride
        # A Gaussian is a product of its profiles in x and y: h + w exponentials instead of h * w.
        x = self._profile(at[..., 0], width)
        y = self._profile(at[..., 1], height)
        maps = y[..., :, None] * x[..., None, :]
        inside = self._inside(at)
        weight = ((visible > 0) & inside).to(maps.dtype)[..., None, None]
        return Fields({"heatmap": Field(maps * weight, "scalar", self.stride, self.flip)}), weight

    def _profile(self, center: Tensor, cells: int) -> Tensor:
        """exp(-(i - center)^2 / 2 sigma^2) for every cell i: (B, K, cells)."""
        index = torch.arange(cells, device=center.device, dtype=torch.float32)
        return torch.exp((index - center[..., None]).square() * (-0.5 / self.sigma**2))

    def _inside(self, at: Tensor) -> Tensor:
        """(B, K) the point lies on the map, whose cells reach half a cell beyond their centers."""
        (height, width), (x, y) = self.cells, at.unbind(-1)
        return (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)

    def decode(self, fields: Fields, how: Decoding = "dark") -> tuple[Tensor, Tensor]:
        """Read keypoints (B, K, 2) in input pixels and their peak heights (B, K) from the heatmaps.

        "quarter" moves the highest cell a quarter cell toward its higher neighbors (Newell et al. 2016). "dark"
        takes the Taylor step of Zhang et al. (CVPR 2020, "Distribution-Aware coordinate Representation", eq. 8-9) on
        the logarithm of the blurred map, computed only around the peak. Differs from the paper: second differences
        span one cell instead of two, and within the blur's reach of the border there is no blur; both are exact on
        Gaussians, and so the step also works where the public code gives up.
        """
        maps = fields["heatmap"].maps.float()
        score, index = maps.flatten(2).max(-1)
        width = maps.shape[-1]
        row, column = torch.div(index, width, rounding_mode="floor"), index % width
        step = self._quarter(maps, row, column) if how == "quarter" else self._dark(maps, row, column)
        cell = torch.stack([column, row], -1) + step
        return cell * self.stride + (self.stride - 1) / 2, score

    def _quarter(self, maps: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """A quarter cell toward the higher neighbor on each axis; 0 where neighbors are equal or missing."""
        patch = _patch(maps, row, column, 1, outside=None)
        return 0.25 * torch.stack(
            [torch.sign(patch[..., 1, 2] - patch[..., 1, 0]), torch.sign(patch[..., 2, 1] - patch[..., 0, 1])], -1
        )

    def _dark(self, maps: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """One Newton step on the log of the blurred map, at most one cell on each axis."""
        height, width = maps.shape[-2:]
        patch = _patch(maps, row, column, _BLUR_RADIUS + 1, outside=0.0)
        blurred = self._blur(row, height) @ patch @ self._blur(column, width).mT
        # Rescaling the blurred map to its old maximum, as the paper does, cancels in differences of logarithms.
        log = self._beyond_border(torch.log(blurred.clamp_min(1e-10)), column, width)
        log = self._beyond_border(log.mT, row, height).mT
        dx = 0.5 * (log[..., 1, 2] - log[..., 1, 0])
        dy = 0.5 * (log[..., 2, 1] - log[..., 0, 1])
        dxx = log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0]
        dyy = log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1]
        dxy = 0.25 * (log[..., 2, 2] - log[..., 0, 2] - log[..., 2, 0] + log[..., 0, 0])
        determinant = dxx * dyy - dxy * dxy
        # Only where the peak really is one (negative definite); elsewhere the step would leave it.
        peak = (determinant > 1e-9) & (dxx < 0)
        safe = torch.where(peak, determinant, torch.ones_like(determinant))
        step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1) / safe[..., None]
        return torch.where(peak[..., None], step.clamp(-1, 1), torch.zeros_like(step))

    def _blur(self, index: Tensor, cells: int) -> Tensor:
        """(B, K, 3, 2r + 3) rows that blur a patch along one axis around its three central cells.

        Where the blur would reach over the border the rows pick the cells as they are.
        """
        at = torch.arange(2 * _BLUR_RADIUS + 3, device=index.device) - (_BLUR_RADIUS + 1)
        offset = at - torch.arange(-1, 2, device=index.device)[:, None]
        kernel = torch.exp(offset.square() * (-0.5 / max(0.5, self.sigma / 2) ** 2))
        kernel = kernel * (offset.abs() <= _BLUR_RADIUS)
        room = torch.minimum(index, cells - 1 - index)[..., None, None]
        return torch.where(room > _BLUR_RADIUS, kernel / kernel.sum(-1, keepdim=True), (offset == 0).to(kernel.dtype))

    def _beyond_border(self, log: Tensor, index: Tensor, cells: int) -> Tensor:
        """Continue `log` (B, K, 3, 3) along its last axis where the peak is a border cell: a neighbor is missing.

        A Gaussian's logarithm is a parabola of curvature -1 / sigma^2, so two cells tell the third.
        """
        low, middle, high = log.unbind(-1)
        bend = 1.0 / self.sigma**2
        low = torch.where((index == 0)[..., None], 2 * middle - high - bend, low)
        high = torch.where((index == cells - 1)[..., None], 2 * middle - low - bend, high)
        return torch.stack([low, middle, high], -1)


def _patch(maps: Tensor, row: Tensor, column: Tensor, radius: int, outside: float | None) -> Tensor:
    """Cut (B, K, 2r+1, 2r+1) around a cell of each map; beyond the border `outside`, or the border cell when None."""
    height, width = maps.shape[-2:]
    offset = torch.arange(-radius, radius + 1, device=maps.device)
    y, x = row[..., None] + offset, column[..., None] + offset
    index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
    patch = maps.flatten(2).gather(2, index.flatten(2)).reshape(index.shape)
    if outside is None:
        return patch
    beyond = ((y < 0) | (y >= height))[..., :, None] | ((x < 0) | (x >= width))[..., None, :]
    return patch.masked_fill(beyond, outside)
