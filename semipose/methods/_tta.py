"""Test-time augmentation: a teacher's mean prediction over several views (Radosavovic et al., CVPR 2018)."""

import torch

from semipose.fields import Field, Fields
from semipose.geometry import Affine
from semipose.methods.method import as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.views.view import Crops, View

# Scale and mirroring of each view; the first is the canonical view itself.
TTA_VIEWS = ((1.0, False), (1.0, True), (0.85, False), (1.2, False))


def averaged_prediction(
    network: Ema[PoseNetwork], crops: Crops, canonical: View, count: int = len(TTA_VIEWS)
) -> Fields:
    """Predict on the first `count` of `TTA_VIEWS` of `crops` and average in the `canonical` view, without gradient."""
    views = [canonical, *(crops.canonical(scale, mirrored) for scale, mirrored in TTA_VIEWS[1:count])]
    to_canonical = Affine.stacked([view.to(canonical) for view in views])
    with as_teacher(network):
        output = network(torch.cat([view.image for view in views]))
    return _mean(output, to_canonical, len(views))


def _mean(output: Fields, to_canonical: Affine, count: int) -> Fields:
    """Warp the maps of `count` views (stacked in the batch) and average each cell over the views that cover it."""
    means = {}
    for name, field in output.moved(to_canonical).items():
        cells = (field.maps.shape[-2], field.maps.shape[-1])
        covered = to_canonical.at_stride(field.stride).inside(cells, cells)
        maps = (field.maps * covered).unflatten(0, (count, -1)).sum(0) / covered.unflatten(0, (count, -1)).sum(0)
        means[name] = Field(maps, field.kind, field.stride, field.flip)
    return Fields(means)
