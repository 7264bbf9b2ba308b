"""A teacher's mean answer to several looks at the same people, on one view (Radosavovic et al., CVPR 2018)."""

import torch

from semipose.fields import Field, Fields
from semipose.geometry import Affine
from semipose.methods.method import as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.views.view import Crops, View

# Enlargement and mirror of each look; the first is the canonical view itself.
TTA_VIEWS = ((1.0, False), (1.0, True), (0.85, False), (1.2, False))


def averaged_prediction(network: Ema[PoseNetwork], crops: Crops, plain: View, count: int = len(TTA_VIEWS)) -> Fields:
    """Mean teacher output over the first `count` of `TTA_VIEWS` of `crops`, on their `plain` view; no graph."""
    looks = [plain, *(crops.canonical(scale, mirrored) for scale, mirrored in TTA_VIEWS[1:count])]
    back = Affine.stacked([look.to(plain) for look in looks])
    with as_teacher(network):
        answer = network(torch.cat([look.image for look in looks]))
    return _mean(answer, back, len(looks))


def _mean(answer: Fields, back: Affine, looks: int) -> Fields:
    """The mean over `looks` (stacked in the batch) of maps moved by `back`; a cell that a look missed is not in it."""
    means = {}
    for name, field in answer.moved(back).items():
        cells = (field.maps.shape[-2], field.maps.shape[-1])
        covered = back.at_stride(field.stride).inside(cells, cells)
        maps = (field.maps * covered).unflatten(0, (looks, -1)).sum(0) / covered.unflatten(0, (looks, -1)).sum(0)
        means[name] = Field(maps, field.kind, field.stride, field.flip)
    return Fields(means)
