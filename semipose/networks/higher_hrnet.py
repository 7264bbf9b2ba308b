"""HigherHRNet (Cheng et al., CVPR 2020) with associative embedding: heatmaps of two resolutions, and tags."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.networks.backbone import Backbone, initialize_low
from semipose.networks.heads import ONE_EACH, SceneHead, deconvolutions
from semipose.networks.neck import Reduced
from semipose.networks.resnet import BasicBlock

# Channels of the finer branch for other backbones; for HRNet as many as its first branch has.
_LIGHT = 32


class HigherHead(SceneHead):
    """Heatmaps of stride 4 and, with `fine`, 2; and a tag per keypoint that is similar within a person.

    Fields: "heatmap" (K, stride 4), "tags" (K, stride 4, an embedding of one number), "fine_heatmap" (K, stride 2).
    HRNet's features of stride 4 are used directly. Those of other backbones pass the neck of DEKR and CID and two
    residual blocks first. Parameter names are those of the public checkpoints. Without `fine` it is the plain head of
    associative embedding (Newell et al., 2017).
    """

    options: ClassVar = {"fine": True}

    def __init__(self, backbone: Backbone, flip: tuple[int, ...], channels: int, *, fine: bool = True) -> None:
        super().__init__(backbone)
        self.flip, keypoints = flip, len(flip)
        self.neck, inputs = _neck(backbone, max(1, channels // 2))
        self.final_layers = nn.ModuleList([nn.Conv2d(inputs, 2 * keypoints, 1)])
        self.deconv_layers = nn.ModuleList()
        self.rows = {f"final_layers.0.{part}": ((0, 1), (0, 1)) for part in ("weight", "bias")}
        if fine:
            width = _LIGHT if backbone.level else inputs
            upward = deconvolutions(inputs + 2 * keypoints, (width,))
            blocks = (nn.Sequential(BasicBlock(width, width, 1)) for _ in range(4))
            self.deconv_layers.append(nn.Sequential(upward, *blocks))
            self.final_layers.append(nn.Conv2d(width, keypoints, 1))
            self.rows |= {f"final_layers.1.{part}": ONE_EACH for part in ("weight", "bias")}
            # A transposed convolution has its inputs first: the features, then heatmaps and tags.
            self.rows["deconv_layers.0.0.0.weight"] = ((inputs, 1), (0, 1))
        initialize_low(self)

    def forward(self, features: list[Tensor]) -> Fields:
        x = self.neck(features)
        coarse = self.final_layers[0](x)
        heatmap, tags = coarse.chunk(2, 1)
        fields = Fields(
            {"heatmap": Field(heatmap, "scalar", 4, self.flip), "tags": Field(tags, "embedding", 4, self.flip)}
        )
        for layers, final in zip(self.deconv_layers, list(self.final_layers)[1:], strict=True):
            fields["fine_heatmap"] = Field(final(layers(torch.cat([x, coarse], 1))), "scalar", 2, self.flip)
        return fields


class _Finest(nn.Module):
    """Select the features of the finest stride."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0]


def _neck(backbone: Backbone, channels: int) -> tuple[nn.Module, int]:
    """Return the neck, from features of all strides to a map of stride 4, and its number of channels."""
    if backbone.level == 0:
        return _Finest(), backbone.channels[0]
    neck = Reduced(backbone.channels, channels)
    return nn.Sequential(neck, *(BasicBlock(channels, channels, 1) for _ in range(2))), channels
