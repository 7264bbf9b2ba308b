"""The head: shapes, where its output lies, how it starts."""

import pytest
import torch
from torch import nn

from semipose.errors import UsageError
from semipose.networks import HEAD_CHANNELS
from semipose.networks.build import build_network
from semipose.networks.heads import DeconvHead
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS


def test_each_transposed_convolution_doubles_the_resolution() -> None:
    head = DeconvHead(24, 5, (16, 8, 12))
    assert head(torch.rand(2, 24, 3, 2)).shape == (2, 5, 24, 16)
    assert DeconvHead(24, 5, (16,))(torch.rand(2, 24, 3, 2)).shape == (2, 5, 6, 4)


def test_output_lies_where_the_pixel_convention_says() -> None:
    """With symmetric kernels, feature i spreads evenly around output 8 i + 3.5: the cells' centers agree."""
    head = DeconvHead(1, 1, (1, 1, 1)).eval()
    for part in head.modules():
        if isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
            nn.init.ones_(part.weight)
    features = torch.zeros(1, 1, 5, 5)
    features[0, 0, 2, 1] = 1.0
    response = head(features)[0, 0].detach()
    share = response / response.sum()
    at = torch.arange(40.0)
    torch.testing.assert_close((share.sum(1) * at).sum(), torch.tensor(8 * 2 + 3.5))
    torch.testing.assert_close((share.sum(0) * at).sum(), torch.tensor(8 * 1 + 3.5))


def test_what_the_map_goes_into_after_some_of_the_transposed_convolutions() -> None:
    head = DeconvHead(24, 5, (16, 8))
    first, second, last = head.deconv_layers[0], head.deconv_layers[3], head.final_layer
    assert [head.after(count) for count in (0, 1, 2)] == [first, second, last]
    assert head.after(None) is head.final_layer
    plain = DeconvHead(24, 5, ())
    assert plain.after(0) is plain.after(None) is plain.final_layer
    with pytest.raises(ValueError, match="the head has 2 deconvolutions, so no map after 3"):
        head.after(3)


def test_it_starts_small_and_without_bias() -> None:
    """Normal with deviation 0.001, batch norm the identity, bias 0: every first heatmap is near 0."""
    head = DeconvHead(256, 17)
    deviations = [p.std().item() for p in head.parameters() if p.ndim == 4]
    assert len(deviations) == 4
    assert all(0.0009 < deviation < 0.0011 for deviation in deviations), deviations
    assert torch.equal(head.final_layer.bias, torch.zeros(17))
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    assert not any(part.bias is not None for part in head.modules() if isinstance(part, nn.ConvTranspose2d))


def test_names_and_shapes_are_those_of_public_simple_baselines_files() -> None:
    shapes = {name: tuple(value.shape) for name, value in DeconvHead(512, 17).state_dict().items()}
    expected = {
        "deconv_layers.0.weight": (512, 256, 4, 4),
        "deconv_layers.1.running_mean": (256,),
        "deconv_layers.6.weight": (256, 256, 4, 4),
        "deconv_layers.7.bias": (256,),
        "final_layer.weight": (17, 256, 1, 1),
        "final_layer.bias": (17,),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def multi_scale(name: str = "mobilenet_v1", seed: int = 0) -> PoseNetwork:
    return build_network(name, PRESETS["lsp_14"], width=0.125, head="multi_scale", head_channels=8, seed=seed)


def test_the_multi_scale_head_uses_all_features_and_predicts_at_stride_4() -> None:
    network = multi_scale().eval()
    image = torch.rand(2, 3, 96, 64)
    features = network.features(image)
    maps = network.heatmaps(features)
    assert maps.shape == (2, 14, 24, 16)
    assert network.stride == 4
    assert torch.equal(network(image)["heatmap"].maps, maps)
    for index, feature in enumerate(features):
        changed = [feature + torch.rand_like(feature) if other == index else features[other] for other in range(4)]
        assert not torch.equal(network.heatmaps(changed), maps), index


def test_the_multi_scale_head_starts_small_and_without_bias() -> None:
    network = multi_scale()
    assert network(torch.rand(4, 3, 64, 64))["heatmap"].maps.abs().max() < 0.05
    assert torch.equal(network.head.final_layer.bias, torch.zeros(14))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "hrnet_w32", "head": "multi_scale"}, "hrnet_w32 has a head of its own; found head 'multi_scale'"),
        ({"name": "cid", "head": "deconvolution"}, "cid has a head of its own"),
        ({"name": "resnet18", "head": "multiscale"}, "no head 'multiscale'.*did you mean 'multi_scale'"),
    ],
)
def test_a_head_that_a_network_cannot_have_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_network(skeleton=PRESETS["lsp_14"], **options)


def test_each_head_has_its_usual_channels() -> None:
    usual = {head: build_network("mobilenet_v1", PRESETS["lsp_14"], head=head).config for head in HEAD_CHANNELS}
    found = {head: (config["head"], config["head_channels"]) for head, config in usual.items()}
    assert found == {"deconvolution": ("deconvolution", 256), "multi_scale": ("multi_scale", 64)}
