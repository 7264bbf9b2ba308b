"""Weights from files: what matches, what is said about it, and every fault that must be refused."""

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from semipose.errors import DataError
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.networks.weights import load_weights
from semipose.pose.skeleton import PRESETS, Skeleton

COCO, LSP = PRESETS["coco_17"], PRESETS["lsp_14"]
TOTAL = 120 - 20  # entries of a ResNet-18 backbone less its counters of batches


def small(
    skeleton: Skeleton = COCO, *, name: str = "resnet18", width: float = 0.25, head: int = 8, seed: int = 0
) -> PoseNetwork:
    return build_network(name, skeleton, width=width, head_channels=head, seed=seed)


def trained(skeleton: Skeleton = COCO, *, width: float = 0.25, head: int = 8) -> PoseNetwork:
    """A network with statistics and biases that are not those of birth."""
    network = small(skeleton, width=width, head=head, seed=7)
    network(torch.rand(2, 3, 64, 64))
    torch.nn.init.normal_(network.head.final_layer.get_parameter("bias"))
    return network


def backbone_of(network: PoseNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.backbone.state_dict().items()}


def save_ours(network: PoseNetwork, skeleton: Skeleton, path: Path) -> Path:
    header = {"network": network.config, "skeleton": skeleton.to_dict(), "update": 1}
    save_file(network.state_dict(), path, {"semipose": json.dumps(header)})
    return path


def assert_backbone(network: PoseNetwork, source: PoseNetwork) -> None:
    ours, theirs = network.backbone.state_dict(), source.backbone.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("prefix", "nest", "suffix"),
    [
        ("", None, ".pth"),  # as torchvision writes it
        ("module.", "state_dict", ".pth.tar"),  # DataParallel inside a checkpoint with epoch and optimizer
        ("backbone.", "model", ".pt"),
        ("module.model.backbone.", None, ".pth"),
        ("", None, ".safetensors"),
    ],
)
def test_an_imagenet_backbone_is_found_under_the_usual_prefixes(
    tmp_path: Path, prefix: str, nest: str | None, suffix: str
) -> None:
    source, network = trained(), small()
    state = {prefix + name: value for name, value in backbone_of(source).items()}
    state |= {prefix + "fc.weight": torch.rand(1000, 128), prefix + "fc.bias": torch.rand(1000)}
    path = tmp_path / f"public{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, nest: state} if nest else state, path)
    head = {name: value.clone() for name, value in network.head.state_dict().items()}
    report = load_weights(network, path)
    assert_backbone(network, source)
    assert all(torch.equal(head[name], value) for name, value in network.head.state_dict().items())
    assert set(report.unused) == {prefix + "fc.weight", prefix + "fc.bias"}
    assert report.head_rebuilt
    assert len(report.matched) == TOTAL
    assert report.text == (
        f"{path.name}: 100 of 100 backbone tensors, head rebuilt for 17 keypoints (the file has none), "
        f"2 of the file unused ({report.unused[0]}, {report.unused[1]})"
    )


