"""Networks of timm: their weights under plain names, nothing downloaded, and what is refused with its reason."""

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from semipose.errors import DataError, UsageError
from semipose.networks import timm_backbone
from semipose.networks.timm_backbone import TimmBackbone, load_timm
from semipose.networks.weights import load_weights
from tests.networks.named import needs_timm, small


@needs_timm
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "test_convnext"])
def test_a_checkpoint_of_timm_is_loaded_by_its_plain_names(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    theirs = load_timm().create_model(name).eval()
    state = theirs.state_dict()
    for parameter in state.values():
        if parameter.is_floating_point():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    torch.save(state, tmp_path / "timm.pth")
    network = small(f"timm:{name}", seed=1).eval()
    report = load_weights(network, tmp_path / "timm.pth")
    assert "(the rest stays random" not in report.text
    assert "head rebuilt for 14 keypoints (the file has none)" in report.text
    # What stands behind the last map is not built.
    assert {unused.partition(".")[0] for unused in report.unused} <= {"fc", "head", "classifier", "conv_head"}
    image = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(theirs.default_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = theirs.forward_intermediates((image - mean) / std, intermediates_only=True)
        found = network.features(image)
    for ours, map_of_timm in zip(found, expected[-4:], strict=True):
        torch.testing.assert_close(ours, map_of_timm, atol=1e-4, rtol=1e-4)


@needs_timm
def test_weights_of_another_network_of_timm_are_refused_without_a_width_to_try(tmp_path: Path) -> None:
    torch.save(load_timm().create_model("test_efficientnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"another shape than in timm:mobilenetv3_small_050.* Choose the --network"):
        load_weights(small("timm:mobilenetv3_small_050"), tmp_path / "other.pth")


@needs_timm
def test_building_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    TimmBackbone("test_convnext")


@needs_timm
@pytest.mark.parametrize("name", ["cpubone_nano", "fasternet_t1"])
def test_dropout_and_stochastic_depth_are_off(name: str) -> None:
    backbone = TimmBackbone(name).train()
    before = torch.get_rng_state()
    backbone(torch.ones(2, 3, 64, 64))
    assert torch.equal(torch.get_rng_state(), before)


@needs_timm
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mobilenet_v3_small_100", "the nearest are .*mobilenetv3_small_100"),
        ("hf-hub:timm/resnet18", "has no network 'hf-hub:timm/resnet18'"),
        ("local-dir:/etc", "has no network"),
        ("", "has no network ''"),
        ("resnet18.no_such_weights", "timm cannot build 'resnet18.no_such_weights': .*no_such_weights"),
        ("test_vit", "gives maps of stride 16; expected 4, 8, 16 and 32. Choose a conv"),
        ("test_coatnet", "does not take images of any size: one of 64x96 gave .*; expected maps of 16x24, 8x12"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small(f"timm:{name}")


@pytest.mark.parametrize("missing", ["timm", "torchvision"])
def test_where_timm_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def absent(*_: str) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(timm_backbone, "load_torchvision", absent if missing == "torchvision" else lambda: None)
    monkeypatch.setattr(timm_backbone, "import_module", absent)
    with pytest.raises(UsageError, match=rf"need {missing}, which is not installed: pip install 'semipose\[timm\]'"):
        small("timm:resnet18")
