"""HigherHRNet against what is published: parameters, names, and how its parts hang together."""

import pytest
import torch
import torch.nn.functional as F

from semipose.networks import hrnet
from semipose.networks.higher_hrnet import HigherHead
from semipose.pose.skeleton import PRESETS
from tests.networks.named import small_scene

COCO, LSP = PRESETS["coco_17"], PRESETS["lsp_14"]


@pytest.mark.parametrize(("name", "published"), [("hrnet_w32", 28.6), ("hrnet_w48", 63.8)])
def test_parameters_are_as_many_as_published(name: str, published: float) -> None:
    with torch.device("meta"):
        backbone: hrnet.HRNet = getattr(hrnet, name)()
        head = HigherHead(backbone, COCO.flip, 256)
    assert round(sum(p.numel() for part in (backbone, head) for p in part.parameters()) / 1e6, 1) == published


def test_names_and_shapes_are_those_of_the_public_checkpoint() -> None:
    with torch.device("meta"):
        head = HigherHead(hrnet.hrnet_w32(), COCO.flip, 256)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    expected = {
        "final_layers.0.weight": (34, 32, 1, 1),
        "final_layers.1.bias": (17,),
        "deconv_layers.0.0.0.weight": (66, 32, 4, 4),
        "deconv_layers.0.0.1.running_var": (32,),
        "deconv_layers.0.4.0.conv2.weight": (32, 32, 3, 3),
        "deconv_layers.0.1.0.bn1.num_batches_tracked": (),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert len(shapes) == 2 * 2 + 6 + 4 * 2 * 6


@pytest.mark.parametrize("backbone", ["hrnet_w32", "resnet18"])
def test_heatmaps_of_two_resolutions_and_tags(backbone: str) -> None:
    fields = small_scene("higher_hrnet", backbone)(torch.rand(2, 3, 64, 96))
    shapes = {name: (tuple(field.maps.shape), field.kind, field.stride) for name, field in fields.items()}
    assert shapes == {
        "heatmap": ((2, 14, 16, 24), "scalar", 4),
        "tags": ((2, 14, 16, 24), "embedding", 4),
        "fine_heatmap": ((2, 14, 32, 48), "scalar", 2),
    }
    assert {field.flip for field in fields.values()} == {LSP.flip}


def test_a_light_backbones_features_of_every_stride_reach_the_maps() -> None:
    network, image = small_scene("higher_hrnet", "resnet18").eval(), torch.rand(1, 3, 64, 64)
    features = network.features(image)
    assert [64 // feature.shape[-1] for feature in features] == [4, 8, 16, 32]
    before = network.head(features)
    for number, feature in enumerate(features):
        changed = [*features[:number], feature + 1 + feature.abs(), *features[number + 1 :]]
        for name, field in network.head(changed).items():
            assert not torch.equal(field.maps, before[name].maps)


def test_the_variant_of_one_resolution_has_no_finer_maps_and_is_alike_in_the_others() -> None:
    image = torch.rand(1, 3, 64, 64)
    whole, plain = (small_scene("higher_hrnet", fine=fine).eval() for fine in (True, False))
    plain.load_state_dict({name: whole.state_dict()[name] for name in plain.state_dict()})
    found, expected = plain(image), whole(image)
    assert set(found) == {"heatmap", "tags"}
    for name in found:
        assert torch.equal(found[name].maps, expected[name].maps)


def test_the_first_maps_are_heatmaps_then_tags_and_all_of_them_go_up() -> None:
    network, image = small_scene("higher_hrnet", "hrnet_w32").eval(), torch.rand(1, 3, 64, 64)
    head, x = network.head, network.features(image)[0]
    coarse = F.conv2d(x, head.final_layers[0].weight, head.final_layers[0].bias)
    fields = network(image)
    torch.testing.assert_close(fields["heatmap"].maps, coarse[:, :14])
    torch.testing.assert_close(fields["tags"].maps, coarse[:, 14:])
    up = head.deconv_layers[0](torch.cat([x, coarse], 1))
    torch.testing.assert_close(fields["fine_heatmap"].maps, head.final_layers[1](up))
