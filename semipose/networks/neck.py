"""Necks of detector-free networks: features of strides 4 to 32 go in, one map of stride 4 comes out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.networks.backbone import Backbone


def neck_of(backbone: Backbone, channels: int) -> "Concatenated | Reduced":
    """Concatenate HRNet's features, as published; reduce those of other backbones to `channels`."""
    return Concatenated(backbone.channels) if backbone.level == 0 else Reduced(backbone.channels, channels)


class Concatenated(nn.Module):
    """Concatenate the features, upsampling the coarser ones bilinearly."""

    def __init__(self, inputs: Sequence[int]) -> None:
        super().__init__()
        self.channels = sum(inputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.cat([_upsampled(feature, features[0]) for feature in features], 1)


class Reduced(nn.Module):
    """Concatenate the features, then a 1x1 convolution to `channels`, batch norm and ReLU.

    Computed in the other order: each feature is reduced at its own resolution, then upsampled and added. Both steps
    are linear, so the result is the same, and the map of all channels (3,840 of a ResNet-50) is never made.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.reduce = nn.ModuleList(nn.Conv2d(count, channels, 1, bias=False) for count in inputs)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        reduced = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        total = reduced[0]
        for feature in reduced[1:]:
            total = total + _upsampled(feature, total)
        return F.relu(self.bn(total), inplace=True)


def _upsampled(feature: Tensor, finest: Tensor) -> Tensor:
    if feature.shape[-2:] == finest.shape[-2:]:
        return feature
    size = (finest.shape[-2], finest.shape[-1])
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
