"""The contract of every network, by name: shapes, gradients, seeds; and names and sizes that are refused."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.operators import Operators, on_meta
from semipose.errors import UsageError
from semipose.fields import InstanceFields
from semipose.inference.model import Model
from semipose.networks import DETECTOR_FREE, FILES, backbone_names, check_size, network_names
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS
from semipose.tasks.export import export
from tests.networks.named import NAMES, TIMM_NAMES, TIMM_PARAMS, needs_timm, small, small_scene

LSP = PRESETS["lsp_14"]
# Each detector-free network with its other choices, and on backbones of each kind.
SCENES: list[tuple[str, str, dict[str, bool]]] = [
    ("higher_hrnet", "hrnet_w32", {}),
    ("higher_hrnet", "resnet18", {}),
    ("higher_hrnet", "mobilenet_v1", {"fine": False}),
    ("dekr", "hrnet_w48", {}),
    ("dekr", "mobilenet_v1", {"adaptive": False}),
    ("dekr", "resnet50", {"identity_init": True}),
    ("cid", "hrnet_w32", {}),
    ("cid", "resnet50", {}),
    ("cid", "mobilenet_v1", {}),
]


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


def answer(network: PoseNetwork, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """All maps; of CID also those of a person in each image."""
    fields = network(image)
    maps = {name: field.maps for name, field in fields.items()}
    if isinstance(fields, InstanceFields):
        rows = torch.arange(len(image))
        maps["person"] = fields.instances(rows, torch.tensor([[3, 5]]).expand(len(image), 2))
    return maps


@pytest.mark.parametrize(("name", "backbone", "options"), SCENES)
def test_every_parameter_of_a_network_that_finds_everybody_gets_a_gradient(
    name: str, backbone: str, options: dict[str, bool]
) -> None:
    network = small_scene(name, backbone, **options)
    generator = torch.Generator().manual_seed(0)
    for value in network.head.parameters():
        if value.ndim > 1:
            # As published heads start so low that some of their first gradients are next to nothing.
            torch.nn.init.normal_(value, std=0.1, generator=generator)
    image = torch.rand(2, 3, 64, 64, generator=generator)
    sum(maps.square().sum() for maps in answer(network, image).values()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(("name", "backbone", "options"), SCENES)
def test_the_config_of_a_network_that_finds_everybody_is_enough_to_build_it_again(
    name: str, backbone: str, options: dict[str, bool]
) -> None:
    network, other = small_scene(name, backbone, **options), small_scene(name, backbone, **options, seed=1)
    assert network.detector_free
    assert network.config["backbone"] == backbone
    config = {key: value for key, value in network.config.items() if key != "keypoints"}
    again = build_network(skeleton=LSP, seed=1, **config)
    random = [n for n, p in network.named_parameters() if p.ndim > 1 and p.std() > 0]
    assert all(torch.equal(again.get_parameter(n), other.get_parameter(n)) for n in random)
    assert all((again.get_parameter(n) != network.get_parameter(n)).any() for n in random)
    again.load_state_dict(network.state_dict(), strict=True)
    image = torch.rand(1, 3, 64, 64)
    expected = answer(network.eval(), image)
    for key, maps in answer(again.eval(), image).items():
        assert torch.equal(maps, expected[key])
        assert torch.isfinite(maps).all()
        assert maps.abs().max() < 0.1, "an untrained network in eval mode has low maps"


@pytest.mark.parametrize("name", DETECTOR_FREE)
def test_a_network_that_finds_everybody_reads_nothing_back_from_its_device(name: str) -> None:
    with on_meta() as meta:
        network, image = small_scene(name).to(meta), torch.rand(2, 3, 64, 64, device=meta)
        network(image)  # constants are put on the device once
        with Operators() as seen:
            fields = network(image)
            if isinstance(fields, InstanceFields):
                index = torch.zeros(5, 2, dtype=torch.int64, device=meta)
                fields.instances(index[:, 0], index).sum().backward()
    assert seen.blocking == []


@needs_timm
def test_a_network_that_finds_everybody_stands_on_a_backbone_of_timm() -> None:
    fields = small_scene("cid", TIMM_NAMES[0])(torch.rand(2, 3, 64, 64))
    assert fields["center"].maps.shape == (2, 1, 16, 16)


def test_all_names_are_listed() -> None:
    assert set(network_names()) == {*backbone_names(), *DETECTOR_FREE}
    assert not small("resnet18").detector_free
    assert build_network("dekr", LSP, width=0.125).config["backbone"] == "hrnet_w32"


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


@pytest.mark.parametrize("name", backbone_names())
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
    sizes = {"width": 0.125, "head_channels": 8, "keypoints": 14}
    assert network.config == {"name": "resnet50", **sizes, "head": "deconvolution"}
    options = {key: network.config[key] for key in ("name", "width", "head_channels", "head")}
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
        ({"name": "higherhrnet"}, "did you mean 'higher_hrnet'.* networks are .* cid, dekr, higher_hrnet, and timm"),
        ({"name": "cid", "backbone": "resnet_18"}, r"no backbone 'resnet_18' \(did you mean 'resnet18'"),
        ({"name": "cid", "backbone": "dekr"}, "no backbone 'dekr'"),
        ({"name": "dekr", "backbone": "timm:resnet18", "width": 0.5}, "timm gives it; leave out --width"),
        ({"name": "resnet18", "backbone": "resnet50"}, "resnet18 is a backbone itself; found backbone 'resnet50'"),
        ({"name": "dekr", "fine": False}, "dekr has no option 'fine'; its options: adaptive, identity_init"),
        ({"name": "cid", "adaptive": False}, "cid has no option 'adaptive'; its options: none"),
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
