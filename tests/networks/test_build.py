"""The contract of every network, by name: shapes, gradients, seeds; and names and sizes that are refused."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from semipose.errors import UsageError
from semipose.networks import FILES, check_size, network_names
from semipose.networks.build import build_network
from semipose.skeleton import PRESETS
from semipose.tasks.export import export
from semipose.tasks.model import Model
from tests.networks.named import NAMES, TIMM_PARAMS, small

LSP = PRESETS["lsp_14"]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_gives_one_map_per_keypoint_at_stride_4(name: str) -> None:
    field = small(name).eval()(torch.rand(2, 3, 64, 96))["heatmap"]
    assert field.maps.shape == (2, 14, 16, 24)
    assert (field.kind, field.stride, field.flip) == ("scalar", 4, LSP.flip)
    assert torch.isfinite(field.maps).all()


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_announced_channels_and_strides(name: str) -> None:
    network = small(name)
    assert all(module.training for module in network.modules())
    features = network.features(torch.rand(2, 3, 64, 96))
    backbone = network.backbone
    assert backbone.strides == (4, 8, 16, 32)
    expected = [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    assert [tuple(f.shape) for f in features] == expected
    assert all(torch.isfinite(f).all() for f in features)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = small(name)
    network(torch.rand(2, 3, 64, 64))["heatmap"].maps.square().sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "hrnet_w32", "mobilenet_v1", *TIMM_PARAMS])
def test_a_network_of_each_kind_is_exported_and_answers_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    network, image = small(name), torch.rand(4, 3, 64, 96)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0  # one pass settles the statistics
    network(image)
    with torch.no_grad():
        # As after training peaks are about 1 high, or any two networks would agree.
        network.head.final_layer.weight /= network.eval()(image)["heatmap"].maps.abs().max()
    assert export(Model(network, LSP, (64, 96)), tmp_path / "pose.onnx").stat().st_size > 0


@pytest.mark.parametrize("name", network_names())
def test_the_builder_is_the_function_of_that_name(name: str) -> None:
    builder = getattr(import_module(f"semipose.networks.{FILES[name]}"), name)
    assert type(builder(0.125)) is type(small(name).backbone)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "hrnet_w32", *TIMM_PARAMS[:1]])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others_everywhere(name: str) -> None:
    one, same, other = (dict(small(name, seed=seed).named_parameters()) for seed in (3, 3, 4))
    assert all(torch.equal(one[n], same[n]) for n in one)
    # Vectors are batch norms and biases, which start at 1 and 0.
    random = [n for n in one if one[n].ndim > 1]
    assert any(n.startswith("head.final_layer") for n in random)
    assert all((one[n] != other[n]).float().mean() > 0.99 for n in random)


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small("resnet18", seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_the_config_is_enough_to_build_the_network_again() -> None:
    network = small("resnet50")
    assert network.config == {"name": "resnet50", "width": 0.125, "head_channels": 8, "keypoints": 14}
    options = {key: network.config[key] for key in ("name", "width", "head_channels")}
    again = build_network(**options, skeleton=LSP, seed=1)
    again.load_state_dict(network.state_dict(), strict=True)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.eval()(image)["heatmap"].maps, network.eval()(image)["heatmap"].maps)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "resnet-18"}, "did you mean 'resnet18'"),
        ({"name": "mobilenet"}, "did you mean 'mobilenet_v1'"),
        ({"name": "hrnet"}, "did you mean 'hrnet_w.*and timm:NAME"),
        ({"name": "timm:resnet18", "width": 0.5}, r"has the channels that timm gives it; leave out --width"),
        ({"name": "resnet18", "width": 0.0}, "width is 0.0"),
        ({"name": "resnet18", "width": float("nan")}, "width is nan"),
        ({"name": "resnet18", "head_channels": 0}, "head has 0 channels"),
    ],
)
def test_a_wrong_name_or_size_is_refused_with_what_was_meant(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_network(skeleton=LSP, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "nearest"), [((100, 96), "96x96"), ((96, 250), "96x256"), ((10, 0), "32x32"), ((-32, 64), "32x64")]
)
def test_an_input_size_that_is_no_multiple_of_32_is_refused(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(UsageError, match=f"nearest is {nearest}"):
        check_size(size)


def test_names_and_sizes_need_no_torch() -> None:
    code = "import sys, semipose.networks as n; n.check_size((32, 64)); print('torch' in sys.modules, *n.FILES)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("False hrnet_w32")
