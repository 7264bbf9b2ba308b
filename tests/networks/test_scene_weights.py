"""Public checkpoints of networks that find everybody, remade here module by module: they load, and answer the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from semipose.errors import DataError
from semipose.fields import InstanceFields
from semipose.networks.adaptive import adaptive_convolution
from semipose.networks.build import build_network
from semipose.networks.hrnet import HRNet
from semipose.networks.network import PoseNetwork
from semipose.networks.resnet import BasicBlock
from semipose.networks.weights import load_weights
from semipose.pose.skeleton import PRESETS, Skeleton
from tests.networks.test_weights import save_ours

COCO, CROWD, LSP = PRESETS["coco_17"], PRESETS["crowdpose_14"], PRESETS["lsp_14"]
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
WIDTH = 0.125


def network(
    name: str, skeleton: Skeleton = COCO, *, seed: int = 1, width: float = WIDTH, **choices: object
) -> PoseNetwork:
    return build_network(name, skeleton, width=width, head_channels=8, seed=seed, **choices)  # type: ignore[arg-type]


def lively(module: nn.Module) -> nn.Module:
    """Values and statistics with which every tensor shows in the answer."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and not name.endswith("regular_matrix"):
            spread = 1.5 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.2
            value.copy_(torch.randn(value.shape, generator=generator) * spread + (value.ndim == 1) * 0.1)
    return module.eval()


class PublishedHigher(HRNet):
    """The repository's module tree: the backbone's names stand at the top."""

    def __init__(self, keypoints: int) -> None:
        super().__init__(32, WIDTH)
        found, self.keypoints = self.channels[0], keypoints
        self.final_layers = nn.ModuleList([nn.Conv2d(found, 2 * keypoints, 1), nn.Conv2d(found, keypoints, 1)])
        up = nn.Sequential(
            nn.ConvTranspose2d(found + 2 * keypoints, found, 4, 2, 1, bias=False), nn.BatchNorm2d(found), nn.ReLU()
        )
        blocks = [nn.Sequential(BasicBlock(found, found, 1)) for _ in range(4)]
        self.deconv_layers = nn.ModuleList([nn.Sequential(up, *blocks)])

    def answer(self, image: Tensor) -> dict[str, Tensor]:
        x = self(image)[0]
        first = self.final_layers[0](x)
        fine = self.final_layers[1](self.deconv_layers[0](torch.cat((x, first), 1)))
        return {"heatmap": first[:, : self.keypoints], "tags": first[:, self.keypoints :], "fine_heatmap": fine}


