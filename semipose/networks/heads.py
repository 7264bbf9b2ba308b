"""Heads: features of stride 4 to 32 to maps of stride 4, or to all fields of a network that finds everybody."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from semipose.fields import Fields
from semipose.networks.backbone import Backbone

# Of each transposed convolution: itself, batch norm, ReLU.
_LAYERS = 3

# How a tensor's first dimension is made up, part after part: rows that belong to no keypoint, then rows of each.
Rows = tuple[tuple[int, int], ...]
ONE_EACH: Rows = ((0, 1),)


def row_count(rows: Rows, keypoints: int) -> int:
    """Length of the first dimension for `keypoints` keypoints."""
    return sum(shared + each * keypoints for shared, each in rows)


def row_numbers(rows: Rows, keypoints: int, chosen: Sequence[int]) -> list[int]:
    """The rows that belong to no keypoint and, in the order of `chosen`, those of these of `keypoints` keypoints."""
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
    """Transposed convolutions (4x4, stride 2, no bias, batch norm, ReLU) to each of `channels`."""
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *channels]):
        deconv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
        nn.init.normal_(deconv.weight, std=0.001)
        layers += [deconv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Head(nn.Module):
    """What a network has behind its backbone.

    Its maps are `upscale` times finer than the backbone's own level. `rows` says of tensors that have them which rows
    belong to which keypoint; every other tensor is the same for any keypoints.
    """

    upscale: int
    rows: dict[str, Rows]

    def ours(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` of a file with those that the published network keeps in pieces put together under our names."""
        return tensors


class SceneHead(Head, ABC):
    """Features of strides 4 to 32 of a whole image to the fields of everybody in it, for K keypoints.

    Made from the `backbone`, the skeleton's `flip`, `channels` (the transposed convolutions', twice a neck's) and the
    switches `options`, here with their defaults.
    """

    options: ClassVar[Mapping[str, bool]] = {}

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.upscale = backbone.strides[backbone.level] // 4

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Fields:
        """The fields of stride 4, finer ones under names of their own."""


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
        self.final_layer = nn.Conv2d([inputs, *channels][-1], outputs, 1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))

    def after(self, deconvolutions: int | None) -> nn.Module:
        """The module that the map after so many transposed convolutions goes into, None for all of them.

        Raises ValueError where there are not as many.
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
