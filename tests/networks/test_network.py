"""PoseNetwork: what it accepts, what its state holds; autocast, copies and memory layouts."""

import copy

import pytest
import torch
from torch import Tensor

from semipose.errors import UsageError
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS
from tests.networks.named import NAMES
from tests.networks.named import small as small_one


def small(name: str = "mobilenet_v1") -> PoseNetwork:
    return build_network(name, PRESETS["coco_17"], width=0.25, head_channels=8)


def maps_of(network: PoseNetwork, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)["heatmap"].maps


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (torch.rand(1, 3, 64, 50), UsageError, "64x50 .* nearest is 64x64"),
        (torch.rand(1, 1, 64, 64), ValueError, r"\(1, 1, 64, 64\)"),
        (torch.rand(3, 64, 64), ValueError, r"expected float \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), ValueError, "uint8"),  # would be 0..255, not 0..1
    ],
)
def test_an_image_it_cannot_take_is_refused(image: Tensor, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        small()(image)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("mobilenet_v1", (0.5,) * 3, (0.5,) * 3), ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))],
)
def test_images_of_range_0_to_1_are_normalized_as_the_public_weights_expect(
    name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    network, image = small(name).eval(), torch.rand(1, 3, 32, 32)
    normalized = (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    for ours, expected in zip(network.features(image), network.backbone(normalized), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_state_holds_what_is_learned_and_nothing_else() -> None:
    names = set(small().state_dict())
    assert {"mean", "std"}.isdisjoint(names)
    assert {name.partition(".")[0] for name in names} == {"backbone", "head"}


def test_batch_norm_forgets_at_the_usual_rate() -> None:
    network = small()
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}


def test_a_deep_copy_answers_the_same_and_is_independent() -> None:
    network, image = small().eval(), torch.rand(1, 3, 32, 32)
    baseline = copy.deepcopy(network)
    before = maps_of(network, image)
    assert torch.equal(maps_of(baseline, image), before)
    with torch.no_grad():
        for parameter in baseline.parameters():
            parameter.zero_()
    assert torch.equal(maps_of(network, image), before)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_changes_the_layout_and_not_the_answer(name: str) -> None:
    # In train mode: where no statistics have settled, some networks' maps in eval mode are all but zero. In double
    # precision: deep ones at their first step make much of little.
    network, image = small_one(name).double(), torch.rand(2, 3, 64, 64).double()
    before = maps_of(network, image)
    assert before.std() > 1e-4
    network.to(memory_format=torch.channels_last)
    after = maps_of(network, image.to(memory_format=torch.channels_last))
    assert after.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after, before, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_trains_and_changes_the_maps_little(name: str) -> None:
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = small_one(name).eval()
    exact = maps_of(network, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(image)["heatmap"].maps
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() < 0.03 * exact.norm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network.train()(image)["heatmap"].maps.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
