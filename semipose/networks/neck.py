"""Features of strides 4 to 32 in, one map of stride 4 out, for the networks that find everybody in an image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.networks.backbone import Backbone


def neck_of(backbone: Backbone, channels: int) -> "Concatenated | Reduced":
    """HRNet's features side by side, as published; of any other backbone's `channels` in all."""
    return Concatenated(backbone.channels) if backbone.level == 0 else Reduced(backbone.channels, channels)


class Concatenated(nn.Module):
    """The features side by side, the coarser ones enlarged bilinearly: as many channels as they have in all."""

    def __init__(self, inputs: Sequence[int]) -> None:
        super().__init__()
        self.channels = sum(inputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.cat([_enlarged(feature, features[0]) for feature in features], 1)


class Reduced(nn.Module):
    """The features side by side, then a 1x1 convolution to `channels`, batch norm and ReLU.

    Computed the other way round: each feature is reduced where it is, then enlarged and added. Both steps are
    linear, so that it is the same, and the map of all channels (3,840 of a ResNet-50) is never made.
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
            total = total + _enlarged(feature, total)
        return F.relu(self.bn(total), inplace=True)


def _enlarged(feature: Tensor, finest: Tensor) -> Tensor:
    if feature.shape[-2:] == finest.shape[-2:]:
        return feature
    size = (finest.shape[-2], finest.shape[-1])
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