class OneBlock(nn.Module):
    """DEKR's block of one keypoint."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("regular_matrix", torch.zeros(2, 9))
        self.transform_matrix_conv, self.translation_conv = nn.Conv2d(15, 4, 3, 1, 1), nn.Conv2d(15, 2, 3, 1, 1)
        self.adapt_conv, self.bn = nn.Conv2d(15, 15, 3, bias=False), nn.BatchNorm2d(15)

    def forward(self, x: Tensor) -> Tensor:
        matrix, shift = self.transform_matrix_conv(x), self.translation_conv(x)
        return F.relu(self.bn(adaptive_convolution(x, self.adapt_conv.weight, matrix, shift)) + x)


class PublishedDekr(HRNet):
    """The repository's module tree, with modules of each keypoint."""

    def __init__(self, keypoints: int) -> None:
        super().__init__(32, WIDTH, exchanged=True)
        inputs, found, self.keypoints = sum(self.channels), self.channels[0], keypoints
        self.transition_heatmap = self._entry(inputs, found)
        self.transition_offset = self._entry(inputs, 15 * keypoints)
        block = nn.Sequential(BasicBlock(found, found, 1))
        self.head_heatmap = nn.ModuleList([block, nn.Conv2d(found, keypoints + 1, 1)])
        self.offset_feature_layers = nn.ModuleList(nn.Sequential(OneBlock(), OneBlock()) for _ in range(keypoints))
        self.offset_final_layer = nn.ModuleList(nn.Conv2d(15, 2, 1) for _ in range(keypoints))

    @staticmethod
    def _entry(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def answer(self, image: Tensor) -> dict[str, Tensor]:
        maps = self(image)
        size = maps[0].shape[2:]
        x = torch.cat([F.interpolate(each, size, mode="bilinear") for each in maps], 1)
        heat = self.head_heatmap[1](self.head_heatmap[0](self.transition_heatmap(x)))
        entry = self.transition_offset(x).split(15, 1)
        layers = zip(self.offset_feature_layers, self.offset_final_layer, entry, strict=True)
        offsets = torch.cat([final(features(own)) for features, final, own in layers], 1)
        return {"heatmap": heat[:, :-1], "center": heat[:, -1:], "offsets": offsets}


PUBLISHED: dict[str, Callable[[int], nn.Module]] = {"higher_hrnet": PublishedHigher, "dekr": PublishedDekr}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_public_checkpoint_is_loaded_whole_and_answers_the_same(tmp_path: Path, name: str) -> None:
    source, ours = lively(PUBLISHED[name](17)), network(name)
    state = source.state_dict()
    if name == "higher_hrnet":
        # As several GPUs save a network in half precision.
        state = {"epoch": 3, "state_dict": {f"module.1.{key}": value for key, value in state.items()}}
    torch.save(state, tmp_path / "it.pth")
    report = load_weights(ours, tmp_path / "it.pth")
    assert "head of 17 keypoints taken, assuming COCO's order" in report.text
    assert not report.missing
    assert all(key.endswith("regular_matrix") for key in report.unused)
    found = ours.eval()(IMAGE)
    pixels = (IMAGE - ours.mean) / ours.std
    for key, maps in source.answer(pixels).items():
        assert maps.std() > 1e-3
        torch.testing.assert_close(found[key].maps, maps, rtol=1e-4, atol=1e-4 * maps.abs().max().item())


@pytest.mark.slow
def test_cids_checkpoint_is_loaded_whole(tmp_path: Path) -> None:
    source, ours = lively(network("cid", seed=7)), network("cid")
    state = {key.removeprefix("head."): value for key, value in source.state_dict().items()}
    assert {"backbone.conv1.weight", "iia.keypoint_center_conv.bias", "gfd.s_attn.conv.weight"} <= state.keys()
    torch.save(state, tmp_path / "coco_hrnet_w32.pth")
    report = load_weights(ours, tmp_path / "coco_hrnet_w32.pth")
    assert (report.missing, report.unused) == ((), ())
    found = ours.state_dict()
    assert all(torch.equal(found[key], value) for key, value in source.state_dict().items())


@pytest.mark.slow
def test_a_head_for_14_keypoints_is_taken_for_crowdposes(tmp_path: Path) -> None:
    name = "higher_hrnet"
    torch.save(PUBLISHED[name](14).state_dict(), tmp_path / "crowdpose.pth")
    assert (
        "head of 14 keypoints taken, assuming CrowdPose's order"
        in load_weights(network(name, CROWD), tmp_path / "crowdpose.pth").text
    )
    assert "12 taken by name" in load_weights(network(name), tmp_path / "crowdpose.pth").text


def answer(found: PoseNetwork) -> dict[str, Tensor]:
    """All maps of the image, and of CID the person's in the middle of it; offsets by keypoint."""
    fields = found.eval()(IMAGE)
    maps = {name: field.maps for name, field in fields.items() if name != "center"}
    if "offsets" in maps:
        maps["offsets"] = maps["offsets"].unflatten(1, (-1, 2))
    if isinstance(fields, InstanceFields):
        maps["person"] = fields.instances(torch.tensor([0]), torch.tensor([[8, 8]]))
    return maps


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
def test_the_same_keypoints_in_another_order_have_the_same_maps(tmp_path: Path, name: str) -> None:
    turned = Skeleton.from_category({"name": "person", "keypoints": list(reversed(COCO.keypoints))})
    source, ours = (
        lively(network(name, backbone="mobilenet_v1")),
        network(name, turned, backbone="mobilenet_v1", seed=2),
    )
    report = load_weights(ours, save_ours(source, COCO, tmp_path / "coco.safetensors"))
    assert report.text.endswith("head of 17 keypoints taken")
    found = answer(ours)
    for key, maps in answer(source).items():
        assert maps.std() > 1e-3
        torch.testing.assert_close(found[key].flip(1), maps, rtol=1e-4, atol=1e-4 * maps.abs().max().item())


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
def test_keypoints_that_the_file_lacks_start_anew(tmp_path: Path, name: str) -> None:
    source, ours = lively(network(name, backbone="mobilenet_v1")), network(name, LSP, backbone="mobilenet_v1", seed=2)
    before = {key: value.clone() for key, value in ours.head.state_dict().items()}
    report = load_weights(ours, save_ours(source, COCO, tmp_path / "coco.safetensors"))
    assert "head rebuilt for 14 keypoints (12 taken by name)" in report.text
    shared = [key for key in LSP.keypoints if key in COCO.keypoints]
    mine, theirs = ([skeleton.keypoints.index(key) for key in shared] for skeleton in (LSP, COCO))
    found, expected = answer(ours), answer(source)
    for key in found.keys() - {"fine_heatmap"}:  # made of all keypoints' coarser maps
        torch.testing.assert_close(found[key][:, mine], expected[key][:, theirs], rtol=1e-4, atol=1e-3)
    for key, value in ours.head.state_dict().items():
        if key in ours.head.rows:
            # The last keypoints of LSP, neck and top of the head, are none of COCO's.
            each = ours.head.rows[key][0][1]
            first = ours.head.rows[key][0][0] + 12 * each
            assert torch.equal(value[first : first + 2 * each], before[key][first : first + 2 * each]), key


@pytest.mark.parametrize("name", ["higher_hrnet", "cid"])
def test_an_hrnet_from_imagenet_is_found_and_what_each_network_needs_of_it(tmp_path: Path, name: str) -> None:
    source = lively(HRNet(32, WIDTH, exchanged=True))
    torch.save(source.state_dict() | {"classifier.weight": torch.rand(1000, 8)}, tmp_path / "imagenet.pth")
    ours = network(name)
    report = load_weights(ours, tmp_path / "imagenet.pth")
    state, theirs = ours.backbone.state_dict(), source.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in state.items())
    assert "classifier.weight" in report.unused
    assert any("stage4.2.fuse_layers.3" in key for key in state) == (name != "higher_hrnet")
    assert "head rebuilt for 17 keypoints (the file has none)" in report.text


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
def test_real_imagenet_weights_load_into_a_light_backbone(data_root: Path, name: str) -> None:
    ours = network(name, backbone="mobilenet_v1", width=0.75)
    report = load_weights(ours, data_root / "weights" / "mobilenet_v1_075.safetensors")
    assert report.text.startswith("mobilenet_v1_075.safetensors: 135 of 135 backbone tensors, head rebuilt")


