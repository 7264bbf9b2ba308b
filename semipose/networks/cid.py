"""CID (Wang and Zhang, CVPR 2022): keypoints and centers of all people, then each person's own heatmaps.

The features at a person's center parametrize two attentions over shared maps, which select that person.
"""

import math

import torch
from torch import Tensor, nn

from semipose.fields import PROBABILITY_MARGIN, InstanceFields, heatmap_and_center
from semipose.networks.backbone import Backbone, initialize_low
from semipose.networks.heads import ONE_EACH, SceneHead
from semipose.networks.neck import neck_of

# Channels of the shared maps, the unit of offsets to a center in cells, and the initial probability of a keypoint.
_SHARED, _OFFSET_UNIT, _PRIOR = 32, 32, 0.01


class CidHead(SceneHead):
    """Fields "heatmap" (K) and "center" (1), probabilities of stride 4, as `InstanceFields`; see there for people."""

    def __init__(self, backbone: Backbone, flip: tuple[int, ...], channels: int) -> None:
        super().__init__(backbone)
        self.flip = flip
        self.neck = neck_of(backbone, max(1, channels // 2))
        self.iia = _Centers(self.neck.channels, len(flip))
        self.gfd = PersonHead(self.neck.channels, len(flip))
        self.rows = {f"iia.keypoint_center_conv.{part}": ((0, 1), (1, 0)) for part in ("weight", "bias")}
        self.rows |= {f"gfd.heatmap_conv.{part}": ONE_EACH for part in ("weight", "bias")}
        # Differs from the public code, which initializes the person head so too. A person's heatmap is a product of
        # five weights. With 0.001 each it had not learned to localize people after a thousand updates; with the last
        # alone at 0.001 it was slow, and once failed.
        for part in (self.neck, self.iia):
            initialize_low(part)
        for conv in (self.iia.keypoint_center_conv, self.gfd.heatmap_conv):
            nn.init.constant_(conv.get_parameter("bias"), math.log(_PRIOR / (1 - _PRIOR)))

    def forward(self, features: list[Tensor]) -> InstanceFields:
        x = self.neck(features)
        fields = heatmap_and_center(self.iia(x), self.flip)
        return InstanceFields(fields, x, self.gfd.conv_down(x).contiguous(), self.gfd)


def _probability(logits: Tensor) -> Tensor:
    """Apply the sigmoid in float32: bfloat16 has no value between 0.996 and 1, and the loss takes logarithms."""
    return logits.float().sigmoid().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)


class _Centers(nn.Module):
    """Predict the probabilities of the keypoints and, last, of the people's centers."""

    def __init__(self, inputs: int, keypoints: int) -> None:
        super().__init__()
        self.keypoint_center_conv = nn.Conv2d(inputs, keypoints + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _probability(self.keypoint_center_conv(x))


class _ChannelAttention(nn.Module):
    """Weights of the shared maps, from the features at a person's center."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.atn = nn.Linear(inputs, _SHARED)


class _SpatialAttention(_ChannelAttention):
    """Weights of the cells, from the weighted sum of the shared maps and the offset to the center."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.conv = nn.Conv2d(3, 1, 5, padding=2)


class PersonHead(nn.Module):
    """Predict the heatmaps (n, K, h, w) of n people from parameters (n, C), shared maps (B, D, h, w) and cells (n, 2).

    Each image has n / B people, one image after the other. As published, the shared maps weighted by channel and by
    cell are concatenated and mixed by a 1x1 convolution. Both weights are factors, so the mix is computed from the
    shared maps once for all people of an image, with half the memory.
    """

    def __init__(self, inputs: int, keypoints: int) -> None:
        super().__init__()
        self.conv_down = nn.Conv2d(inputs, _SHARED, 1)
        self.c_attn, self.s_attn = _ChannelAttention(inputs), _SpatialAttention(inputs)
        self.fuse_attn = nn.Conv2d(2 * _SHARED, _SHARED, 1)
        self.heatmap_conv = nn.Conv2d(_SHARED, keypoints, 1)

    def forward(self, parameters: Tensor, shared: Tensor, cells: Tensor) -> Tensor:
        # In the precision of the network's output: people may be predicted after its autocast has ended.
        rough = shared.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(shared.device.type, shared.dtype if rough else None, enabled=rough):
            return self._heatmaps(parameters, shared, cells)

    def _heatmaps(self, parameters: Tensor, shared: Tensor, cells: Tensor) -> Tensor:
        # Products of matrices: a CPU takes up to five times as long for 1x1 convolutions.
        images, _, height, width = shared.shape
        people = len(cells)
        by_channel, by_place = self.fuse_attn.weight.view(_SHARED, 2, _SHARED).unbind(1)
        summed = self.s_attn.atn(parameters)
        weight = by_channel * self.c_attn.atn(parameters)[:, None]
        each = people // max(1, images)
        sizes = [each, each * _SHARED, _SHARED]
        three = (summed, weight, by_place.to(summed.dtype).expand(images, -1, -1))
        rows = torch.cat([part.view(images, size, _SHARED) for part, size in zip(three, sizes, strict=True)], 1)
        total, mixed, there = torch.bmm(rows, shared.flatten(2)).split(sizes, 1)
        attention = self._spatial_weights(total.reshape(people, 1, height, width), cells).view(
            images, each, 1, height * width
        )
        bias = self.fuse_attn.get_parameter("bias")[:, None]
        mixed = mixed.view(images, each, _SHARED, height * width)
        mixed = torch.addcmul(mixed, attention, there[:, None]).add_(bias).relu_().flatten(0, 1)
        weight, bias = self.heatmap_conv.weight.flatten(1), self.heatmap_conv.get_parameter("bias")[:, None]
        maps = torch.bmm(weight.expand(people, -1, -1), mixed).add_(bias)
        return _probability(maps).unflatten(2, (height, width))

    def _spatial_weights(self, total: Tensor, cells: Tensor) -> Tensor:
        """Return the weight (n, 1, h, w) in 0..1 of each cell for the people at `cells`."""
        offset = _offset(cells, total.shape[2], total.shape[3]).to(total.dtype)
        attention: Tensor = self.s_attn.conv(torch.cat([total, offset], 1)).sigmoid()
        return attention


def _offset(cells: Tensor, height: int, width: int) -> Tensor:
    """Return the offset (n, 2, h, w), x and y, from each cell to the center at `cells` (n, 2), in `_OFFSET_UNIT`s."""
    x = cells[:, 0, None, None] - torch.arange(width, device=cells.device)
    y = cells[:, 1, None, None] - torch.arange(height, device=cells.device)[:, None]
    return torch.stack(torch.broadcast_tensors(x, y), 1) / _OFFSET_UNIT
