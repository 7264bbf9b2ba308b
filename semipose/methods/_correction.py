"""Pseudo-label correction by position inconsistency (SSPCM, Huang et al., CVPR 2023), vectorized."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.fields import Fields
from semipose.geometry import constant

PAIRS = ("now_now", "before_now", "now_before", "before_before")
"""The cross-network pairs, in the order of their distances: age of the first network, then of the second."""
# The weights of each pair in the mean: first network, its earlier copy, second network, its earlier copy.
_PAIR_WEIGHTS = ((0.5, 0.0, 0.5, 0.0), (0.0, 0.5, 0.5, 0.0), (0.5, 0.0, 0.0, 0.5), (0.0, 0.5, 0.0, 0.5))


@dataclass(frozen=True)
class Corrected:
    """Corrected pseudo-labels `fields`, and three values for each keypoint (B, K).

    `pair` is the row of `PAIRS` that the label is the mean of. `confidence` is the mean peak height of the two
    present networks. `inconsistency` in 0..1 is the distance of their peaks as a share of the map's diagonal.
    """

    fields: Fields
    pair: Tensor
    confidence: Tensor
    inconsistency: Tensor


def correct(now: tuple[Fields, Fields], before: tuple[Fields, Fields]) -> Corrected:
    """Average, for each keypoint, the two heatmaps of different networks whose peaks are nearest to each other.

    `now` holds the outputs of the first and the second network, `before` those of their earlier copies. Distances are
    measured between the highest cells. Of equal distances the first of `PAIRS` counts, so with `before` the same as
    `now` the result is the mean of `now`.

    The public code clamps the inconsistency at D - 1 cells for a diagonal of D cells. No two cells are further apart.
    """
    maps = [output["heatmap"].maps for output in (now[0], before[0], now[1], before[1])]
    peaks, (height, width) = [highest(each) for each in maps], maps[0].shape[-2:]
    index = torch.stack([peak_index for _, peak_index in peaks])
    cells = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1).float()
    # Squared distances of cells are whole numbers: ties are exact.
    squares = (cells[None, :2] - cells[2:, None]).square().sum(-1).flatten(0, 1)
    pair = squares.argmin(0)
    weights = constant(_PAIR_WEIGHTS, pair.device, maps[0].dtype)[pair][..., None, None].unbind(2)
    # Added up in place: fresh memory for maps costs more than the arithmetic.
    mean = maps[0] * weights[0]
    for each, weight in zip(maps[1:], weights[1:], strict=True):
        mean.addcmul_(each, weight)
    field = replace(now[0]["heatmap"], maps=mean)
    diagonal = (height**2 + width**2) ** 0.5
    inconsistency = squares[0].sqrt() / diagonal
    return Corrected(Fields({"heatmap": field}), pair, (peaks[0][0] + peaks[2][0]) / 2, inconsistency)
