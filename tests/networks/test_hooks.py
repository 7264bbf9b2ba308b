"""Maps changed on their way into parts of a network, at the stages that every backbone names."""

import pytest
import torch
from torch import Tensor, nn

from semipose.networks.build import build_network
from semipose.networks.hooks import changing
from tests.networks.named import needs_timm, small
from tests.people import SKELETON


def test_a_change_holds_for_its_modules_and_only_while_asked() -> None:
    first, second = nn.Identity(), nn.Identity()
    network = nn.Sequential(first, second)
    with changing({second: lambda value: value + 1}):
        assert network(torch.zeros(1)) == 1
        assert first(torch.zeros(1)) == 0
    assert network(torch.zeros(1)) == 0
    with pytest.raises(RuntimeError), changing({second: lambda value: value + 1}):
        raise RuntimeError
    assert network(torch.zeros(1)) == 0


def test_every_map_of_a_list_is_changed_and_nothing_else_that_a_module_gets() -> None:
    class Sum(nn.Module):
        def forward(self, maps: list[Tensor], factor: Tensor) -> Tensor:
            return sum(maps) * factor

    module = Sum()
    with changing({module: lambda value: value + 1}):
        assert module([torch.zeros(1), torch.ones(1)], torch.ones(1) * 2) == 6


STRIDES = {
    "resnet18": [[4], [4], [8], [16]],
    "mobilenet_v1": [[4], [4], [8], [16]],
    "hrnet_w32": [[4], [4, 8], [4, 8, 16], [4, 8, 16, 32]],
    "timm:test_resnet": [[4], [4], [8], [16]],
    "timm:test_convnext": [[4], [4], [8], [16]],
    "timm:mobilenetv3_small_050": [[2], [4], [16]],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_timm if n.startswith("timm:") else ()) for n in STRIDES])
def test_each_backbone_names_stages_that_all_maps_pass(name: str) -> None:
    timm = name.startswith("timm:")
    network = small(name) if timm else build_network(name, SKELETON, width=0.125, head_channels=8)
    network.eval()
    image, stages = torch.rand(1, 3, 64, 96), network.backbone.stages()
    seen: list[list[int]] = [[] for _ in stages]

    def note(number: int, value: Tensor) -> Tensor:
        assert 64 / value.shape[-2] == 96 / value.shape[-1]
        seen[number].append(64 // value.shape[-2])
        return value

    with torch.no_grad():
        with changing({stage: lambda v, number=number: note(number, v) for number, stage in enumerate(stages)}):
            noted = network(image)["heatmap"].maps
        assert torch.equal(noted, network(image)["heatmap"].maps)
        assert seen == STRIDES[name]
        # Nothing goes past a stage: one that is given zeros makes the image of no account.
        for stage in stages:
            with changing({stage: torch.zeros_like}):
                one, other = (network(each)["heatmap"].maps for each in (image, 1 - image))
            assert torch.equal(one, other)


@needs_timm
def test_a_network_with_channels_last_in_its_shapes_names_no_stage() -> None:
    assert small("timm:test_mambaout").backbone.stages() == []
