"""CID's losses and their gradients equal their formulas in float64."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.fields import PROBABILITY_MARGIN, Fields, heatmap_and_center
from semipose.losses.focal import contrast, focal
from tests.codecs.scenes import CODECS, SKELETON

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def plain_focal(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    p, peak = probability.double(), target == 1
    at_peaks = -p.log() * (1 - p) ** 2
    elsewhere = -(1 - p).log() * p**2 * (1 - target.double()) ** 4
    return (torch.where(peak, at_peaks, elsewhere) * weight).sum()


def plain_contrast(features: Tensor, weight: Tensor) -> Tensor:
    unit = F.normalize(features.double(), dim=-1)
    logits = (unit @ unit.mT / 0.05).masked_fill((weight == 0)[:, None] & ~torch.eye(4, dtype=torch.bool), -torch.inf)
    return (-logits.log_softmax(-1).diagonal(dim1=1, dim2=2) * weight).sum()


def compare(ours: Callable[..., Tensor], plain: Callable[..., Tensor], first: Tensor, *others: Tensor) -> None:
    """Compare values, and gradients to `first`."""
    found = []
    for loss in (ours, plain):
        leaf = first.clone().requires_grad_()
        value = loss(leaf, *others)
        (2 * value).backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0
        found.append((value.detach().double(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_focal_loss_and_its_gradient_are_those_of_the_formula(channels: int) -> None:
    """Also with weights that broadcast."""
    probability, target = 0.98 * rand(3, 2, 5, 7) + 0.01, rand(3, 2, 5, 7, seed=1)
    weight = rand(3, channels, 5, 7, seed=2)
    target[0, 1, 2, 3] = target[2, 0, 0, 0] = 1
    compare(lambda *given: focal(*given)[0], plain_focal, probability, target, weight)
    torch.testing.assert_close(focal(probability, target, weight)[1], weight[0, -1, 2, 3] + weight[2, 0, 0, 0])


def test_the_contrastive_loss_and_its_gradient_are_those_of_the_formula() -> None:
    weight = torch.tensor([[1.0, 0.5, 0, 0.2], [0, 0, 0, 1], [1, 1, 1, 1]])
    compare(lambda *given: contrast(*given)[0], plain_contrast, rand(3, 4, 6), weight)


def test_the_quality_focal_loss_of_cids_consistency_and_its_gradient_are_those_of_the_formula() -> None:
    """Divided by the heights of the teacher's peaks; with weights that broadcast."""
    student, teacher = 0.98 * rand(2, 6, 32, 32) + 0.01, 0.0899 * rand(2, 6, 32, 32, seed=1) + PROBABILITY_MARGIN
    teacher[0, 1, 4, 5], teacher[1, 5, 0, 31] = 0.9, 0.6
    weight = rand(2, 1, 32, 32, seed=2)

    def ours(maps: Tensor) -> Tensor:
        fields, targets = (heatmap_and_center(each, SKELETON.flip) for each in (maps, teacher))
        weights = Fields({name: replace(field, maps=weight) for name, field in targets.items()})
        return CODECS[-1].consistency(fields, targets, weights)

    def plain(maps: Tensor) -> Tensor:
        p, t = maps.double(), teacher.double()
        entropy = -(t * p.log() + (1 - t) * (1 - p).log())
        return (weight * (p - t) ** 2 * entropy).sum() / (0.9 + 0.6)

    compare(ours, plain, student)
