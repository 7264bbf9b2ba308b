"""Losses kept image by image: those of parts are those of each part alone, and slopes are autograd's."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.scene_codec import SceneCodec
from semipose.fields import EDGE, Fields, stacked
from semipose.losses.focal import contrast, focal
from semipose.losses.heatmap import total
from semipose.losses.per_image import Term, by_parts, squared_error, whole
from semipose.scene import Scene
from tests.codecs.scenes import CODECS, SKELETON, answer, scene

by_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


def test_parts_are_sums_by_sums_times_their_factor_and_keep_what_is_not_finite_to_themselves() -> None:
    terms = {
        "mean": Term(torch.tensor([1.0, 2.0, 6.0])),
        "share": Term(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([3.0, 5.0, 4.0])),
        "nobody": Term(torch.zeros(3), torch.zeros(3)),
    }
    first, second = by_parts(terms, [2, 1], [1.0, 0.5])
    assert {name: loss.item() for name, loss in first.items()} == {"mean": 1.5, "share": 0.5, "nobody": 0}
    assert {name: loss.item() for name, loss in second.items()} == {"mean": 3, "share": 1, "nobody": 0}
    assert {name: loss.item() for name, loss in whole(terms).items()} == {"mean": 3, "share": 1, "nobody": 0}
    first, second = by_parts({"mean": terms["mean"]}, [1, 2], [1.0, 0.5])
    assert (first["mean"], second["mean"]) == (1, 2)
    bad = {"mean": Term(torch.tensor([1.0, 2.0, torch.nan]))}
    assert by_parts(bad, [2, 1], [1.0, 0.0])[0]["mean"] == 1.5


@by_codec
@pytest.mark.parametrize("negatives", [True, False])
def test_labels_and_pseudo_people_in_one_go_have_the_losses_of_one_after_the_other(
    codec: SceneCodec, negatives: bool
) -> None:
    """In batches of other sizes, with more room for people in one; also their gradients."""
    one, other = scene((2, 1)), scene((4, 0, 3), seed=1)
    other = replace(other, visible=0.7 * other.visible, weight=0.6 * other.weight)
    answers = [answer(codec, each) for each in (one, other)]
    one = Scene(one.keypoints[:, :2], one.visible[:, :2], one.weight[:, :2], one.sides[:, :2], one.known)
    for fields in answers:
        for name, field in fields.items():
            fields[name] = replace(field, maps=(0.9 * field.maps + 0.03).requires_grad_())
    apart = [whole(codec.terms(answers[0], one)), whole(codec.terms(answers[1], other, negatives))]
    empty: bool | Tensor = negatives or torch.tensor([1.0, 1, 0, 0, 0]).view(5, 1, 1, 1)
    together = by_parts(codec.terms(stacked(answers), Scene.stacked([one, other]), empty), [2, 3], [1.0, 1.0])
    for alone, found in zip(apart, together, strict=True):
        assert alone.keys() == found.keys()
        for name, loss in alone.items():
            torch.testing.assert_close(found[name], loss, msg=lambda text, name=name: f"{name}: {text}")
    leaves = [field.maps for fields in answers for field in fields.values()]
    slopes = [
        torch.autograd.grad(sum(total(part) for part in parts), leaves, allow_unused=True)
        for parts in (apart, together)
    ]
    for alone, found in zip(*slopes, strict=True):
        assert (alone is None) == (found is None)
        if alone is not None:
            torch.testing.assert_close(found, alone)


def plain_focal(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    p, peak = probability.clamp(EDGE, 1 - EDGE), target == 1
    at_peaks = -p.log() * (1 - p) ** 2
    elsewhere = -(1 - p).log() * p**2 * (1 - target) ** 4
    return (torch.where(peak, at_peaks, elsewhere) * weight).sum((1, 2, 3))


def plain_squares(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (weight * (predicted - target) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize(
    ("ours", "plain"),
    [(squared_error, plain_squares), (lambda *given: focal(*given)[0].total, plain_focal)],
    ids=["squares", "focal"],
)
def test_values_and_slopes_are_those_of_the_formula(ours: Callable[..., Tensor], plain: Callable[..., Tensor]) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (3, 2, 5, 7)
    predicted, target, weight = (torch.rand(shape, generator=random) for _ in range(3))
    target[0, 1, 2, 3] = target[2, 0, 0, 0] = 1
    found = []
    for loss in (ours, plain):
        leaf = predicted.clone().requires_grad_()
        each = loss(leaf, target, weight)
        (each * torch.tensor([1.0, 0.5, 2.0])).sum().backward()
        found.append((each.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1])


def test_the_focal_loss_of_images_and_of_peoples_own_maps_in_one_go_is_that_of_each() -> None:
    """With its gradient."""
    random = torch.Generator().manual_seed(0)
    found, target = (torch.rand(3, 7, 5, 6, generator=random) for _ in range(2))
    target[0, 1, 2, 3] = target[2, 5, 0, 0] = target[1, 6, 1, 1] = 1
    known, trust = torch.rand(3, 1, 5, 6, generator=random), torch.rand(3, 4, generator=random)
    slopes, values = [], []
    for at_once in (True, False):
        leaf = found.clone().requires_grad_()
        if at_once:
            heatmap, instance = (term.total for term in focal(leaf, target, known, trust))
        else:
            heatmap = plain_focal(leaf[:, :3], target[:, :3], known)
            instance = 4 * plain_focal(leaf[:, 3:], target[:, 3:], trust[..., None, None])
        (heatmap * torch.tensor([1.0, 0.5, 2.0]) + 3 * instance).sum().backward()
        values.append((heatmap.detach(), instance.detach()))
        slopes.append(leaf.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(slopes[0], slopes[1])
    divisors = [term.divisor for term in focal(found, target, known, trust)]
    torch.testing.assert_close(divisors[0], torch.stack([known[0, 0, 2, 3], torch.zeros(()), torch.zeros(())]))
    torch.testing.assert_close(divisors[1], torch.stack([torch.zeros(()), trust[1, 3], trust[2, 2]]))


def plain_contrast(parameters: Tensor, weight: Tensor) -> Tensor:
    unit = F.normalize(parameters, dim=-1)
    logits = (unit @ unit.mT / 0.05).masked_fill((weight == 0)[:, None] & ~torch.eye(4, dtype=torch.bool), -torch.inf)
    return (-logits.log_softmax(-1).diagonal(dim1=1, dim2=2) * weight).sum(1)


def test_the_contrastive_loss_and_its_slope_are_those_of_the_formula() -> None:
    random = torch.Generator().manual_seed(0)
    parameters = torch.rand(3, 4, 6, generator=random)
    weight = torch.tensor([[1.0, 0.5, 0, 0.2], [0, 0, 0, 1], [1, 1, 1, 1]])
    found = []
    for loss in (plain_contrast, lambda *given: contrast(*given).total):
        leaf = parameters.clone().requires_grad_()
        each = loss(leaf, weight)
        (each * torch.tensor([1.0, 0.5, 2.0])).sum().backward()
        found.append((each.detach(), leaf.grad))
    assert found[0][1][2].abs().max() > 0.1
    torch.testing.assert_close(found[0], found[1])


def test_the_quality_focal_loss_of_cids_consistency_and_its_slope_are_those_of_the_formula() -> None:
    """By the heights of the teacher's peaks; with weights that broadcast."""
    random = torch.Generator().manual_seed(0)
    codec = CODECS[-1]
    student, teacher = (torch.rand(2, 6, 32, 32, generator=random) for _ in range(2))
    student, teacher = 0.98 * student + 0.01, 0.0899 * teacher + EDGE
    teacher[0, 1, 4, 5], teacher[1, 5, 0, 31] = 0.9, 0.6
    weight = torch.rand(2, 1, 32, 32, generator=random)
    found = []
    for plain in (True, False):
        leaf = student.clone().requires_grad_()
        if plain:
            entropy = -(teacher * leaf.log() + (1 - teacher) * (1 - leaf).log())
            loss = (weight * (leaf - teacher) ** 2 * entropy).sum() / (0.9 + 0.6)
        else:
            fields, targets = (Fields.paired(maps, SKELETON.flip).merged() for maps in (leaf, teacher))
            weights = Fields({"heatmap": replace(targets["heatmap"], maps=weight)})
            loss = codec.consistency(fields, targets, weights)
        (2 * loss).backward()
        found.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
