"""The head: shapes, where its output lies, how it starts."""

import pytest
import torch
from torch import nn

from semipose.networks.heads import DeconvHead


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
