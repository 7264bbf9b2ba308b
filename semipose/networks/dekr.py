"""DEKR (Geng et al., CVPR 2021): heatmaps, a map of people's centers, and offsets from each cell to all keypoints."""

import re
from collections import defaultdict
from typing import ClassVar

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields, heatmap_and_center
from semipose.networks.adaptive import AdaptiveBlock
from semipose.networks.backbone import Backbone, initialize_low
from semipose.networks.heads import SceneHead
from semipose.networks.neck import neck_of
from semipose.networks.resnet import BasicBlock

# Channels of each keypoint's own branch, and of the heatmap branch for backbones other than HRNet.
_OWN, _LIGHT = 15, 32
# The published network has modules of each keypoint: layers.KEYPOINT.BLOCK.NAME and layer.KEYPOINT.NAME.
_PIECE = re.compile(r"(.*offset_(?:feature_layers|final_layer))\.(\d+)\.(\d+\.[\w.]+|weight|bias)")


class DekrHead(SceneHead):
    """Fields "heatmap" (K) and "center" (1), and "offsets" (2K, vectors x, y of each keypoint), all of stride 4.

    Offsets are in cells: keypoint = cell - offset. Each keypoint has a branch of `_OWN` channels with adaptive
    convolutions (`adaptive`, see `AdaptiveBlock`). All branches are computed at once, as groups of one convolution;
    `ours` joins the parameters of public checkpoints accordingly.
    """

    options: ClassVar = {"adaptive": True, "identity_init": False}

    def __init__(
        self,
        backbone: Backbone,
        flip: tuple[int, ...],
        channels: int,
        *,
        adaptive: bool = True,
        identity_init: bool = False,
    ) -> None:
        super().__init__(backbone)
        self.flip, keypoints = flip, len(flip)
        self.neck = neck_of(backbone, max(1, channels // 2))
        shared = backbone.channels[0] if backbone.level == 0 else _LIGHT
        self.transition_heatmap = _layer(self.neck.channels, shared)
        self.head_heatmap = nn.ModuleList(
            [nn.Sequential(BasicBlock(shared, shared, 1)), nn.Conv2d(shared, keypoints + 1, 1)]
        )
        self.transition_offset = _layer(self.neck.channels, _OWN * keypoints)
        blocks = [AdaptiveBlock(_OWN, keypoints, adaptive=adaptive) for _ in range(2)]
        self.offset_feature_layers = nn.Sequential(*blocks)
        self.offset_final_layer = nn.Conv2d(_OWN * keypoints, 2 * keypoints, 1, groups=keypoints)
        self.rows = {
            name: ((0, len(value) // keypoints),)
            for name, value in self.state_dict().items()
            if "offset" in name and value.ndim
        } | {f"head_heatmap.1.{part}": ((0, 1), (1, 0)) for part in ("weight", "bias")}
        initialize_low(self)
        for block in blocks:
            block.initialize(identity_init)

    def forward(self, features: list[Tensor]) -> Fields:
        x = self.neck(features)
        maps = self.head_heatmap[1](self.head_heatmap[0](self.transition_heatmap(x)))
        offsets = self.offset_final_layer(self.offset_feature_layers(self.transition_offset(x)))
        both = tuple(2 * partner + axis for partner in self.flip for axis in range(2))
        return Fields(heatmap_and_center(maps, self.flip) | {"offsets": Field(offsets, "vector", 4, both)})

    def ours(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Join the published modules, one per keypoint, along the first dimension."""
        pieces: dict[str, dict[int, Tensor]] = defaultdict(dict)
        whole = {}
        for name, value in tensors.items():
            if piece := _PIECE.fullmatch(name):
                pieces[f"{piece[1]}.{piece[3]}"][int(piece[2])] = value
            else:
                whole[name] = value
        return whole | {name: _joined(found) for name, found in pieces.items()}


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _joined(found: dict[int, Tensor]) -> Tensor:
    """Concatenate the keypoints' tensors; return an empty tensor, which fits nothing, where they do not match."""
    values = [found[keypoint] for keypoint in sorted(found)]
    first = values[0]
    if not first.ndim:
        return first  # a counter of batches
    if sorted(found) != list(range(len(found))) or any(value.shape != first.shape for value in values):
        return first.new_empty(0)
    return torch.cat(values)
