"""Public checkpoints of networks that find everybody, remade here module by module: they load, and answer the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from semipose.errors import DataError
from semipose.networks.adaptive import adaptive_convolution
from semipose.networks.build import build_network
from semipose.networks.hrnet import HRNet
from semipose.networks.network import PoseNetwork
from semipose.networks.resnet import BasicBlock
from semipose.networks.weights import load_weights
from semipose.skeleton import PRESETS, Skeleton
from tests.networks.test_weights import save_ours

COCO, CROWD, LSP = PRESETS["coco_17"], PRESETS["crowdpose_14"], PRESETS["lsp_14"]
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
WIDTH = 0.25


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


@pytest.mark.parametrize("form", ["plain", "checkpoint", "half"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_public_checkpoint_is_loaded_whole_and_answers_the_same(tmp_path: Path, name: str, form: str) -> None:
    source, ours = lively(PUBLISHED[name](17)), network(name)
    state = dict(source.state_dict())
    if form == "checkpoint":
        torch.save(
            {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "it.pth"
        )
    else:
        torch.save({("1." if form == "half" else "") + key: value for key, value in state.items()}, tmp_path / "it.pth")
    report = load_weights(ours, tmp_path / "it.pth")
    assert "head of 17 keypoints taken, assuming COCO's order" in report.text
    assert not report.missing
    assert all(key.endswith("regular_matrix") for key in report.unused)
    found = ours.eval()(IMAGE)
    pixels = (IMAGE - ours.mean) / ours.std
    for key, maps in source.answer(pixels).items():
        assert maps.std() > 1e-3
        torch.testing.assert_close(found[key].maps, maps, rtol=1e-4, atol=1e-4 * maps.abs().max().item())


def test_cids_checkpoint_is_loaded_whole(tmp_path: Path) -> None:
    source, ours = lively(network("cid", seed=7)), network("cid")
    state = {key.removeprefix("head."): value for key, value in source.state_dict().items()}
    assert {"backbone.conv1.weight", "iia.keypoint_center_conv.bias", "gfd.s_attn.conv.weight"} <= state.keys()
    torch.save(state, tmp_path / "coco_hrnet_w32.pth")
    report = load_weights(ours, tmp_path / "coco_hrnet_w32.pth")
    assert (report.missing, report.unused) == ((), ())
    found = ours.state_dict()
    assert all(torch.equal(found[key], value) for key, value in source.state_dict().items())


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr"])
def test_a_head_for_14_keypoints_is_taken_for_crowdposes(tmp_path: Path, name: str) -> None:
    source = lively(PUBLISHED[name](14))
    torch.save(source.state_dict(), tmp_path / "crowdpose.pth")
    assert (
        "head of 14 keypoints taken, assuming CrowdPose's order"
        in load_weights(network(name, CROWD), tmp_path / "crowdpose.pth").text
    )
    assert "12 taken by name" in load_weights(network(name), tmp_path / "crowdpose.pth").text


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
def test_keypoints_are_matched_by_name_in_every_tensor_that_has_rows_of_them(tmp_path: Path, name: str) -> None:
    source, ours = network(name, COCO, seed=7), network(name, LSP)
    for value in source.head.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    before = {key: value.clone() for key, value in ours.head.state_dict().items()}
    report = load_weights(ours, save_ours(source, COCO, tmp_path / "coco.safetensors"))
    assert "head rebuilt for 14 keypoints (12 taken by name)" in report.text
    theirs = source.head.state_dict()
    for key, value in ours.head.state_dict().items():
        if key not in ours.head.rows:
            assert torch.equal(value, theirs[key]), key
            continue
        # Blocks of the first dimension: shared rows, or one of each keypoint, by the difference of the lengths.
        start = {"LSP": 0, "COCO": 0}
        for shared, each in ours.head.rows[key]:
            a, b = start["LSP"], start["COCO"]
            assert torch.equal(value[a : a + shared], theirs[key][b : b + shared]), key
            a, b = a + shared, b + shared
            for place, keypoint in enumerate(LSP.keypoints):
                mine = value[a + each * place : a + each * (place + 1)]
                if keypoint in COCO.keypoints:
                    at = b + each * COCO.keypoints.index(keypoint)
                    assert torch.equal(mine, theirs[key][at : at + each]), (key, keypoint)
                else:
                    assert torch.equal(mine, before[key][a + each * place : a + each * (place + 1)]), (key, keypoint)
            start = {"LSP": a + each * 14, "COCO": b + each * 17}
        assert (len(value), len(theirs[key])) == (start["LSP"], start["COCO"])


@pytest.mark.parametrize("name", ["higher_hrnet", "dekr", "cid"])
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


def test_pieces_of_dekr_that_do_not_belong_together_are_not_taken(tmp_path: Path) -> None:
    for lacking in ("offset_final_layer.3.", "offset_feature_layers.2.1.bn."):
        state = {k: v for k, v in PublishedDekr(17).state_dict().items() if not k.startswith(lacking)}
        torch.save(state, tmp_path / "it.pth")
        assert (
            "head rebuilt for 17 keypoints (0 taken by name)" in load_weights(network("dekr"), tmp_path / "it.pth").text
        )


def test_a_file_of_another_backbone_names_the_flag_and_both(tmp_path: Path) -> None:
    light = network("dekr", backbone="mobilenet_v1")
    save_file({"conv1.weight": torch.rand(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"backbone of dekr on mobilenet_v1 of width 0\.25"):
        load_weights(light, tmp_path / "other.safetensors")
    torch.save(HRNet(48, WIDTH).state_dict(), tmp_path / "w48.pth")
    with pytest.raises(DataError, match=r"Choose the --backbone that w48\.pth was made for"):
        load_weights(network("cid"), tmp_path / "w48.pth")
