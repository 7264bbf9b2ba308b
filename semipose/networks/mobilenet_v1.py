"""MobileNetV1 (Howard et al., 2017) as TensorFlow trained it: SAME padding, its batch norm."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from semipose.networks.backbone import Backbone, initialize, scaled

# Output channels at width 1 and stride of the thirteen depthwise-separable blocks.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)) + ((512, 1),) * 5 + ((1024, 2), (1024, 1))
# The last block of each stride from 4 to 32: its output is a feature map.
_FEATURES = (2, 4, 10, 12)


class ConvBN(nn.Module):
    """Convolution without bias, batch norm (eps 0.001), ReLU6, with TensorFlow's SAME padding.

    SAME gives ceil(n / stride) outputs and puts an odd pixel of padding at the bottom and right. At stride 2
    an even side is padded by (0, 1), an odd one by (1, 1). Padding (1, 1) throughout would shift the features
    of weights trained this way by half a step.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        # At stride 1 SAME is symmetric, and the convolution pads faster by itself.
        padding = size // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride > 1:
            x = F.pad(x, (*_same(x.shape[-1], size, stride), *_same(x.shape[-2], size, stride)))
        return F.relu6(self.bn(self.conv(x)), inplace=True)


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after a side of `length` pixels."""
    total = max(0, (-(-length // stride) - 1) * stride + size - length)
    return total // 2, total - total // 2


class _Separable(nn.Module):
    """A depthwise 3x3 and a pointwise 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.dw = ConvBN(inputs, inputs, 3, stride, groups=inputs)
        self.pw = ConvBN(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pw(self.dw(x))
        return x


class MobileNetV1(Backbone):
    """MobileNetV1; `width` multiplies every number of channels."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = [scaled(32, width), *(scaled(outputs, width) for outputs, _ in _BLOCKS)]
        self.channels = tuple(channels[index + 1] for index in _FEATURES)
        self.stem = ConvBN(3, channels[0], 3, stride=2)
        self.blocks = nn.ModuleList(
            _Separable(channels[i], channels[i + 1], stride) for i, (_, stride) in enumerate(_BLOCKS)
        )
        initialize(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _FEATURES:
                features.append(x)
        return features

    def stages(self) -> list[nn.Module]:
        """Return the first block at stride 4, and the blocks that downsample strides 4, 8 and 16."""
        return [self.blocks[index] for index in (2, *(feature + 1 for feature in _FEATURES[:-1]))]

    def stage_parts(self) -> list[list[nn.Module]]:
        """List the blocks up to each feature map; the first stage begins with the stem."""
        ends = [feature + 1 for feature in _FEATURES]
        first, *others = ([*self.blocks[start:end]] for start, end in pairwise([0, *ends]))
        return [[self.stem, *first], *others]


def mobilenet_v1(width: float = 1.0) -> MobileNetV1:
    """Build MobileNetV1, for CPUs: 3.2 M parameters at width 1, 1.8 M at 0.75."""
    return MobileNetV1(width)
