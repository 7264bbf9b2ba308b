"""The threshold of pseudo people follows the scores: as many as labels have, or those of the higher Gaussian."""

import pytest
import torch
from torch import Tensor

from semipose.methods._people_threshold import BINS, PeopleThreshold

# Of the network's codec.
SURE = 0.09


def scores(images: int, people: int, generator: torch.Generator) -> Tensor:
    """(images, people) in 0..1: three people around 0.6 in each image, the others are mistakes around 0.15."""
    noise = torch.randn(images, people, generator=generator)
    return torch.where(torch.arange(people) < 3, 0.6 + 0.12 * noise, 0.15 + 0.06 * noise).clamp(0.01, 0.99)


def fed(rule: str, labeled: float = 2.5, updates: int = 600) -> tuple[PeopleThreshold, Tensor]:
    generator = torch.Generator().manual_seed(3)
    threshold = PeopleThreshold(rule, 0.3)  # type: ignore[arg-type]
    for _ in range(updates):
        threshold.update(scores(8, 10, generator), labeled + float(torch.randn(6, generator=generator).mean()))
    return threshold, scores(2000, 10, generator)


@pytest.mark.parametrize("labeled", [0.5, 1.0, 2.5, 5.0])
def test_matching_keeps_as_many_people_as_are_labeled(labeled: float) -> None:
    threshold, fresh = fed("matched", labeled)
    kept = float((fresh >= threshold(SURE)).sum() / len(fresh))
    assert kept == pytest.approx(labeled, rel=0.05)


def test_matching_follows_a_teacher_that_becomes_surer() -> None:
    threshold, _ = fed("matched", 2.5, 300)
    before, generator = float(threshold(SURE)), torch.Generator().manual_seed(4)
    for _ in range(500):
        threshold.update((scores(8, 10, generator) * 1.4).clamp(0, 0.99), 2.5)
    fresh = (scores(2000, 10, generator) * 1.4).clamp(0, 0.99)
    assert float(threshold(SURE)) > before + 0.1
    assert float((fresh >= threshold(SURE)).sum() / len(fresh)) == pytest.approx(2.5, rel=0.05)


def test_with_fewer_candidates_than_labels_everybody_is_kept() -> None:
    threshold = PeopleThreshold("matched", 0.3)
    threshold.update(torch.tensor([[0.4, 0.0, 0.0]]), 2.0)
    assert float(threshold(SURE)) <= 0.4


def test_the_first_batch_already_decides() -> None:
    threshold = PeopleThreshold("matched", 0.3)
    scores = torch.tensor([[0.9, 0.4, 0.2, 0.0]])
    threshold.update(scores, 1.0)
    assert (scores >= threshold(SURE)).sum() == 1


def test_the_mixture_parts_people_from_mistakes() -> None:
    threshold, fresh = fed("mixture")
    assert 0.25 < float(threshold(SURE)) < 0.45
    assert float((fresh >= threshold(SURE)).sum() / len(fresh)) == pytest.approx(3.0, rel=0.05)


def test_a_fixed_threshold_stays_and_is_the_codecs_where_none_is_given() -> None:
    threshold, _ = fed("fixed")
    assert float(threshold(SURE)) == pytest.approx(0.3)
    assert float(PeopleThreshold("fixed", 0.0)(SURE)) == pytest.approx(SURE)


def test_nothing_seen_is_no_threshold_that_divides_by_zero() -> None:
    for rule in ("matched", "mixture"):
        threshold = PeopleThreshold(rule, 0.3)  # type: ignore[arg-type]
        assert bool(torch.isfinite(threshold(SURE)))


def test_the_mean_of_two_processes_statistics_is_that_of_one_with_both_batches() -> None:
    generator = torch.Generator().manual_seed(5)
    one, *parts = (PeopleThreshold("matched", 0.3) for _ in range(3))
    for _ in range(20):
        batch, labeled = scores(8, 10, generator), torch.randint(1, 5, (6,), generator=generator)
        one.update(batch, float(labeled.float().mean()))
        for part, rows, people in zip(parts, batch.split(4), labeled.split(3), strict=True):
            part.update(rows, float(people.float().mean()))
    mean = (parts[0].above + parts[1].above) / 2
    assert torch.allclose(mean, one.above, atol=1e-6)
    assert one.above.shape == (BINS + 1,)
