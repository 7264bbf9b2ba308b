"""Names of networks for the contract tests: all backbones of ours, and two of timm where it is installed."""

from importlib.util import find_spec

import pytest

from semipose.networks import TIMM, backbone_names
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS, Skeleton

needs_timm = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None, reason="needs the extra `timm`"
)
# One with batch norm and one with layer norm, 0.6 M and 0.2 M parameters.
TIMM_NAMES = ("timm:mobilenetv3_small_050", "timm:test_convnext")
TIMM_PARAMS = [pytest.param(name, marks=needs_timm) for name in TIMM_NAMES]
NAMES = [*backbone_names(), *TIMM_PARAMS]


def small(name: str, skeleton: Skeleton = PRESETS["lsp_14"], *, width: float = 0.125, seed: int = 0) -> PoseNetwork:
    """A small network; those of timm have but one width."""
    return build_network(name, skeleton, width=1.0 if name.startswith(TIMM) else width, head_channels=8, seed=seed)


def small_scene(
    name: str, backbone: str = "mobilenet_v1", skeleton: Skeleton = PRESETS["lsp_14"], *, seed: int = 0, **options: bool
) -> PoseNetwork:
    """A small detector-free network."""
    width = 1.0 if backbone.startswith(TIMM) else 0.125
    return build_network(name, skeleton, width=width, head_channels=8, seed=seed, backbone=backbone, **options)