def test_the_variant_of_one_resolution_takes_its_part_of_the_whole(tmp_path: Path) -> None:
    torch.save(lively(PublishedHigher(17)).state_dict(), tmp_path / "it.pth")
    report = load_weights(network("higher_hrnet", fine=False), tmp_path / "it.pth")
    assert "head of 17 keypoints taken" in report.text
    assert "deconv_layers.0.0.0.weight" in report.unused


@pytest.mark.slow
def test_pieces_of_dekr_that_do_not_belong_together_are_not_taken(tmp_path: Path) -> None:
    state, ours = PublishedDekr(17).state_dict(), network("dekr")
    for lacking in ("offset_final_layer.3.", "offset_feature_layers.2.1.bn."):
        torch.save({key: value for key, value in state.items() if not key.startswith(lacking)}, tmp_path / "it.pth")
        assert "head rebuilt for 17 keypoints (0 taken by name)" in load_weights(ours, tmp_path / "it.pth").text


def test_a_file_of_another_backbone_names_the_flag_and_both(tmp_path: Path) -> None:
    light = network("dekr", backbone="mobilenet_v1")
    save_file({"conv1.weight": torch.rand(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"backbone of dekr on mobilenet_v1 of width 0\.125"):
        load_weights(light, tmp_path / "other.safetensors")
    torch.save(HRNet(48, WIDTH).state_dict(), tmp_path / "w48.pth")
    with pytest.raises(DataError, match=r"Choose the --backbone that w48\.pth was made for"):
        load_weights(network("cid"), tmp_path / "w48.pth")
