"""Networks: RGB images of range 0..1 go in, named fields come out.

A network is a backbone (one file each), a head and the loading of its weights; `ema.py` makes averaged copies.
Networks may use losses, fields, geometry, pose and system; codecs and methods use their fields.
This file holds the names of the networks and needs no torch.
"""

from semipose.errors import UsageError

# The file of each backbone's builder. Builder, backbone and the network for one person in a crop have the same name.
FILES = {
    "hrnet_w32": "hrnet",
    "hrnet_w48": "hrnet",
    "mobilenet_v1": "mobilenet_v1",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
}

# Networks that detect all people in a whole image, on any backbone. The head's class is in the file of that name.
DETECTOR_FREE = {"cid": "CidHead", "dekr": "DekrHead", "higher_hrnet": "HigherHead"}

# The backbone that the detector-free networks were published with.
DEFAULT_BACKBONE = "hrnet_w32"

# The heads of networks for one person in a crop, and their usual channels.
HEAD_CHANNELS = {"deconvolution": 256, "multi_scale": 64}
DEFAULT_HEAD = "deconvolution"

# The prefix of timm's networks.
TIMM = "timm:"

# The stride of the deepest features: both sides of an image must be multiples of it.
STRIDE_MULTIPLE = 32


def network_names() -> tuple[str, ...]:
    """List the names that `build_network` and `--network` take, besides timm:NAME."""
    return (*FILES, *DETECTOR_FREE)


def backbone_names() -> tuple[str, ...]:
    """List the backbones, besides timm:NAME; each is also a network for one person in a crop."""
    return tuple(FILES)


def has_head_choice(network: str) -> bool:
    """Return whether `network` takes any of the heads; HRNet and detector-free networks have one of their own."""
    return network not in DETECTOR_FREE and FILES.get(network) != "hrnet"


def check_size(size: tuple[int, int]) -> None:
    """Raise UsageError unless both sides of `size` (H, W), in pixels, are positive multiples of 32."""
    if all(side > 0 and side % STRIDE_MULTIPLE == 0 for side in size):
        return
    nearest = "x".join(str(max(1, round(side / STRIDE_MULTIPLE)) * STRIDE_MULTIPLE) for side in size)
    raise UsageError(
        f"the input size is {size[0]}x{size[1]} (height x width); both sides must be multiples of "
        f"{STRIDE_MULTIPLE}. The nearest is {nearest}."
    )
