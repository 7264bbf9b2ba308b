"""Every network by name: shapes, gradients, seeds; and names and sizes that are refused."""

import subprocess
import sys
from importlib import import_module

import pytest
import torch

from semipose.errors import UsageError
from semipose.networks import FILES, check_size, network_names
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.skeleton import PRESETS

LSP = PRESETS["lsp_14"]


def small(name: str, seed: int = 0) -> PoseNetwork:
    return build_network(name, LSP, width=0.125, head_channels=8, seed=seed)


@pytest.mark.parametrize("name", network_names())
def test_every_network_gives_one_map_per_keypoint_at_stride_4(name: str) -> None:
    field = small(name).eval()(torch.rand(2, 3, 64, 96))["heatmap"]
    assert field.maps.shape == (2, 14, 16, 24)
    assert (field.kind, field.stride, field.flip) == ("scalar", 4, LSP.flip)
    assert torch.isfinite(field.maps).all()


@pytest.mark.parametrize("name", network_names())
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = small(name)
    network(torch.rand(2, 3, 64, 64))["heatmap"].maps.square().sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", network_names())
def test_the_builder_is_the_function_of_that_name(name: str) -> None:
    builder = getattr(import_module(f"semipose.networks.{FILES[name]}"), name)
    assert type(builder(0.125)) is type(small(name).backbone)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others_everywhere(name: str) -> None:
    one, same, other = (dict(small(name, seed).named_parameters()) for seed in (3, 3, 4))
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
    assert done.stdout.startswith("False mobilenet_v1 resnet18")
