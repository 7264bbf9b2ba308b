"""Base of the backbones: a normalized image goes in, feature maps of strides 4, 8, 16 and 32 come out."""

import math
from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module, ABC):
    """`forward(image (B, 3, H, W)) -> [c2, c3, c4, c5]`, maps of `channels` channels and of `strides`.

    `mean` and `std` normalize an RGB image of range 0..1 as the backbone's public weights expect it. `level` is the
    index of the features that a head of one scale uses: the deepest, or the finest where it merges all resolutions
    (HRNet). `frozen` is the number of stages that do not train.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...] = (4, 8, 16, 32)
    level: int = -1
    frozen: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the features, from the shallowest to the deepest."""

    @property
    def earlier(self) -> tuple[tuple[int, int], ...]:
        """Channels and stride of the earlier stages that auxiliary heads can use, the shallowest first."""
        return tuple(zip(self.channels[1:-1], self.strides[1:-1], strict=True))

    def levels(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of `image`, and the maps of the `earlier` stages."""
        features: list[Tensor] = self(image)
        return features, features[1:-1]

    def stages(self) -> list[nn.Module]:
        """List the modules, shallow to deep, whose input maps a forward hook can change.

        Each is called with one map (B, C, h, w) or a list of them. Empty where the backbone names none.
        """
        return []

    def first_feature(self, stage: nn.Module) -> int:
        """Return the index of the first feature that depends on `stage`, one of `stages()`."""
        stages = self.stages()
        return len(self.channels) - len(stages) + stages.index(stage)

    def stage_parts(self) -> list[list[nn.Module]]:
        """List the modules of each of the four stages; the stem is part of the first. Empty where they are unknown."""
        return []

    def freeze(self, stages: int) -> None:
        """Exclude the first `stages` stages from training: no gradients, and batch norms stay in eval mode.

        The backward pass ends behind them. Raises ValueError where the backbone has fewer stages.
        """
        if not 0 <= stages <= len(self.stage_parts()):
            raise ValueError(f"{stages} stages to freeze; the backbone has {len(self.stage_parts())}")
        self.frozen = stages
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def frozen_names(self) -> list[str]:
        """List the names of the tensors in the frozen stages."""
        parts = self._frozen_parts()
        frozen = [name for name, module in self.named_modules() if any(module is part for part in parts)]
        return [name for name in self.state_dict() if any(name.startswith(f"{part}.") for part in frozen)]

    def _frozen_parts(self) -> list[nn.Module]:
        return [part for parts in self.stage_parts()[: self.frozen] for part in parts]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all stages but the frozen ones, which stay in eval mode."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self


def scaled(channels: int, width: float) -> int:
    """Multiply `channels` by `width`, rounded to a multiple of 8 (for vector units), at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def initialize(module: nn.Module) -> None:
    """Initialize every convolution by He's rule (fan-out per group), and batch norms as the identity."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            # Without the groups a depthwise convolution would start out sqrt(channels) times too small.
            fan_out = part.out_channels * math.prod(part.kernel_size) / part.groups
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def initialize_low(module: nn.Module) -> None:
    """Initialize every convolution and linear layer as HRNet does: normal weights of std 0.001, zero biases.

    With He's rule, the first maps of a network in eval mode are huge until its running statistics have settled.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, std=0.001)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
