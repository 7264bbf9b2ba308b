"""Heads: features of strides 4 to 32 go in; heatmaps, or all fields of a detector-free network, come out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from semipose.fields import Fields
from semipose.networks.backbone import Backbone
from semipose.networks.neck import Reduced

# Layers per transposed convolution: itself, batch norm, ReLU.
_LAYERS = 3

# The layout of a tensor's first dimension: for each part, the number of shared rows, then of rows per keypoint.
Rows = tuple[tuple[int, int], ...]
ONE_EACH: Rows = ((0, 1),)


def row_count(rows: Rows, keypoints: int) -> int:
    """Return the length of the first dimension for `keypoints` keypoints."""
    return sum(shared + each * keypoints for shared, each in rows)


def row_numbers(rows: Rows, keypoints: int, chosen: Sequence[int]) -> list[int]:
    """List the shared rows and, in the order of `chosen`, the rows of these of `keypoints` keypoints."""
    numbers: list[int] = []
    start = 0
    for shared, each in rows:
        numbers += range(start, start + shared)
        start += shared
        for keypoint in chosen:
            numbers += range(start + each * keypoint, start + each * (keypoint + 1))
        start += each * keypoints
    return numbers


def deconvolutions(inputs: int, channels: Sequence[int]) -> nn.Sequential:
    """Stack transposed convolutions (4x4, stride 2, no bias, batch norm, ReLU) to each of `channels`."""
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *channels]):
        deconv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        nn.init.normal_(deconv.weight, std=0.001)
        layers += [deconv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Head(nn.Module):
    """The part of a network behind its backbone.

    Its maps are `upscale` times finer than the backbone's own level. `rows` maps the names of tensors with rows per
    keypoint to their layout; every other tensor has the same shape for any keypoints. A `multi_scale` head takes the
    list of all features, another one those of the backbone's own level.
    """

    multi_scale = False
    upscale: int
    rows: dict[str, Rows]

    def ours(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Join those `tensors` of a file that the published network keeps in pieces, under our names."""
        return tensors


class SceneHead(Head, ABC):
    """Base of detector-free heads: features of a whole image to the fields of all people in it, for K keypoints.

    A subclass is built from the `backbone`, the skeleton's `flip`, `channels` (of the transposed convolutions, twice
    those of a neck) and its switches. `options` holds the switches' defaults.
    """

    multi_scale = True
    options: ClassVar[Mapping[str, bool]] = {}

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.upscale = backbone.strides[backbone.level] // 4

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Fields:
        """Predict the fields of stride 4; finer ones have names of their own."""


def _final_layer(inputs: int, outputs: int) -> nn.Conv2d:
    """Make the 1x1 convolution to `outputs` maps, which are near 0 at first."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


class MultiScaleHead(Head):
    """Features of all strides reduced to `channels`, upsampled to stride 4 and added; then 3x3, then 1x1 to the maps.

    For small inputs, whose map of stride 32 has a dozen cells. The two hidden convolutions have batch norm and ReLU.
    """

    multi_scale = True

    def __init__(self, backbone: Backbone, outputs: int, channels: int = 64) -> None:
        super().__init__()
        self.upscale = backbone.strides[backbone.level] // backbone.strides[0]
        self.rows = {"final_layer.weight": ONE_EACH, "final_layer.bias": ONE_EACH}
        self.neck = Reduced(backbone.channels, channels)
        self.conv, self.bn = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.final_layer = _final_layer(channels, outputs)

    def inputs(self) -> list[nn.Module]:
        """List the modules that are called with the features, shallow to deep."""
        return [*self.neck.reduce]

    def forward(self, features: list[Tensor]) -> Tensor:
        maps: Tensor = self.final_layer(F.relu(self.bn(self.conv(self.neck(features))), inplace=True))
        return maps


class DeconvHead(Head):
    """Transposed convolutions (4x4, stride 2, no bias, batch norm, ReLU), then 1x1 to `outputs` maps.

    The head of Simple Baselines (Xiao et al., 2018), whose parameter names it keeps. Each entry of `channels`
    doubles the resolution: (B, inputs, h, w) -> (B, outputs, 8h, 8w) with three of them. With none it is the head of
    HRNet, the 1x1 convolution alone.
    """

    def __init__(self, inputs: int, outputs: int, channels: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        self.upscale = 2 ** len(channels)
        self.rows = {"final_layer.weight": ONE_EACH, "final_layer.bias": ONE_EACH}
        self.deconv_layers = deconvolutions(inputs, channels)
        self.final_layer = _final_layer([inputs, *channels][-1], outputs)

    def after(self, deconvolutions: int | None) -> nn.Module:
        """Return the module that follows `deconvolutions` transposed convolutions; None: all of them.

        Raises ValueError where the head has fewer.
        """
        parts = [*self.deconv_layers, self.final_layer]
        number = len(parts) - 1 if deconvolutions is None else _LAYERS * deconvolutions
        if number >= len(parts):
            found = len(self.deconv_layers) // _LAYERS
            raise ValueError(f"the head has {found} deconvolutions, so no map after {deconvolutions}")
        return parts[number]

    def forward(self, features: Tensor) -> Tensor:
        maps: Tensor = self.final_layer(self.deconv_layers(features))
        return maps
