"""PoseDual: each network is taught by the other, in images cut at the other's keypoints (T11 of the spec)."""

import pytest
import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.methods.method import Progress
from semipose.methods.pose_dual import PoseDual
from semipose.networks.network import PoseNetwork
from tests.people import SIZE, SKELETON, batch, builder


class Constant(nn.Module):
    """Answers `value` everywhere, with a peak at one cell, and keeps the images it was shown."""

    stride = 4

    def __init__(self, value: float, cell: tuple[int, int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.cell = cell
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Fields:
        self.seen.append(image)
        maps = torch.zeros(len(image), len(SKELETON), 16, 16)
        maps[..., self.cell[1], self.cell[0]] = 1e-3
        return Fields({"heatmap": Field(maps + self.value, "scalar", 4, SKELETON.flip)})


def pair(first: float, second: float) -> tuple[PoseDual, Constant, Constant]:
    networks = {"student": Constant(first, (5, 8)), "peer": Constant(second, (10, 8))}
    method = PoseDual(lambda role: networks[role], SKELETON, ramp=0.0)  # type: ignore[arg-type, return-value]
    return method, networks["student"], networks["peer"]


def test_a_network_is_pulled_toward_the_other_and_not_toward_itself() -> None:
    method, first, second = pair(0.2, 0.6)
    losses = method(batch(), Progress(0, 10)).losses
    (losses["consistency_first"] + losses["consistency_second"]).backward()
    assert first.value.grad is not None
    assert second.value.grad is not None
    # Descending raises the first and lowers the second.
    assert first.value.grad < 0 < second.value.grad


def test_equal_networks_have_nothing_to_teach() -> None:
    method, _, _ = pair(0.4, 0.4)
    losses = method(batch(), Progress(0, 10)).losses
    assert losses["consistency_first"] < 1e-4


def test_labeled_losses_weigh_a_half_each() -> None:
    equal, _, _ = pair(0.4, 0.4)
    apart, _, _ = pair(0.4, 0.0)
    zero, _, _ = pair(0.0, 0.0)
    loss = {
        name: made(batch(), Progress(0, 10)).losses["labeled"].item()
        for name, made in (("equal", equal), ("apart", apart), ("zero", zero))
    }
    assert loss["apart"] == pytest.approx(0.5 * loss["equal"] + 0.5 * loss["zero"], rel=1e-4)


def test_each_image_is_cut_at_the_keypoints_of_the_other_network() -> None:
    method, first, second = pair(0.2, 0.2)
    both = batch()
    weak = both.unlabeled.weak()
    strong = both.unlabeled.strong(weak)
    method(both, Progress(0, 10))
    for network, other in ((first, second), (second, first)):
        point = torch.tensor([4 * other.cell[0] + 1.5, 4 * other.cell[1] + 1.5])
        there = weak.to(strong).points(point.expand(4, 1, 2))[:, 0]
        cut = (network.seen[2] - strong.image).abs().sum(1) > 1e-6
        for mask, at in zip(cut, there, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            center = torch.stack([columns.float().mean(), rows.float().mean()])
            assert not ((at > 8).all() and (at < 55).all()) or (center - at).norm() < 6


def test_the_average_is_deployable_and_the_mean_of_both() -> None:
    method = PoseDual(builder(), SKELETON).eval()
    networks = method.networks()
    assert method.deployed == "first"
    for value, name in enumerate(("first", "second")):
        torch.nn.init.constant_(networks[name].head.final_layer.bias, float(value))
    image = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        maps = {name: network(image)["heatmap"].maps for name, network in networks.items()}
    assert not torch.allclose(maps["first"], maps["second"])
    torch.testing.assert_close(maps["average"], (maps["first"] + maps["second"]) / 2)
    assert all(isinstance(network, PoseNetwork) for network in networks.values())
