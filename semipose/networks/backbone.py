"""What every backbone is: an image, already normalized, to feature maps of strides 4, 8, 16 and 32."""

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module, ABC):
    """`forward(image (B, 3, H, W)) -> [c2, c3, c4, c5]`, maps of `channels` channels and of `strides`.

    `mean` and `std` normalize an RGB image of range 0..1 as the backbone's public weights expect it. The heatmaps are
    made of features `level`: the deepest, or the finest where all resolutions end in them.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = (4, 8, 16, 32)
    level: int = -1
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Features from the shallowest to the deepest."""

    @property
    def earlier(self) -> tuple[tuple[int, int], ...]:
        """Channels and stride of the maps of earlier stages that heads can learn from too, the shallowest first."""
        return tuple(zip(self.channels[1:-1], self.strides[1:-1], strict=True))

    def levels(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features of `image`, and the maps of the `earlier` stages."""
        features: list[Tensor] = self(image)
        return features, features[1:-1]

    def stages(self) -> list[nn.Module]:
        """Modules from shallow to deep that all maps pass on their way in: places where they can be changed.

        Each is called with one map (B, C, h, w) or a list of them. None where the backbone names none.
        """
        return []


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 (vector units work in eights), at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def initialize(module: nn.Module) -> None:
    """He initialization of every convolution by its fan-out per group, batch norm to the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            # Without the groups a depthwise convolution would start out sqrt(channels) times too small.
            fan_out = part.out_channels * math.prod(part.kernel_size) / part.groups
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def initialize_low(module: nn.Module) -> None:
    """Small normal weights (0.001) and zero biases of every convolution and linear layer: the start of HRNet's family.

    With He's the first maps of a network in eval mode, whose running statistics have not settled, are huge.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, std=0.001)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
