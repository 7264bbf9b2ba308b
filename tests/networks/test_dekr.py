"""DEKR against what is published, and its grouped branches against one branch a keypoint."""

import pytest
import torch
import torch.nn.functional as F

from semipose.networks import hrnet
from semipose.networks.adaptive import adaptive_convolution
from semipose.networks.dekr import DekrHead
from semipose.pose.skeleton import PRESETS
from tests.networks.named import small_scene

COCO, LSP = PRESETS["coco_17"], PRESETS["lsp_14"]


@pytest.mark.parametrize(("name", "published"), [("hrnet_w32", 29.6), ("hrnet_w48", 65.7)])
def test_parameters_are_as_many_as_published(name: str, published: float) -> None:
    with torch.device("meta"):
        backbone: hrnet.HRNet = getattr(hrnet, name)(exchanged=True)
        head = DekrHead(backbone, COCO.flip, 256)
    assert head.neck.channels == {"hrnet_w32": 480, "hrnet_w48": 720}[name]
    assert round(sum(p.numel() for part in (backbone, head) for p in part.parameters()) / 1e6, 1) == published


def test_fields_and_their_partners() -> None:
    fields = small_scene("dekr")(torch.rand(2, 3, 64, 96))
    shapes = {name: (tuple(field.maps.shape), field.kind, field.stride) for name, field in fields.items()}
    assert shapes == {
        "heatmap": ((2, 14, 16, 24), "scalar", 4),
        "center": ((2, 1, 16, 24), "scalar", 4),
        "offsets": ((2, 28, 16, 24), "vector", 4),
    }
    assert fields["heatmap"].flip == LSP.flip
    assert fields["center"].flip == (0,)
    offsets = fields["offsets"].flip
    assert [(offsets[2 * k] // 2, offsets[2 * k + 1] // 2) for k in range(14)] == [(k, k) for k in LSP.flip]
    assert [channel % 2 for channel in offsets] == [0, 1] * 14


def test_the_branches_of_all_keypoints_at_once_equal_one_after_the_other() -> None:
    network, image = small_scene("dekr").eval(), torch.rand(1, 3, 64, 64)
    head, found = network.head, network(image)["offsets"].maps
    for value in head.offset_feature_layers.parameters():
        torch.nn.init.normal_(value, std=0.3)
    found = network(image)["offsets"].maps
    entry = head.transition_offset(head.neck(network.features(image)))
    for k in range(14):
        x, own = entry[:, 15 * k : 15 * k + 15], slice(15 * k, 15 * k + 15)
        for block in head.offset_feature_layers:
            matrix, shift = (
                F.conv2d(x, conv.weight[rows], conv.bias[rows], padding=1)
                for conv, rows in (
                    (block.transform_matrix_conv, slice(4 * k, 4 * k + 4)),
                    (block.translation_conv, slice(2 * k, 2 * k + 2)),
                )
            )
            y = adaptive_convolution(x, block.adapt_conv.weight[own], matrix, shift)
            bn = block.bn
            y = F.batch_norm(y, bn.running_mean[own], bn.running_var[own], bn.weight[own], bn.bias[own])
            x = F.relu(y + x)
        final, two = head.offset_final_layer, slice(2 * k, 2 * k + 2)
        torch.testing.assert_close(F.conv2d(x, final.weight[two], final.bias[two]), found[:, two])


@pytest.mark.parametrize("identity", [False, True])
def test_taps_start_where_the_option_says(identity: bool) -> None:
    for block in small_scene("dekr", identity_init=identity).head.offset_feature_layers:
        assert not block.transform_matrix_conv.weight.any()
        assert not block.translation_conv.weight.any()
        assert not block.translation_conv.bias.any()
        expected = torch.tensor([1.0, 0.0, 0.0, 1.0]) * identity
        assert torch.equal(block.transform_matrix_conv.bias.view(14, 4), expected.expand(14, 4))
