"""Necks: features of strides 4 to 32 to one map of stride 4."""

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.networks.neck import Concatenated, Reduced


def features() -> list[Tensor]:
    return [
        torch.rand(2, channels, 32 // stride, 64 // stride) for channels, stride in ((3, 4), (5, 8), (4, 16), (6, 32))
    ]


def side_by_side(maps: list[Tensor]) -> Tensor:
    return torch.cat([F.interpolate(x, size=maps[0].shape[2:], mode="bilinear", align_corners=False) for x in maps], 1)


def test_hrnets_features_stand_side_by_side() -> None:
    maps = features()
    neck = Concatenated([3, 5, 4, 6])
    assert neck.channels == 18
    torch.testing.assert_close(neck(maps), side_by_side(maps))
    assert not list(neck.parameters())


def test_reducing_before_enlarging_equals_one_convolution_of_all_features_side_by_side() -> None:
    maps, neck = features(), Reduced([3, 5, 4, 6], 7).eval()
    weight = torch.cat([reduce.weight for reduce in neck.reduce], 1)
    neck.bn.running_mean.uniform_(-0.2, 0.2)
    expected = F.relu(neck.bn(F.conv2d(side_by_side(maps), weight)))
    torch.testing.assert_close(neck(maps), expected)
    assert neck(maps).shape[1] == neck.channels == 7
