"""PoseCons against its reference tests (T12 of the easy-hard spec)."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.methods.method import Progress
from semipose.methods.pose_cons import PoseCons
from tests.people import SKELETON, batch


class Counting(nn.Module):
    """A network whose batches have mean 1 (labeled), 2 (weak) and 4 (strong), whatever it is shown."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.passes = 0

    def forward(self, image: Tensor) -> Fields:
        mean = (1.0, 2.0, 4.0)[self.passes]
        self.passes += 1
        self.norm(torch.full((len(image), 1, 2, 2), mean))
        maps = self.scale * torch.rand(len(image), len(SKELETON), 16, 16)
        return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)})


@pytest.mark.parametrize(
    ("batch_statistics", "expected"),
    [
        (True, 0.661),  # the public code: labeled, weak and strong pass each move the statistics
        (False, 0.1 * (0.9 * 1 + 4)),  # ours: the teacher's pass moves nothing
    ],
)
def test_batch_norm_statistics_of_one_step(batch_statistics: bool, expected: float) -> None:
    network = Counting()
    method = PoseCons(lambda role: network, SKELETON, ramp=0.0, batch_statistics=batch_statistics)
    method.train()
    method(batch(), Progress(0, 10))
    assert network.passes == 3
    assert network.norm.running_mean.item() == pytest.approx(expected, abs=1e-6)
    assert network.training


def test_the_loss_is_the_labeled_one_plus_the_weighted_consistency() -> None:
    losses = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        method = PoseCons(lambda role: Counting(), SKELETON, weight=weight, ramp=0.0)
        losses.append(method(batch(), Progress(0, 10)).losses)
    assert losses[1]["labeled"].item() == pytest.approx(losses[0]["labeled"].item())
    assert losses[1]["consistency"].item() == pytest.approx(3 * losses[0]["consistency"].item())


def test_the_cutouts_lie_on_the_teachers_keypoints() -> None:
    """Keypoints found in the weak view are carried into the strong one before anything is cut there."""
    seen = SimpleNamespace(images=[])

    class Pointing(Counting):
        def forward(self, image: Tensor) -> Fields:
            seen.images.append(image)
            maps = torch.zeros(len(image), len(SKELETON), 16, 16)
            maps[..., 4, 11] = 1  # everybody's keypoints at pixel (45.5, 17.5) of the weak view
            return Fields({"heatmap": Field(maps * self.scale, "scalar", 4, SKELETON.flip)})

    both = batch()
    weak = both.unlabeled.weak()
    strong = both.unlabeled.strong(weak)
    there = weak.to(strong).points(torch.tensor([[[45.5, 17.5]]]).expand(4, 1, 2))[:, 0]
    PoseCons(lambda role: Pointing(), SKELETON)(both, Progress(0, 10))
    cut = (seen.images[2] - strong.image).abs().sum(1) > 1e-6
    for mask, point in zip(cut, there, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        center = torch.stack([columns.float().mean(), rows.float().mean()])
        inside = (point > 8).all() and (point < 55).all()
        assert not inside or (center - point).norm() < 6
