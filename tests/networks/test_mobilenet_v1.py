"""MobileNetV1 against a plain forward pass written from the weights' description, and on real photos."""

from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from semipose.networks.build import build_network
from semipose.networks.mobilenet_v1 import ConvBN, MobileNetV1
from semipose.networks.weights import load_weights
from semipose.pose.skeleton import PRESETS

WEIGHTS = "weights/mobilenet_v1_075.safetensors"
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def plain_forward(weights: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """Features of strides 4 to 32 of `image` in 0..255, convolution by convolution."""

    def layer(x: Tensor, name: str, stride: int) -> Tensor:
        kernel = weights[f"{name}.conv.weight"].to(x.dtype)
        if kernel.shape[-1] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] if kernel.shape[1] == 1 else 1)
        mean, var, gain, bias = (
            weights[f"{name}.bn.{part}"].to(x.dtype)[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / torch.sqrt(var + 0.001) * gain + bias).clamp(0, 6)

    x = layer(image / 127.5 - 1, "stem", 2)
    outputs = []
    for index, stride in enumerate(STRIDES):
        x = layer(layer(x, f"blocks.{index}.dw", stride), f"blocks.{index}.pw", 1)
        outputs.append(x)
    return [outputs[index] for index in (2, 4, 10, 12)]


@pytest.fixture(scope="module")
def weights(data_root: Path) -> dict[str, Tensor]:
    return load_file(data_root / WEIGHTS)


def test_features_equal_a_plain_forward_pass_with_the_real_weights(data_root: Path, weights: dict[str, Tensor]) -> None:
    network = build_network("mobilenet_v1", PRESETS["lsp_14"], width=0.75, head_channels=8).eval()
    load_weights(network, data_root / WEIGHTS)
    # In double precision: in single, two ways to normalize differ by 3e-5 after 27 layers.
    network.double()
    pixels = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        features, expected = network.features(pixels / 255), plain_forward(weights, pixels)
    for ours, plain in zip(features, expected, strict=True):
        assert plain.abs().max() > 1
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_the_real_weights_are_loaded_bit_for_bit(data_root: Path, weights: dict[str, Tensor]) -> None:
    network = build_network("mobilenet_v1", PRESETS["lsp_14"], width=0.75, head_channels=8)
    report = load_weights(network, data_root / WEIGHTS)
    state = network.backbone.state_dict()
    backbone = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    assert len(backbone) == 135
    for name, value in backbone.items():
        assert torch.equal(state[name], value.float()), name
    assert report.text == (
        "mobilenet_v1_075.safetensors: 135 of 135 backbone tensors, head rebuilt for 14 keypoints (the file has "
        "none), 2 of the file unused (classifier.bias, classifier.weight)"
    )


def test_photos_have_the_statistics_that_the_real_weights_expect(data_root: Path) -> None:
    """Batch norm remembers what ImageNet looked like inside.

    Measured as the median |log2| of variance over stored variance, mean over layers: 0.20 as built, 0.29 with
    padding (1, 1), 0.48 with ImageNet's usual normalization, 0.65 with images of 0..1.
    """
    network = build_network("mobilenet_v1", PRESETS["lsp_14"], width=0.75, head_channels=8).eval()
    load_weights(network, data_root / WEIGHTS)
    ratios: list[float] = []

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> None:
        assert norm.running_var is not None
        ratio = inputs[0].var((0, 2, 3)) / (norm.running_var + norm.eps)
        ratios.append(ratio.log2().abs().median().item())

    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(measure)
    with torch.no_grad():
        network.features(_photos(data_root, 24))
    assert sum(ratios) / len(ratios) < 0.24


def _photos(data_root: Path, count: int) -> Tensor:
    files = sorted((data_root / "coco_mini" / "unlabelled").rglob("*.jpg"))[:count]
    assert len(files) == count
    images = [cv2.resize(cv2.imread(str(file)), (224, 224), interpolation=cv2.INTER_AREA) for file in files]
    return torch.stack([torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255 for image in images])


@pytest.mark.parametrize("length", [4, 5, 6, 7, 8, 9])
def test_same_padding_looks_where_tensorflow_looks(length: int) -> None:
    """Output i of ceil(n / 2) reads from 2i - before on, where `before` is 0 for even and 1 for odd sides."""
    layer = ConvBN(1, 1, 3, stride=2).eval()
    torch.nn.init.zeros_(layer.conv.weight)
    layer.conv.weight.data[0, 0, 0, 0] = 1.0  # reads the top-left of its 3x3 window
    positions = torch.arange(1.0, length + 1) * 0.5
    rows = layer(positions[:, None].expand(1, 1, length, length))[0, 0, :, -1]
    before = length % 2
    padded = torch.cat([torch.zeros(before), positions])
    torch.testing.assert_close(rows, padded[::2][: len(rows)], atol=1e-3, rtol=1e-3)
    assert len(rows) == (length + 1) // 2


def test_a_shift_by_two_pixels_shifts_a_stride_2_layer_by_one() -> None:
    layer = ConvBN(3, 4, 3, stride=2).eval()
    image = torch.rand(1, 3, 16, 16)
    moved = torch.roll(image, (2, 2), (2, 3))
    # The rim sees the padding.
    torch.testing.assert_close(layer(moved)[..., 1:-1, 1:-1], layer(image)[..., :-2, :-2])


def test_features_of_odd_sizes_are_rounded_up() -> None:
    features = MobileNetV1(0.25)(torch.rand(1, 3, 75, 50))
    assert [tuple(f.shape[1:]) for f in features] == [(32, 19, 13), (64, 10, 7), (128, 5, 4), (256, 3, 2)]


@pytest.mark.parametrize("width", [1.0, 0.75])
def test_parameters_are_as_many_as_published(width: float) -> None:
    with torch.device("meta"):
        backbone = MobileNetV1(width)
    # 4.2 M and 2.6 M of the paper, here without the classifier's 1000 rows.
    classifier = 1000 * backbone.channels[-1] + 1000
    total = sum(p.numel() for p in backbone.parameters()) + classifier
    assert total == {1.0: 4_231_976, 0.75: 2_585_560}[width]
