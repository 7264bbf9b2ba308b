"""ResNet (He et al., 2015) with the parameter names of the public ImageNet checkpoints.

As in those checkpoints, the stride of a bottleneck is in its 3x3 convolution (V1.5).
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from semipose.networks.backbone import Backbone, initialize, scaled


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution without bias whose padding keeps the resolution at stride 1."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class _Block(nn.Module, ABC):
    """A residual block; `downsample` changes the shortcut to the output's shape where they differ."""

    expansion: int
    downsample: nn.Module | None

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """Compute the residual, which is added to the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.residual(x) + shortcut, inplace=True)


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.downsample = _downsample(inputs, planes, stride)

    def residual(self, x: Tensor) -> Tensor:
        """Two 3x3 convolutions; the first has the stride."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        return x


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride), 1x1 to four times the channels."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        outputs = planes * self.expansion
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def residual(self, x: Tensor) -> Tensor:
        """1x1 down, 3x3 with the stride, 1x1 up."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.bn3(self.conv3(x))
        return x


AnyBlock = type[BasicBlock] | type[Bottleneck]


class ResNet(Backbone):
    """`depths` blocks in the four stages; `width` multiplies every number of channels."""

    def __init__(self, block: AnyBlock, depths: tuple[int, int, int, int], width: float = 1.0) -> None:
        super().__init__()
        planes = [scaled(channels, width) for channels in (64, 128, 256, 512)]
        self.channels = tuple(channels * block.expansion for channels in planes)
        stem = planes[0]
        self.conv1, self.bn1 = conv(3, stem, 7, 2), nn.BatchNorm2d(stem)
        inputs = [stem, *self.channels]
        stages = [
            stage(block, before, channels, depth, stride)
            for before, channels, depth, stride in zip(inputs[:-1], planes, depths, (1, 2, 2, 2), strict=True)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialize(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features

    def stages(self) -> list[nn.Module]:
        """Return the four stages; their inputs have strides 4, 4, 8 and 16."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def stage_parts(self) -> list[list[nn.Module]]:
        """List the modules of the stages; the first begins with the stem."""
        return [[self.conv1, self.bn1, self.layer1], [self.layer2], [self.layer3], [self.layer4]]


def stage(block: AnyBlock, inputs: int, planes: int, depth: int, stride: int) -> nn.Sequential:
    """Stack `depth` residual blocks, the first with `stride`, to `planes * block.expansion` channels."""
    channels = [inputs] + [planes * block.expansion] * depth
    return nn.Sequential(*(block(channels[i], planes, stride if i == 0 else 1) for i in range(depth)))


def resnet18(width: float = 1.0) -> ResNet:
    """Build ResNet-18: 11.2 M parameters at width 1."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width)


def resnet34(width: float = 1.0) -> ResNet:
    """Build ResNet-34: 21.3 M parameters at width 1."""
    return ResNet(BasicBlock, (3, 4, 6, 3), width)


def resnet50(width: float = 1.0) -> ResNet:
    """Build ResNet-50: 23.5 M parameters at width 1."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width)


def resnet101(width: float = 1.0) -> ResNet:
    """Build ResNet-101: 42.5 M parameters at width 1."""
    return ResNet(Bottleneck, (3, 4, 23, 3), width)


def resnet152(width: float = 1.0) -> ResNet:
    """Build ResNet-152: 58.1 M parameters at width 1."""
    return ResNet(Bottleneck, (3, 8, 36, 3), width)
