"""From a name to a PoseNetwork: the file's function of that name makes the backbone."""

import math
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from semipose.errors import UsageError
from semipose.networks import FILES, TIMM, network_names
from semipose.networks.backbone import Backbone
from semipose.networks.heads import DeconvHead
from semipose.networks.network import PoseNetwork
from semipose.networks.timm_backbone import TimmBackbone

if TYPE_CHECKING:
    from semipose.skeleton import Skeleton


def build_network(
    name: str, skeleton: "Skeleton", *, width: float = 1.0, head_channels: int = 256, seed: int = 0
) -> PoseNetwork:
    """Build network `name` with one heatmap per keypoint of `skeleton`, randomly initialized from `seed`.

    `width` multiplies the backbone's channels (rounded to multiples of 8), `head_channels` are those of the
    three transposed convolutions; HRNet has none. The global random state is left as it was. The result stands on
    the CPU, in train mode. Raises UsageError for an unknown name or a size that is not positive.
    """
    _check(name, width, head_channels)
    # Only the CPU's generator: torch.manual_seed would reseed every GPU, which this fork does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        backbone = _backbone(name, width)
        # Transposed convolutions up to stride 4: three from stride 32, none where the features are there already.
        doublings = (backbone.strides[backbone.level] // 4).bit_length() - 1
        head = DeconvHead(backbone.channels[backbone.level], len(skeleton), (head_channels,) * doublings)
    config = {"name": name, "width": width, "head_channels": head_channels, "keypoints": len(skeleton)}
    network = PoseNetwork(
        backbone,
        head,
        mean=backbone.mean,
        std=backbone.std,
        flip=skeleton.flip,
        config=config,
        keypoints=skeleton.keypoints,
    )
    network.seed = seed
    return network


def _backbone(name: str, width: float) -> Backbone:
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM))
    backbone: Backbone = getattr(import_module(f"semipose.networks.{FILES[name]}"), name)(width)
    return backbone


def _check(name: str, width: float, head_channels: int) -> None:
    if name.startswith(TIMM):
        if width != 1:
            raise UsageError(f"{name} has the channels that timm gives it; leave out --width (found {width:g})")
    elif name not in network_names():
        nearest = get_close_matches(name, network_names(), n=1, cutoff=0)[0]
        raise UsageError(
            f"there is no network {name!r}; did you mean {nearest!r}? "
            f"The networks are {', '.join(network_names())}, and timm:NAME for those of timm."
        )
    if not (math.isfinite(width) and width > 0):
        raise UsageError(f"the network's width is {width}; expected a number above 0, such as 0.5")
    if head_channels < 1:
        raise UsageError(f"the head has {head_channels} channels; expected at least 1, usually 256")
