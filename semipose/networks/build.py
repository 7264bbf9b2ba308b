"""Build a PoseNetwork from its name: the function of that name builds the backbone."""

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from semipose.errors import UsageError, suggestion
from semipose.networks import (
    DEFAULT_BACKBONE,
    DEFAULT_HEAD,
    DETECTOR_FREE,
    FILES,
    HEAD_CHANNELS,
    TIMM,
    backbone_names,
    has_head_choice,
    network_names,
)
from semipose.networks.backbone import Backbone
from semipose.networks.heads import DeconvHead, Head, MultiScaleHead, SceneHead
from semipose.networks.network import PoseNetwork, SceneNetwork
from semipose.networks.timm_backbone import TimmBackbone

if TYPE_CHECKING:
    from semipose.pose.skeleton import Skeleton


def build_network(
    name: str,
    skeleton: "Skeleton",
    *,
    width: float = 1.0,
    head_channels: int | None = None,
    seed: int = 0,
    backbone: str | None = None,
    head: str | None = None,
    **options: bool,
) -> PoseNetwork:
    """Build network `name` with one heatmap per keypoint of `skeleton`, randomly initialized from `seed`.

    - `width` multiplies the backbone's channels (rounded to multiples of 8).
    - `head` is deconvolution (default, also for None) or multi_scale; HRNet and detector-free networks have their own.
    - `head_channels` is the number of the head's channels, by default 256, or 64 for multi_scale. The neck of a
      detector-free network has half as many; HRNet has none.
    - `backbone` (default hrnet_w32) and `options` are for detector-free networks: fine (higher_hrnet), adaptive and
      identity_init (dekr).

    The result is on the CPU, in train mode; its `config` holds all arguments. The global random state is restored.
    Raises UsageError for an unknown name or option, or a size that is not positive.
    """
    chosen = _checked(name, backbone, head, options)
    if head_channels is None:
        head_channels = HEAD_CHANNELS[chosen.get("head", DEFAULT_HEAD)]
    _check_sizes(chosen.get("backbone", name), width, head_channels)
    # Seeds the CPU's generator only: torch.manual_seed would reseed every GPU, which this fork does not restore.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        body, top = _parts(name, skeleton.flip, width, head_channels, **chosen)
    config = {"name": name, "width": width, "head_channels": head_channels, "keypoints": len(skeleton)}
    network = (SceneNetwork if name in DETECTOR_FREE else PoseNetwork)(
        body,
        top,
        mean=body.mean,
        std=body.std,
        flip=skeleton.flip,
        config=config | chosen,
        keypoints=skeleton.keypoints,
    )
    network.seed = seed
    return network


def _parts(
    name: str,
    flip: tuple[int, ...],
    width: float,
    channels: int,
    backbone: str = "",
    head: str = DEFAULT_HEAD,
    **options: bool,
) -> tuple[Backbone, Head]:
    if name in DETECTOR_FREE:
        # DEKR and CID concatenate all of HRNet's resolutions; HigherHRNet takes the finest alone.
        body = _backbone(backbone, width, exchanged=name != "higher_hrnet")
        return body, _head_class(name)(body, flip, channels, **options)  # type: ignore[call-arg]
    body = _backbone(name, width)
    if head == "multi_scale":
        return body, MultiScaleHead(body, len(flip), channels)
    # Transposed convolutions up to stride 4: three from stride 32, none from stride 4.
    doublings = (body.strides[body.level] // 4).bit_length() - 1
    return body, DeconvHead(body.channels[body.level], len(flip), (channels,) * doublings)


def _backbone(name: str, width: float, exchanged: bool = False) -> Backbone:
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM))
    build = getattr(import_module(f"semipose.networks.{FILES[name]}"), name)
    backbone: Backbone = build(width, exchanged) if FILES[name] == "hrnet" else build(width)
    return backbone


def _head_class(name: str) -> type[SceneHead]:
    found: type[SceneHead] = getattr(import_module(f"semipose.networks.{name}"), DETECTOR_FREE[name])
    return found


def _checked(name: str, backbone: str | None, head: str | None, options: dict[str, bool]) -> dict[str, Any]:
    """Validate the arguments; return the head, or backbone and options of a detector-free network, for the config."""
    _check_name(name, network_names(), "network")
    known: dict[str, Any] = {}
    if name in DETECTOR_FREE:
        known = {"backbone": backbone or DEFAULT_BACKBONE, **_head_class(name).options}
        _check_name(known["backbone"], backbone_names(), "backbone")
    elif backbone is not None:
        free = ", ".join(DETECTOR_FREE)
        raise UsageError(f"{name} is a backbone itself; found backbone {backbone!r}, which is for {free}.")
    if has_head_choice(name):
        known["head"] = head or DEFAULT_HEAD
        if known["head"] not in HEAD_CHANNELS:
            raise UsageError(
                f"there is no head {head!r}{suggestion(str(head), HEAD_CHANNELS)}. "
                f"The heads are {', '.join(HEAD_CHANNELS)}."
            )
    elif head is not None:
        raise UsageError(f"{name} has a head of its own; found head {head!r}. Leave it out.")
    unknown = [option for option in options if option not in known]
    if unknown:
        has = ", ".join(option for option in known if option not in ("backbone", "head")) or "none"
        raise UsageError(f"{name} has no option {unknown[0]!r}; its options: {has}.")
    return known | options


def _check_name(name: str, names: tuple[str, ...], kind: str) -> None:
    if name not in names and not name.startswith(TIMM):
        raise UsageError(
            f"there is no {kind} {name!r}{suggestion(name, names)}. "
            f"The {kind}s are {', '.join(names)}, and timm:NAME for those of timm."
        )


def _check_sizes(backbone: str, width: float, head_channels: int) -> None:
    if backbone.startswith(TIMM) and width != 1:
        raise UsageError(f"{backbone} has the channels that timm gives it; leave out --width (found {width:g})")
    if not (math.isfinite(width) and width > 0):
        raise UsageError(f"the network's width is {width}; expected a number above 0, such as 0.5")
    if head_channels < 1:
        raise UsageError(f"the head has {head_channels} channels; expected at least 1, usually 256")