def test_files_without_counters_of_batches_match_as_a_whole(tmp_path: Path) -> None:
    state = {n: v for n, v in backbone_of(trained()).items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_weights(small(), tmp_path / "old.pth").text.startswith("old.pth: 100 of 100 backbone tensors")


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    state = {n: v.half() if v.is_floating_point() else v for n, v in backbone_of(trained()).items()}
    save_file(state, tmp_path / "half.safetensors")
    network = small()
    load_weights(network, tmp_path / "half.safetensors")
    assert network.backbone.state_dict()["conv1.weight"].dtype == torch.float32
    assert torch.equal(network.backbone.state_dict()["conv1.weight"], state["conv1.weight"].float())


def test_a_part_of_a_backbone_is_loaded_and_the_lack_is_said(tmp_path: Path) -> None:
    state = {n: v for n, v in backbone_of(trained()).items() if not n.startswith("layer4")}
    torch.save(state, tmp_path / "part.pth")
    report = load_weights(small(), tmp_path / "part.pth")
    assert "75 of 100 backbone tensors (the rest stays random: layer4.0.conv1.weight, " in report.text
    assert "backbone.layer4.0.conv1.weight" in report.missing


def test_a_network_of_ours_with_the_same_skeleton_is_loaded_whole(tmp_path: Path) -> None:
    source, network = trained(), small(seed=1)
    report = load_weights(network, save_ours(source, COCO, tmp_path / "best-teacher.safetensors"))
    for name, value in source.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert not report.head_rebuilt
    assert (report.missing, report.unused) == ((), ())
    assert report.text == "best-teacher.safetensors: 100 of 100 backbone tensors, head of 17 keypoints taken"


def test_rows_of_other_keypoints_are_taken_by_name_and_the_rest_starts_anew(tmp_path: Path) -> None:
    source, network = trained(COCO), small(LSP)
    before = network.state_dict()["head.final_layer.weight"].clone()
    report = load_weights(network, save_ours(source, COCO, tmp_path / "coco.safetensors"))
    shared = [name for name in LSP.keypoints if name in COCO.keypoints]
    assert len(shared) == 12
    for row, name in enumerate(LSP.keypoints):
        for part in ("weight", "bias"):
            ours = network.head.final_layer.get_parameter(part)[row]
            if name in shared:
                theirs = source.head.final_layer.get_parameter(part)[COCO.keypoints.index(name)]
            else:
                theirs = before[row] if part == "weight" else torch.tensor(0.0)
            assert torch.equal(ours, theirs), name
    assert torch.equal(network.head.deconv_layers[0].weight, source.head.deconv_layers[0].weight)
    assert report.head_rebuilt
    assert report.text.endswith("head rebuilt for 14 keypoints (12 taken by name)")


def test_rows_of_a_multi_scale_head_are_taken_by_name(tmp_path: Path) -> None:
    shared = {"width": 0.25, "head": "multi_scale", "head_channels": 8}
    source, network = (build_network("resnet18", each, seed=s, **shared) for s, each in ((7, COCO), (0, LSP)))  # type: ignore[arg-type]
    report = load_weights(network, save_ours(source, COCO, tmp_path / "coco.safetensors"))
    assert report.text.endswith("head rebuilt for 14 keypoints (12 taken by name)")
    ours, theirs = LSP.keypoints.index("left_wrist"), COCO.keypoints.index("left_wrist")
    assert torch.equal(network.head.final_layer.weight[ours], source.head.final_layer.weight[theirs])
    assert torch.equal(network.head.conv.weight, source.head.conv.weight)


@pytest.mark.parametrize("heads", [("deconvolution", "multi_scale"), ("multi_scale", "deconvolution")])
def test_of_a_network_with_another_head_the_backbone_is_loaded(tmp_path: Path, heads: tuple[str, str]) -> None:
    source, network = (
        build_network("resnet18", COCO, width=0.25, head=head, head_channels=8, seed=seed)
        for seed, head in enumerate(heads)
    )
    report = load_weights(network, save_ours(source, COCO, tmp_path / "other.safetensors"))
    assert_backbone(network, source)
    assert report.head_rebuilt
    assert "100 of 100 backbone tensors, head rebuilt for 17 keypoints (the file's lacks layers)" in report.text


def test_the_same_keypoints_in_another_order_and_writing_are_put_in_place(tmp_path: Path) -> None:
    names = [name.replace("_", " ").title() for name in reversed(COCO.keypoints)]
    turned = Skeleton.from_category({"name": "person", "keypoints": names})
    source, network = trained(turned), small(COCO)
    report = load_weights(network, save_ours(source, turned, tmp_path / "turned.safetensors"))
    expected = source.head.final_layer.weight.flip(0)
    assert torch.equal(network.head.final_layer.weight, expected)
    assert not report.head_rebuilt


def as_hrnet_repository(state: dict[str, Tensor]) -> dict[str, object]:
    """Simple Baselines and HRNet: plain names, or a checkpoint of several GPUs with all that training needs."""
    names = {f"module.{name.partition('.')[2]}": value for name, value in state.items()}
    return {"epoch": 210, "model": "pose_hrnet", "state_dict": names, "perf": 0.7, "optimizer": {"state": {}}}


def as_mmpose_0(state: dict[str, Tensor]) -> dict[str, object]:
    names = {name.replace("head.", "keypoint_head.", 1): value for name, value in state.items()}
    return {"meta": {"mmpose_version": "0.29.0", "epoch": 210, "config": "model = dict()"}, "state_dict": names}


def as_mmpose_1(state: dict[str, Tensor]) -> dict[str, object]:
    facts = {"dataset_name": "coco", "sigmas": np.full(17, 0.05, np.float32)}
    return {"meta": {"dataset_meta": facts, "hook_msgs": {}}, "state_dict": OrderedDict(state)}


@pytest.mark.parametrize("form", [as_hrnet_repository, as_mmpose_0, as_mmpose_1])
@pytest.mark.parametrize("name", ["resnet50", "hrnet_w32"])
def test_a_public_coco_checkpoint_is_loaded_whole(
    tmp_path: Path, name: str, form: Callable[[dict[str, Tensor]], dict[str, object]]
) -> None:
    source, network = small(name=name, width=0.125, seed=7), small(name=name, width=0.125)
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    torch.save(form(source.state_dict()), tmp_path / "coco.pth")
    report = load_weights(network, tmp_path / "coco.pth")
    ours = network.state_dict()
    assert [key for key, value in source.state_dict().items() if not torch.equal(ours[key], value)] == []
    total = sum(1 for key in source.backbone.state_dict() if not key.endswith("num_batches_tracked"))
    assert report.text == (
        f"coco.pth: {total} of {total} backbone tensors, head of 17 keypoints taken, assuming COCO's order"
    )


def test_an_hrnet_from_imagenet_is_loaded_and_what_classifies_is_not_used(tmp_path: Path) -> None:
    source, network = small(name="hrnet_w32", width=0.125, seed=7), small(name="hrnet_w32", width=0.125)
    extra = {
        "incre_modules.0.0.conv1.weight": (32, 8, 1, 1),
        "downsamp_modules.0.0.weight": (64, 32, 3, 3),
        "stage4.2.fuse_layers.1.0.0.0.weight": (8, 8, 3, 3),
        "final_layer.0.weight": (64, 32, 1, 1),
        "final_layer.0.bias": (64,),
        "final_layer.1.weight": (64,),
        "classifier.weight": (1000, 64),
    }
    state = backbone_of(source) | {name: torch.rand(shape) for name, shape in extra.items()}
    torch.save(state, tmp_path / "hrnetv2_w32_imagenet.pth")
    report = load_weights(network, tmp_path / "hrnetv2_w32_imagenet.pth")
    assert_backbone(network, source)
    assert set(report.unused) == set(extra)
    assert "head rebuilt for 17 keypoints (the file has none), 7 of the file unused" in report.text


def test_an_hrnet_of_other_keypoints_keeps_the_backbone_and_starts_its_head_anew(tmp_path: Path) -> None:
    source, network = small(name="hrnet_w32", width=0.125, seed=7), small(LSP, name="hrnet_w32", width=0.125)
    state = {name.partition(".")[2]: value for name, value in source.state_dict().items()}
    state |= {"final_layer.weight": torch.rand(16, 8, 1, 1), "final_layer.bias": torch.rand(16)}
    torch.save(state, tmp_path / "mpii.pth")
    before = network.head.final_layer.weight.clone()
    report = load_weights(network, tmp_path / "mpii.pth")
    assert_backbone(network, source)
    assert torch.equal(network.head.final_layer.weight, before)
    assert "head rebuilt for 14 keypoints (0 taken by name)" in report.text


def test_an_hrnet_of_other_channels_is_refused(tmp_path: Path) -> None:
    torch.save(backbone_of(small(name="hrnet_w48", width=0.25)), tmp_path / "hrnet_w48.pth")
    with pytest.raises(DataError, match=r"another shape than in hrnet_w32.* Choose the --network that hrnet_w48"):
        load_weights(small(name="hrnet_w32", width=0.25), tmp_path / "hrnet_w48.pth")


def test_a_simple_baselines_file_of_17_keypoints_is_taken_as_cocos_and_says_so(tmp_path: Path) -> None:
    source, network = trained(COCO), small(LSP)
    state = {name.partition(".")[2]: value for name, value in source.state_dict().items()}
    assert {"deconv_layers.0.weight", "final_layer.bias", "layer1.0.conv1.weight"} <= state.keys()
    torch.save(state, tmp_path / "pose_resnet.pth.tar")
    report = load_weights(network, tmp_path / "pose_resnet.pth.tar")
    assert_backbone(network, source)
    assert report.text.endswith("head rebuilt for 14 keypoints (12 taken by name, assuming COCO's order)")


@pytest.mark.parametrize("prefix", ["keypoint_head.", "head."])
def test_the_prefixes_of_other_toolboxes_heads_are_known(tmp_path: Path, prefix: str) -> None:
    source, network = trained(COCO), small(COCO)
    state = {name.replace("head.", prefix, 1): value for name, value in source.state_dict().items()}
    torch.save(state, tmp_path / "pose.pth")
    report = load_weights(network, tmp_path / "pose.pth")
    assert torch.equal(network.head.final_layer.weight, source.head.final_layer.weight)
    assert report.text.endswith("head of 17 keypoints taken, assuming COCO's order")


def test_unnamed_keypoints_of_an_unknown_number_are_not_guessed(tmp_path: Path) -> None:
    source, network = trained(LSP), small(LSP)
    torch.save(source.state_dict(), tmp_path / "unnamed.pth")
    before = network.head.final_layer.weight.clone()
    report = load_weights(network, tmp_path / "unnamed.pth")
    assert torch.equal(network.head.final_layer.weight, before)
    assert "head rebuilt for 14 keypoints (0 taken by name)" in report.text


def test_a_head_of_other_channels_is_rebuilt(tmp_path: Path) -> None:
    source, network = trained(head=16), small()
    report = load_weights(network, save_ours(source, COCO, tmp_path / "wide.safetensors"))
    assert_backbone(network, source)
    assert "head rebuilt for 17 keypoints (the file's has other channels)" in report.text


class Trap:
    """Makes a folder when it is unpickled: the proof that code of the file ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for path, protocol in ((tmp_path / "evil.pth", True), (tmp_path / "old.pt", False)):
        state = {**backbone_of(trained()), "extra": Trap(sprung)}
        torch.save(state, path, _use_new_zipfile_serialization=protocol)
        with pytest.raises(DataError, match="could run code, so it was refused") as caught:
            load_weights(small(), path)
        assert "weights_only" not in str(caught.value)
        assert not sprung.exists()


def spoiled(name: str, value: float) -> dict[str, Tensor]:
    state = backbone_of(trained())
    state[name].view(-1)[1] = value
    return state


STEM = (16, 3, 7, 7)  # shape of the first convolution
FAULTS = {
    "nan": (lambda: spoiled("layer2.0.conv1.weight", float("nan")), "layer2.0.conv1.weight holds NaN"),
    "infinite statistics": (lambda: spoiled("bn1.running_mean", float("inf")), "running_mean holds NaN or inf"),
    "too large": (lambda: {"conv1.weight": torch.ones(STEM).double() * 1e300}, "holds NaN or infinity"),
    "negative variance": (lambda: spoiled("bn1.running_var", -1.0), "negative variance"),
    "integers": (lambda: {"conv1.weight": torch.ones(STEM).int()}, "int32; expected torch.float32"),
    "other width": (
        lambda: backbone_of(trained(width=0.75)),
        r"is \(48, 3, 7, 7\), expected \(16, 3, 7, 7\).*give --width 0.75",
    ),
    "bottlenecks": (
        lambda: backbone_of(small(name="resnet50")),
        "another shape .* Choose the --network that file.pth was made for",
    ),
    "other network": (
        lambda: backbone_of(small(name="mobilenet_v1")),
        "nothing in it belongs to the backbone of resnet18 .* such as conv1.weight",
    ),
    "twice": (
        lambda: {"conv1.weight": torch.rand(STEM), "module.conv1.weight": torch.rand(STEM)},
        "'conv1.weight' and 'module.conv1.weight' are both",
    ),
    "empty": (dict, "no tensor at all"),
    "only counters": (lambda: {"bn1.num_batches_tracked": torch.tensor(3)}, "nothing in it belongs"),
    "a tensor": (lambda: torch.rand(3), "holds a Tensor; expected a state dict"),
    "a list": (lambda: [torch.rand(3)], "holds a list"),
    "sparse": (lambda: {"conv1.weight": torch.rand(STEM).to_sparse()}, "conv1.weight is quantized, sparse"),
    "no values": (lambda: {"conv1.weight": torch.rand(STEM, device="meta")}, "without values"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_a_fault_is_refused_and_the_network_is_left_alone(tmp_path: Path, fault: str) -> None:
    make, said = FAULTS[fault]
    path, network = tmp_path / "file.pth", small()
    torch.save(make(), path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(DataError, match=said) as caught:
        load_weights(network, path)
    assert str(path) in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.pth", None, "there is no file"),
        ("folder", "folder", r"is a folder; .* checkpoints/best-NAME.safetensors"),
        ("weights.h5", b"x", "no known kind of weights; expected .safetensors"),
        ("text.pth", b"not a checkpoint at all", "cannot be read|could run code"),
        ("empty.pt", b"", "cannot be read"),
        ("cut.safetensors", b"\x10" + b"\0" * 7 + b"{", "cannot be read as safetensors .* Copy it again"),
        ("empty.safetensors", b"", "cannot be read as safetensors"),
    ],
)
def test_a_path_that_is_no_file_of_weights_is_refused(
    tmp_path: Path, name: str, content: bytes | str | None, said: str
) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load_weights(small(), path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("header", ["{", "[]", '{"network": {}}', '{"network": {}, "skeleton": {"name": 1}}'])
def test_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    save_file(backbone_of(trained()), tmp_path / "file.safetensors", {"semipose": header})
    with pytest.raises(DataError, match="header is damaged"):
        load_weights(small(), tmp_path / "file.safetensors")


def test_the_message_names_the_network_that_a_file_of_ours_holds(tmp_path: Path) -> None:
    path = save_ours(trained(), COCO, tmp_path / "best.safetensors")
    with pytest.raises(DataError, match=r"of mobilenet_v1 of width 0.25. Found resnet18 of width 0.25"):
        load_weights(small(name="mobilenet_v1"), path)
