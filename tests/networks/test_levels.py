"""Multi-level heads: the reference tests F1 to F3, on every kind of backbone."""

import importlib.util
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from semipose.fields import Field, Fields
from semipose.losses.heatmap import field_loss
from semipose.networks.build import build_network
from semipose.networks.levels import MultiLevel
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS

SKELETON = PRESETS["lsp_14"]
NAMES = ["resnet18", "mobilenet_v1", "hrnet_w32", "timm:test_resnet"]


def plain(name: str, seed: int = 0) -> PoseNetwork:
    if name.startswith("timm:"):
        if importlib.util.find_spec("timm") is None:
            pytest.skip("needs timm")
        return build_network(name, SKELETON, head_channels=8, seed=seed)
    return build_network(name, SKELETON, width=0.125, head_channels=8, seed=seed)


def target() -> tuple[Fields, Tensor]:
    maps = torch.rand(2, len(SKELETON), 16, 24, generator=torch.Generator().manual_seed(0))
    return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)}), torch.ones(())


IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_f1_all_levels_have_the_maps_of_the_last_which_is_the_plain_networks(name: str) -> None:
    network = plain(name)
    expected = deepcopy(network)(IMAGE)["heatmap"].maps
    found = MultiLevel(network, (0.1, 0.3))(IMAGE)
    assert list(found) == ["heatmap", "level0", "level1"]
    assert all(field.maps.shape == (2, len(SKELETON), 16, 24) and field.stride == 4 for field in found.values())
    assert torch.equal(found["heatmap"].maps, expected)
    assert not torch.equal(found["level0"].maps, found["level1"].maps)


def test_the_multi_scale_head_is_the_last_of_the_levels() -> None:
    network = build_network("mobilenet_v1", SKELETON, width=0.125, head="multi_scale", head_channels=8)
    expected = deepcopy(network)(IMAGE)["heatmap"].maps
    found = MultiLevel(network, (0.1, 0.3))(IMAGE)
    assert torch.equal(found["heatmap"].maps, expected)
    assert {field.maps.shape for field in found.values()} == {expected.shape}


@pytest.mark.parametrize("name", NAMES)
def test_f1_auxiliary_losses_of_weight_zero_leave_the_gradients_as_they_are(name: str) -> None:
    network = plain(name)
    multi = MultiLevel(deepcopy(network), (0.1, 0.3))
    multi.shares = dict.fromkeys(multi.shares, 0.0)
    field_loss(network(IMAGE), *target()).backward()
    multi.loss(multi(IMAGE), *target()).backward()
    for (key, weight), (_, other) in zip(network.named_parameters(), multi.network.named_parameters(), strict=True):
        assert torch.equal(weight.grad, other.grad), key


def test_a_level_without_a_share_has_no_head_and_none_at_all_is_the_plain_network() -> None:
    network = plain("resnet18")
    assert list(MultiLevel(network, (0.0, 0.3)).heads) == ["1"]
    without = MultiLevel(network, (0.0, 0.0))
    assert list(without(IMAGE)) == ["heatmap"]
    assert sum(1 for _ in without.parameters()) == sum(1 for _ in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_f2_eval_mode_runs_no_auxiliary_head_and_the_plain_weights_fit_the_plain_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    multi = MultiLevel(plain(name), (0.1, 0.3)).eval()
    other = plain(name, seed=5).eval()
    other.load_state_dict(multi.network.state_dict())
    multi.heads = None  # type: ignore[assignment]
    with torch.no_grad():
        found = multi(IMAGE)
        assert list(found) == ["heatmap"]
        assert torch.equal(found["heatmap"].maps, other(IMAGE)["heatmap"].maps)


def gradients(network: PoseNetwork, multi: MultiLevel, level: str) -> dict[str, bool]:
    multi.zero_grad()
    multi(IMAGE)[level].maps.square().sum().backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in network.backbone.named_parameters()}


def test_f3_an_auxiliary_head_reaches_its_stage_and_those_before_it_alone() -> None:
    network = plain("resnet18")
    multi = MultiLevel(network, (0.1, 0.3))
    network.head.requires_grad_(False)
    for level, stages in (("level0", ("layer1", "layer2")), ("level1", ("layer1", "layer2", "layer3"))):
        reached = gradients(network, multi, level)
        assert {name.partition(".")[0] for name, there in reached.items() if there} == {"conv1", "bn1", *stages}


def test_hrnets_levels_are_the_fine_branch_after_two_and_after_three_branches() -> None:
    network = plain("hrnet_w32")
    multi = MultiLevel(network, (0.1, 0.3))
    assert not any(there for name, there in gradients(network, multi, "level0").items() if name.startswith("stage3"))
    reached = gradients(network, multi, "level1")
    assert any(there for name, there in reached.items() if name.startswith("stage3"))
    assert not any(there for name, there in reached.items() if name.startswith("stage4"))


def test_all_levels_learn_the_same_heatmaps_by_their_shares() -> None:
    multi = MultiLevel(plain("mobilenet_v1"), (0.1, 0.3))
    found, (wanted, weight) = multi(IMAGE), target()
    loss = {name: field_loss(Fields({"heatmap": field}), wanted, weight) for name, field in found.items()}
    expected = loss["heatmap"] + 0.1 * loss["level0"] + 0.3 * loss["level1"]
    torch.testing.assert_close(multi.loss(found, wanted, weight), expected)


def test_heads_start_from_the_networks_seed_and_leave_the_global_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    heads = [MultiLevel(plain("mobilenet_v1", seed), (0.1, 0.3)).heads["0"].final_layer.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
