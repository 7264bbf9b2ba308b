"""CID: probabilities, one person's maps against the published formula, and fields that keep the ability to draw."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.fields import Fields, InstanceFields
from semipose.geometry import Affine
from semipose.networks import hrnet
from semipose.networks.cid import CidHead
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS
from tests.networks.named import small_scene

COCO, LSP = PRESETS["coco_17"], PRESETS["lsp_14"]
IMAGE = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
ROWS, CELLS = torch.tensor([0, 2, 2, 1]), torch.tensor([[0, 0], [23, 15], [4, 9], [11, 3]])


def loud(network: PoseNetwork) -> PoseNetwork:
    """With weights so large that every part shows in the answer; in train mode, as untrained statistics hide it."""
    for name, value in network.head.named_parameters():
        if value.ndim > 1 and name.startswith(("gfd", "iia")):
            torch.nn.init.normal_(value, std=0.6, generator=torch.Generator().manual_seed(len(name)))
    return network


def as_published(network: PoseNetwork, features: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
    """One person after another: shared maps weighted by channel and by place, side by side, mixed."""
    gfd, found = network.head.gfd, []
    shared = gfd.conv_down(features)
    height, width = features.shape[2:]
    for row, (x, y) in zip(rows.tolist(), cells.tolist(), strict=True):
        parameters, maps = features[row, :, y, x], shared[row]
        by_channel = maps * gfd.c_attn.atn(parameters)[:, None, None]
        total = (maps * gfd.s_attn.atn(parameters)[:, None, None]).sum(0)
        across = (x - torch.arange(width)).expand(height, width) / 32
        down = (y - torch.arange(height))[:, None].expand(height, width) / 32
        by_place = maps * gfd.s_attn.conv(torch.stack([total, across, down])[None])[0].sigmoid()
        mixed = gfd.fuse_attn(torch.cat([by_channel, by_place])[None])
        found.append(gfd.heatmap_conv(F.relu(mixed)).sigmoid().clamp(1e-4, 1 - 1e-4)[0])
    return torch.stack(found)


def test_the_head_has_the_published_names_shapes_and_size() -> None:
    with torch.device("meta"):
        backbone = hrnet.hrnet_w32(exchanged=True)
        head = CidHead(backbone, COCO.flip, 256)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        "iia.keypoint_center_conv.weight": (18, 480, 1, 1),
        "iia.keypoint_center_conv.bias": (18,),
        "gfd.conv_down.weight": (32, 480, 1, 1),
        "gfd.conv_down.bias": (32,),
        "gfd.c_attn.atn.weight": (32, 480),
        "gfd.c_attn.atn.bias": (32,),
        "gfd.s_attn.atn.weight": (32, 480),
        "gfd.s_attn.atn.bias": (32,),
        "gfd.s_attn.conv.weight": (1, 3, 5, 5),
        "gfd.s_attn.conv.bias": (1,),
        "gfd.fuse_attn.weight": (32, 64, 1, 1),
        "gfd.fuse_attn.bias": (32,),
        "gfd.heatmap_conv.weight": (17, 32, 1, 1),
        "gfd.heatmap_conv.bias": (17,),
    }


@pytest.mark.parametrize("backbone", ["hrnet_w32", "mobilenet_v1"])
def test_a_persons_maps_are_those_of_the_published_formula(backbone: str) -> None:
    network = loud(small_scene("cid", backbone)).double()
    fields = network(IMAGE.double())
    features = network.head.neck(network.features(IMAGE.double()))
    expected = as_published(network, features, ROWS, CELLS)
    assert expected.std() > 0.05
    torch.testing.assert_close(fields.instances(ROWS, CELLS), expected.float())
    spots = torch.tensor([[0, 30], [30, 31], [32, 9 * 24 + 4]])
    torch.testing.assert_close(fields.parameters(spots)[5], features[2, :, 9, 4])


def test_several_people_of_each_image_are_drawn_as_each_alone() -> None:
    """They share what they are drawn from."""
    fields = loud(small_scene("cid"))(IMAGE)
    rows = torch.arange(3)[:, None].expand(3, 2).flatten()
    cells = torch.tensor([[0, 0], [23, 15], [4, 9], [11, 3], [11, 3], [4, 9]])
    parameters = fields.parameters((cells[:, 1] * 24 + cells[:, 0]).view(3, 2))
    together, apart = fields.person_maps(parameters, cells), fields.instances(rows, cells)
    assert apart.std() > 0.05
    torch.testing.assert_close(together, apart)
    slopes = [
        torch.autograd.grad(maps.square().sum(), [fields.shared, fields.features], retain_graph=True)
        for maps in (together, apart)
    ]
    torch.testing.assert_close(slopes[0], slopes[1])


def test_an_untrained_network_believes_in_hardly_anything() -> None:
    fields = small_scene("cid").eval()(IMAGE)
    for maps in (fields["heatmap"].maps, fields["center"].maps, fields.instances(ROWS, CELLS)):
        torch.testing.assert_close(maps, torch.full_like(maps, 0.01), atol=2e-3, rtol=0)


def test_an_untrained_network_draws_people_apart() -> None:
    """Where all start with the same maps, but for 1e-9 or 1e-4, a short run hardly learns to draw anybody, or never."""
    fields = small_scene("cid").train()(IMAGE)
    maps = fields.instances(ROWS[1:3], CELLS[1:3]).logit()
    assert (maps[0] - maps[1]).abs().max() > 1e-2


def test_probabilities_stay_between_0_and_1_under_autocast() -> None:
    network = loud(small_scene("cid"))
    torch.nn.init.constant_(network.head.iia.keypoint_center_conv.bias, 50.0)
    torch.nn.init.constant_(network.head.gfd.heatmap_conv.bias, 50.0)
    with torch.autocast("cpu", torch.bfloat16):
        fields = network(IMAGE)
        inside = fields.instances(ROWS, CELLS)
    # Also of people drawn after it.
    for maps in (fields["heatmap"].maps, fields["center"].maps, inside, fields.instances(ROWS, CELLS)):
        assert maps.dtype == torch.float32
        assert torch.isfinite(torch.log1p(-maps)).all()
    assert maps.max().item() == pytest.approx(1 - 1e-4)


def test_high_probabilities_are_told_apart_under_autocast() -> None:
    """In bfloat16 the next number below 1 is 0.996."""
    network = small_scene("cid")
    torch.nn.init.constant_(network.head.iia.keypoint_center_conv.bias, 7.0)
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(IMAGE)["center"].maps
    torch.testing.assert_close(maps, torch.full_like(maps, 1 / (1 + math.exp(-7))), atol=1e-4, rtol=0)


def test_nobody_is_no_maps_and_no_gradient_that_is_not_finite() -> None:
    network = small_scene("cid")
    nobody = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64)
    fields = network(IMAGE)
    maps = fields.instances(*nobody)
    assert maps.shape == (0, 14, 16, 24)
    parameters = fields.parameters(torch.zeros(3, 0, dtype=torch.int64))
    assert parameters.shape == (0, network.head.neck.channels)
    assert fields.person_maps(parameters, nobody[1]).shape == (0, 14, 16, 24)
    (maps.sum() + fields["center"].maps.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_split_fields_draw_their_own_people() -> None:
    fields = loud(small_scene("cid"))(IMAGE)
    one, other = fields.split(1)
    assert len(other["heatmap"].maps) == 2
    whole = fields.instances(ROWS, CELLS)
    torch.testing.assert_close(one.instances(ROWS[:1], CELLS[:1]), whole[:1])
    torch.testing.assert_close(other.instances(ROWS[1:] - 1, CELLS[1:]), whole[1:])


def test_detached_fields_draw_without_a_graph() -> None:
    fields = small_scene("cid")(IMAGE)
    assert fields.instances(ROWS, CELLS).requires_grad
    detached = fields.detach()
    assert isinstance(detached, InstanceFields)
    assert not detached["heatmap"].maps.requires_grad
    assert not detached.instances(ROWS, CELLS).requires_grad
    torch.testing.assert_close(detached.instances(ROWS, CELLS), fields.instances(ROWS, CELLS))


def test_moved_fields_draw_nobody() -> None:
    moved = small_scene("cid")(IMAGE).moved(Affine.identity(3))
    assert type(moved) is Fields
    assert set(moved) == {"heatmap", "center"}
