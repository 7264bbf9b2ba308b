"""Pseudo-label correction by position inconsistency (SSPCM, Huang et al., CVPR 2023): vectorized, on the device."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.fields import Fields
from semipose.geometry import constant

PAIRS = ("now_now", "before_now", "now_before", "before_before")
"""The cross-network pairs in the order of their distances: when the first, and when the second network answered."""
# Of each pair, what the first network, its earlier copy, the second network and its copy have in the mean.
_SHARES = ((0.5, 0.0, 0.5, 0.0), (0.0, 0.5, 0.5, 0.0), (0.5, 0.0, 0.0, 0.5), (0.0, 0.5, 0.0, 0.5))


@dataclass(frozen=True)
class Corrected:
    """Corrected pseudo-labels `fields`, and for each keypoint (B, K): `pair`, the row of `PAIRS` they are the mean of;
    `confidence`, the mean height of the two present peaks; `inconsistency` in 0..1, how far apart these two lie."""

    fields: Fields
    pair: Tensor
    confidence: Tensor
    inconsistency: Tensor


def correct(now: tuple[Fields, Fields], before: tuple[Fields, Fields]) -> Corrected:
    """For each keypoint the mean of the two heatmaps, one of each network, whose peaks are nearest to each other.

    `now` are the answers of the first and the second network, `before` those of their earlier copies. Distances are
    those of the highest cells; of equal ones the first of `PAIRS` counts, so that with `before` the same as `now` the
    answer is the mean of `now`. The inconsistency is the present pair's distance as a share of the map's diagonal
    of D cells; no two cells are further apart than the D - 1 at which the public code cuts it off.
    """
    maps = [answer["heatmap"].maps for answer in (now[0], before[0], now[1], before[1])]
    found, (height, width) = [highest(each) for each in maps], maps[0].shape[-2:]
    index = torch.stack([place for _, place in found])
    cells = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1).float()
    # Squared distances of cells are whole numbers: ties are exact.
    squares = (cells[None, :2] - cells[2:, None]).square().sum(-1).flatten(0, 1)
    pair = squares.argmin(0)
    shares = constant(_SHARES, pair.device, maps[0].dtype)[pair][..., None, None].unbind(2)
    # Added up in place: fresh memory for maps costs more than the arithmetic.
    mean = maps[0] * shares[0]
    for each, share in zip(maps[1:], shares[1:], strict=True):
        mean.addcmul_(each, share)
    field = replace(now[0]["heatmap"], maps=mean)
    diagonal = (height**2 + width**2) ** 0.5
    inconsistency = squares[0].sqrt() / diagonal
    return Corrected(Fields({"heatmap": field}), pair, (found[0][0] + found[2][0]) / 2, inconsistency)
