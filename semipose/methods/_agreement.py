"""Combine the heatmaps that two networks predict on one view."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.fields import Fields

# Two peaks agree within this distance, in cells.
AGREEMENT_CELLS = 2.0


def blend(first: Fields, second: Fields, share: Tensor) -> Fields:
    """Interpolate from `first` to `second` by `share` in 0..1, one number () or one per keypoint (B, K)."""
    return Fields(
        {
            name: replace(field, maps=torch.lerp(field.maps.float(), second[name].maps.float(), share[..., None, None]))
            for name, field in first.items()
        }
    )


def agreement(first: Fields, second: Fields, enabled: Tensor) -> Fields:
    """Average the heatmaps of each keypoint where their peaks agree, else keep the one with the higher peak.

    Peaks are the highest cells. Where the scalar `enabled` is 0 the result is `first`.
    """
    one, other = (fields["heatmap"].maps for fields in (first, second))
    (height, index), (other_height, other_index) = highest(one), highest(other)
    width = one.shape[-1]
    dx = index % width - other_index % width
    dy = torch.div(index, width, rounding_mode="floor") - torch.div(other_index, width, rounding_mode="floor")
    agree = dx.square() + dy.square() <= AGREEMENT_CELLS**2
    return blend(first, second, torch.where(agree, 0.5, (other_height > height).float()) * enabled)
