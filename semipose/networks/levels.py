"""Multi-level feature learning: heatmaps also from earlier stages of a network's backbone, while it trains."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.losses.heatmap import field_loss, heatmap_loss
from semipose.networks.heads import DeconvHead
from semipose.networks.network import PoseNetwork


class MultiLevel(PoseNetwork):
    """`network` with an auxiliary head on each of two earlier stages, in train mode alone (Yun et al. 2025).

    Each head makes heatmaps of the network's stride: transposed convolutions where the stage is coarser, else a 1x1
    convolution (HRNet). `shares` are the weights of their losses from the shallowest on; a stage of share 0 gets no
    head. `network` is the plain one, which is what is evaluated, saved and exported; in eval mode this is it, too.
    """

    def __init__(self, network: PoseNetwork, shares: Sequence[float]) -> None:
        # Not PoseNetwork's: backbone and head are the network's.
        nn.Module.__init__(self)
        self.network = network
        self.stride, self.flip, self.keypoints, self.config = (
            network.stride,
            network.flip,
            network.keypoints,
            network.config,
        )
        self.shares = {number: share for number, share in enumerate(shares) if share > 0}
        if self.shares and max(self.shares) >= len(network.backbone.earlier):
            raise ValueError(f"{len(shares)} shares for {len(network.backbone.earlier)} earlier stages of the backbone")
        # Only the CPU's generator, and left as it was, like in build_network.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(network.seed)
            self.heads = nn.ModuleDict({str(number): self._head(number) for number in self.shares})

    def _head(self, number: int) -> DeconvHead:
        channels, stride = self.network.backbone.earlier[number]
        doublings = (stride // self.stride).bit_length() - 1
        return DeconvHead(channels, len(self.flip), (self.config["head_channels"],) * doublings)

    def features(self, image: Tensor) -> list[Tensor]:
        """The network's."""
        return self.network.features(image)

    def forward(self, image: Tensor) -> Fields:
        """The network's fields of `image` (B, 3, H, W), in train mode also `["level0"]`, ... of the earlier stages."""
        if not self.training:
            return self.network(image)
        features, earlier = self.network.levels(image)
        maps = {"heatmap": self.network.head(features[self.network.backbone.level])}
        maps |= {f"level{number}": head(earlier[int(number)]) for number, head in self.heads.items()}
        return Fields({name: Field(each, "scalar", self.stride, self.flip) for name, each in maps.items()})

    def loss(self, predicted: Fields, target: Fields, weight: Tensor) -> Tensor:
        """The loss of the last level, and by their shares those of the earlier ones against the same heatmaps."""
        loss = field_loss(predicted, target, weight)
        for number, share in self.shares.items():
            loss = loss + share * heatmap_loss(predicted[f"level{number}"].maps, target["heatmap"].maps, weight)
        return loss
