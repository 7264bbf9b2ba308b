"""Images to fields: backbones, heads, weights and averaged copies. What stands here needs no torch."""

from semipose.errors import UsageError

# The file a backbone's builder lives in; the builder has the backbone's name, and so has the network with its heatmaps.
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

# Networks that find everybody in a whole image, on any of the backbones: the head's class, in the file of their name.
DETECTOR_FREE = {"cid": "CidHead", "dekr": "DekrHead", "higher_hrnet": "HigherHead"}

# The backbone they were published with.
DEFAULT_BACKBONE = "hrnet_w32"

# What stands before the name of a network of timm.
TIMM = "timm:"

# The deepest features are this much smaller than the image, so both of its sides must be multiples of it.
STRIDE_MULTIPLE = 32


def network_names() -> tuple[str, ...]:
    """Names that `build_network` and `--network` know beside timm:NAME."""
    return (*FILES, *DETECTOR_FREE)


def backbone_names() -> tuple[str, ...]:
    """Names of backbones beside timm:NAME: the networks that look at one person at a time."""
    return tuple(FILES)


def check_size(size: tuple[int, int]) -> None:
    """Raise UsageError unless both sides of `size` (H, W), in pixels, are positive multiples of 32."""
    if all(side > 0 and side % STRIDE_MULTIPLE == 0 for side in size):
        return
    nearest = "x".join(str(max(1, round(side / STRIDE_MULTIPLE)) * STRIDE_MULTIPLE) for side in size)
    raise UsageError(
        f"the input size is {size[0]}x{size[1]} (height x width); both must be multiples of "
        f"{STRIDE_MULTIPLE}. The nearest is {nearest}."
    )
