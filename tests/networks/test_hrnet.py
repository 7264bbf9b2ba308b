"""HRNet against the public pose checkpoints, and against timm's HRNet, written by others from the same source."""

import copy
from functools import cache

import pytest
import torch

from semipose.networks import hrnet
from semipose.networks.heads import DeconvHead
from tests.networks.named import needs_timm, small


@cache
def meta(name: str) -> hrnet.HRNet:
    """The network of full size without values."""
    with torch.device("meta"):
        network: hrnet.HRNet = getattr(hrnet, name)()
    return network


@pytest.mark.parametrize(("name", "published"), [("hrnet_w32", 28.5), ("hrnet_w48", 63.6)])
def test_parameters_are_as_many_as_published(name: str, published: float) -> None:
    backbone = meta(name)
    head = DeconvHead(backbone.channels[0], 17, ())
    total = sum(p.numel() for part in (backbone, head) for p in part.parameters())
    assert round(total / 1e6, 1) == published
    assert total == {"hrnet_w32": 28_536_113, "hrnet_w48": 63_595_745}[name]


def test_names_and_shapes_are_those_of_the_public_pose_checkpoint() -> None:
    shapes = {name: tuple(value.shape) for name, value in meta("hrnet_w48").state_dict().items()}
    expected = {
        "conv1.weight": (64, 3, 3, 3),
        "bn2.running_var": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.3.conv3.weight": (256, 64, 1, 1),
        "transition1.0.0.weight": (48, 256, 3, 3),
        "transition1.0.1.bias": (48,),
        "transition1.1.0.0.weight": (96, 256, 3, 3),
        "transition2.2.0.0.weight": (192, 96, 3, 3),
        "transition3.3.0.1.running_mean": (384,),
        "stage2.0.branches.1.3.conv2.weight": (96, 96, 3, 3),
        "stage2.0.fuse_layers.0.1.0.weight": (48, 96, 1, 1),
        "stage3.3.fuse_layers.2.0.0.0.weight": (48, 48, 3, 3),
        "stage3.3.fuse_layers.2.0.1.0.weight": (192, 48, 3, 3),
        "stage3.3.fuse_layers.2.0.1.1.num_batches_tracked": (),
        "stage4.1.fuse_layers.3.2.0.0.weight": (384, 192, 3, 3),
        "stage4.2.branches.3.3.bn2.weight": (384,),
        "stage4.2.fuse_layers.0.3.0.weight": (48, 384, 1, 1),
        "stage4.2.fuse_layers.0.3.1.bias": (48,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    # 292 convolutions with a batch norm of five entries each; the last module brings nothing to coarser branches.
    assert len(shapes) == 292 * 6
    assert not any(name.startswith("stage4.2.fuse_layers.1") for name in shapes)


@needs_timm
def test_every_name_is_in_timms_network_and_the_finest_map_is_the_same() -> None:
    from semipose.networks.timm_backbone import load_timm

    theirs = load_timm().create_model("hrnet_w32", num_classes=0).eval()
    state = theirs.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    ours = copy.deepcopy(meta("hrnet_w32")).eval()
    ours.load_state_dict({name: state[name] for name in ours.state_dict()}, assign=True)
    image = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        stem = theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(image))))))
        expected = theirs.stages(stem)[0]
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(image)[0], expected)


def test_coarser_features_are_what_their_branches_end_with() -> None:
    network = hrnet.hrnet_w32(0.125).eval()
    ends: list[torch.Tensor] = []
    for branch in network.stage4[-1].branches:
        branch.register_forward_hook(lambda _module, _inputs, output: ends.append(output.clone()))
    features = network(torch.rand(1, 3, 64, 64))
    assert not torch.equal(features[0], ends[0])
    for found, end in zip(features[1:], ends[1:], strict=True):
        assert torch.equal(found, end)


def test_an_untrained_network_in_eval_mode_has_low_maps() -> None:
    """They are what a teacher or an easy view teaches in the first updates."""
    maps = small("hrnet_w32", width=0.25).eval()(torch.rand(1, 3, 64, 64))["heatmap"].maps
    assert maps.abs().max() < 0.1


def test_each_branch_has_twice_the_channels_of_the_one_before() -> None:
    assert meta("hrnet_w48").channels == (48, 96, 192, 384)
    # 18, 36, 72 and 144 to the nearest eight
    assert hrnet.hrnet_w32(0.5625).channels == (16, 40, 72, 144)
