"""From a name to a PoseNetwork: the file's function of that name makes the backbone."""

import math
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from semipose.errors import UsageError
from semipose.networks import FILES, network_names
from semipose.networks.backbone import Backbone
from semipose.networks.heads import DeconvHead
from semipose.networks.network import PoseNetwork

if TYPE_CHECKING:
    from semipose.skeleton import Skeleton


def build_network(
    name: str, skeleton: "Skeleton", *, width: float = 1.0, head_channels: int = 256, seed: int = 0
) -> PoseNetwork:
    """Build network `name` with one heatmap per keypoint of `skeleton`, randomly initialized from `seed`.

    `width` multiplies the backbone's channels (rounded to multiples of 8), `head_channels` are those of the
    three transposed convolutions. The global random state is left as it was. The result stands on the CPU, in
    train mode. Raises UsageError for an unknown name or a size that is not positive.
    """
    _check(name, width, head_channels)
    # Only the CPU's generator: torch.manual_seed would reseed every GPU, which this fork does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        backbone: Backbone = getattr(import_module(f"semipose.networks.{FILES[name]}"), name)(width)
        head = DeconvHead(backbone.channels[-1], len(skeleton), (head_channels,) * 3)
    config = {"name": name, "width": width, "head_channels": head_channels, "keypoints": len(skeleton)}
    return PoseNetwork(
        backbone,
        head,
        mean=backbone.mean,
        std=backbone.std,
        flip=skeleton.flip,
        config=config,
        keypoints=skeleton.keypoints,
    )


def _check(name: str, width: float, head_channels: int) -> None:
    if name not in network_names():
        nearest = get_close_matches(name, network_names(), n=1, cutoff=0)[0]
        raise UsageError(
            f"there is no network {name!r}; did you mean {nearest!r}? "
            f"The networks are {', '.join(network_names())}."
        )
    if not (math.isfinite(width) and width > 0):
        raise UsageError(f"the network's width is {width}; expected a number above 0, such as 0.5")
    if head_channels < 1:
        raise UsageError(f"the head has {head_channels} channels; expected at least 1, usually 256")
