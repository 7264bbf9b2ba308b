"""ResNet against the public checkpoints: their numbers of parameters, names, shapes and strides."""

import pytest
import torch

from semipose.networks import resnet

# The published totals less the classifier (512 or 2048 inputs x 1000 classes + 1000).
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_in_the_public_checkpoint(name: str) -> None:
    with torch.device("meta"):
        backbone = getattr(resnet, name)()
    assert sum(p.numel() for p in backbone.parameters()) == PARAMETERS[name]


def test_names_and_shapes_are_those_of_the_public_checkpoint() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in resnet.resnet50().state_dict().items()}
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.bn3.bias": (256,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (256,),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "layer4.2.bn3.num_batches_tracked": (),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    # 53 convolutions with a batch norm of five entries each.
    assert len(shapes) == 53 * 6


def test_the_stride_of_a_bottleneck_is_in_its_3x3_convolution() -> None:
    with torch.device("meta"):
        block = resnet.resnet50().layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    ("name", "width", "channels"),
    [
        ("resnet18", 1.0, (64, 128, 256, 512)),
        ("resnet18", 0.3, (16, 40, 80, 152)),  # 19.2, 38.4, 76.8, 153.6 to the nearest eight
        ("resnet50", 0.5, (128, 256, 512, 1024)),
        ("resnet34", 0.01, (8, 8, 8, 8)),  # never less than eight
    ],
)
def test_features_have_the_announced_channels_and_strides(name: str, width: float, channels: tuple[int, ...]) -> None:
    backbone = getattr(resnet, name)(width)
    features = backbone(torch.rand(1, 3, 64, 96))
    assert backbone.channels == channels
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]
