"""Frozen stages of a backbone: which modules they are, and that neither gradients nor statistics reach them."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from semipose.networks import backbone_names
from tests.networks.named import TIMM_NAMES, needs_timm, small

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", backbone_names())
def test_stages_are_all_parts_of_a_backbone_once(name: str) -> None:
    backbone = small(name).backbone
    listed = [tensor for parts in backbone.stage_parts() for part in parts for tensor in part.state_dict().values()]
    assert len(backbone.stage_parts()) == 4
    assert sorted(map(torch.Tensor.data_ptr, listed)) == sorted(map(torch.Tensor.data_ptr, all_tensors(backbone)))


def all_tensors(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v1", "hrnet_w32"])
def test_a_pass_neither_changes_nor_differentiates_frozen_stages(name: str, stages: int) -> None:
    network = small(name)
    network.backbone.freeze(stages)
    copy = deepcopy(network)
    for each in (network, copy.eval().train()):
        before = {key: value.clone() for key, value in each.backbone.state_dict().items()}
        each(IMAGE)["heatmap"].maps.sum().backward()
        frozen = set(each.backbone.frozen_names())
        assert frozen
        for key, value in each.backbone.state_dict().items():
            moves = "running" in key or "tracked" in key
            assert torch.equal(value, before[key]) == (key in frozen or not moves), key
        for key, parameter in each.backbone.named_parameters():
            assert (parameter.grad is None) == (not parameter.requires_grad) == (key in frozen), key


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1"])
def test_features_of_frozen_stages_have_no_graph(name: str) -> None:
    network = small(name)
    network.backbone.freeze(2)
    assert [feature.requires_grad for feature in network.features(IMAGE)] == [False, False, True, True]


@pytest.mark.parametrize("name", ["resnet18", pytest.param(TIMM_NAMES[0], marks=needs_timm)])
def test_stages_that_a_backbone_does_not_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="5 stages to freeze; the backbone has"):
        small(name).backbone.freeze(5)
