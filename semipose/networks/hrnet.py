"""HRNet (Sun et al., 2019) with the parameter names of the public pose checkpoints: branches of four resolutions."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.networks.backbone import Backbone, initialize_low, scaled
from semipose.networks.resnet import BasicBlock, Bottleneck, conv, stage

# Exchange modules of the stages with two, three and four branches.
_MODULES = (1, 4, 3)


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _resample(channels: Sequence[int], source: int, goal: int) -> nn.Sequential:
    """Resample branch `source` to the resolution and channels of branch `goal`; identity for the same branch."""
    if source > goal:
        upsample = nn.Upsample(scale_factor=2 ** (source - goal), mode="nearest")
        return nn.Sequential(conv(channels[source], channels[goal], 1), nn.BatchNorm2d(channels[goal]), upsample)
    steps = [_layer(channels[source], channels[source], 2) for _ in range(source, goal - 1)]
    if source < goal:
        last = conv(channels[source], channels[goal], 3, 2), nn.BatchNorm2d(channels[goal])
        steps.append(nn.Sequential(*last))
    return nn.Sequential(*steps)


class _Exchange(nn.Module):
    """Four residual blocks in each branch; then the first `outputs` branches each sum the maps of all branches."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(stage(BasicBlock, width, width, 4, 1) for width in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resample(channels, source, goal) for source in range(len(channels)))
            for goal in range(outputs)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        found = [[resample(x) for resample, x in zip(row.children(), maps, strict=True)] for row in self.fuse_layers]
        # In place on the sums: a branch's own map is one of the terms, and still needed.
        sums = [F.relu(reduce(torch.add, terms), inplace=True) for terms in found]
        return sums + maps[len(sums) :]


class HRNet(Backbone):
    """Stem, one stage at stride 4, then stages of two, three and four branches of strides 4 to 32.

    The first branch has `channels` channels, each further one twice as many; `width` multiplies all of them. The
    features are the branches after the last stage. As in the public pose checkpoints, its last module adds all
    branches into the finest only. With `exchanged` it adds all into each, as for ImageNet and in DEKR and CID.
    """

    level = 0

    def __init__(self, channels: int, width: float = 1.0, exchanged: bool = False) -> None:
        super().__init__()
        self.exchanged = exchanged
        self.channels = tuple(scaled(channels * 2**branch, width) for branch in range(4))
        stem = scaled(64, width)
        self.conv1, self.bn1 = conv(3, stem, 3, 2), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = conv(stem, stem, 3, 2), nn.BatchNorm2d(stem)
        self.layer1 = stage(Bottleneck, stem, stem, 4, 1)
        first, second = self.channels[:2]
        inputs = stem * Bottleneck.expansion
        self.transition1 = nn.ModuleList([_layer(inputs, first, 1), nn.Sequential(_layer(inputs, second, 2))])
        self.transition2, self.transition3 = self._transition(2), self._transition(3)
        self.stage2, self.stage3, self.stage4 = (self._stage(branches) for branches in (2, 3, 4))
        # As published. With He's rule the exchanges multiply: until the running statistics have settled, heatmaps in
        # eval mode, a teacher's first targets, would be 100,000 high.
        initialize_low(self)

    def _transition(self, branches: int) -> nn.ModuleList:
        """Keep `branches` maps and add a coarser one made of the last."""
        new = nn.Sequential(_layer(self.channels[branches - 1], self.channels[branches], 2))
        return nn.ModuleList([*(nn.Sequential() for _ in range(branches)), new])

    def _stage(self, branches: int) -> nn.Sequential:
        modules, channels = _MODULES[branches - 2], self.channels[:branches]
        outputs = [branches] * modules
        if branches == 4 and not self.exchanged:
            outputs[-1] = 1
        return nn.Sequential(*(_Exchange(channels, count) for count in outputs))

    @property
    def earlier(self) -> tuple[tuple[int, int], ...]:
        """The branch of stride 4 after the stages of two and of three branches."""
        return ((self.channels[0], 4),) * 2

    def forward(self, image: Tensor) -> list[Tensor]:
        return self._after_stages(image)[-1]

    def levels(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of `image`, and the maps of the `earlier` stages."""
        *earlier, features = self._after_stages(image)
        return features, [maps[0] for maps in earlier]

    def _after_stages(self, image: Tensor) -> list[list[Tensor]]:
        """Return the maps of all branches after the stages of two, three and four branches."""
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        maps, found = [self.layer1(x)], []
        for transition, stage_of_branches in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            maps = [step(maps[min(branch, len(maps) - 1)]) for branch, step in enumerate(transition)]
            maps = stage_of_branches(maps)
            found.append(maps)
        return found

    def stages(self) -> list[nn.Module]:
        """Return the stages of one to four branches."""
        return [self.layer1, self.stage2, self.stage3, self.stage4]

    def stage_parts(self) -> list[list[nn.Module]]:
        """List the modules of the stages of one to four branches; the first begins with the stem."""
        return [
            [self.conv1, self.bn1, self.conv2, self.bn2, self.layer1],
            [self.transition1, self.stage2],
            [self.transition2, self.stage3],
            [self.transition3, self.stage4],
        ]


def hrnet_w32(width: float = 1.0, exchanged: bool = False) -> HRNet:
    """Build HRNet-W32: 28.5 M parameters at width 1."""
    return HRNet(32, width, exchanged)


def hrnet_w48(width: float = 1.0, exchanged: bool = False) -> HRNet:
    """Build HRNet-W48: 63.6 M parameters at width 1."""
    return HRNet(48, width, exchanged)
