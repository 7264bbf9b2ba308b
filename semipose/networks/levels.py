"""Multi-level feature learning: auxiliary heatmaps from earlier stages of a backbone, in training only."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.losses.heatmap import field_loss, heatmap_loss
from semipose.networks.heads import DeconvHead
from semipose.networks.network import PoseNetwork


class MultiLevel(nn.Module):
    """Train `network` with an auxiliary head on each of two earlier stages of its backbone (Yun et al., 2025).

    Each head predicts heatmaps of the network's stride: by transposed convolutions where the stage is coarser, else by
    a 1x1 convolution (HRNet). `shares` are the loss weights of the heads, shallowest first; a stage of share 0 gets no
    head. `network` stays a plain network, which is evaluated, saved and exported. In eval mode no auxiliary head runs.
    """

    def __init__(self, network: PoseNetwork, shares: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.shares = {number: share for number, share in enumerate(shares) if share > 0}
        if self.shares and max(self.shares) >= len(network.backbone.earlier):
            raise ValueError(f"{len(shares)} shares for {len(network.backbone.earlier)} earlier stages of the backbone")
        # Seeds the CPU's generator only and restores it, as in build_network.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(network.seed)
            self.heads = nn.ModuleDict({str(number): self._build_head(number) for number in self.shares})

    def _build_head(self, number: int) -> DeconvHead:
        channels, stride = self.network.backbone.earlier[number]
        doublings = (stride // self.network.stride).bit_length() - 1
        return DeconvHead(channels, len(self.network.flip), (self.network.config["head_channels"],) * doublings)

    def forward(self, image: Tensor) -> Fields:
        """Predict on `image` (B, 3, H, W), RGB in 0..1: the network's fields, and in train mode "level0", "level1"."""
        if not self.training:
            return self.network(image)
        network = self.network
        features, earlier = network.levels(image)
        maps = {"heatmap": network.heatmaps(features)}
        maps |= {f"level{number}": head(earlier[int(number)]) for number, head in self.heads.items()}
        return Fields({name: Field(each, "scalar", network.stride, network.flip) for name, each in maps.items()})

    def loss(self, predicted: Fields, target: Fields, weight: Tensor) -> Tensor:
        """Compute the loss of the last level plus the weighted losses of the earlier ones, all on the same target."""
        loss = field_loss(predicted, target, weight)
        for number, share in self.shares.items():
            loss = loss + share * heatmap_loss(predicted[f"level{number}"].maps, target["heatmap"].maps, weight)
        return loss
