"""Two networks' answers to one view, made one."""

from dataclasses import replace

import torch
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.fields import Fields

# Cells within which two peaks are one.
AGREEMENT_CELLS = 2.0


def blend(first: Fields, second: Fields, share: Tensor) -> Fields:
    """`first` with the `share` in 0..1, of each keypoint (B, K) or of all (), taken from `second`."""
    return Fields(
        {
            name: replace(field, maps=torch.lerp(field.maps.float(), second[name].maps.float(), share[..., None, None]))
            for name, field in first.items()
        }
    )


def agreement(first: Fields, second: Fields, known: Tensor) -> Fields:
    """For each keypoint the mean of both heatmaps where their highest cells lie within two cells, else the one with
    the higher peak; `first` alone where `known`, one number, is 0."""
    one, other = (field["heatmap"].maps for field in (first, second))
    (height, index), (other_height, other_index) = highest(one), highest(other)
    width = one.shape[-1]
    across = index % width - other_index % width
    down = torch.div(index, width, rounding_mode="floor") - torch.div(other_index, width, rounding_mode="floor")
    near = across.square() + down.square() <= AGREEMENT_CELLS**2
    return blend(first, second, torch.where(near, 0.5, (other_height > height).float()) * known)
