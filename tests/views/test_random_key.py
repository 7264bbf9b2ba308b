"""Random numbers: named, sliced, the same anywhere."""

import numpy as np
import pytest
import torch

from semipose.views.random_key import RandomKey, generator


@pytest.mark.parametrize("kind", ["uniform", "normal", "beta"])
def test_two_processes_draw_the_two_halves_of_what_one_draws(kind: str) -> None:
    shape = (0.2,) if kind == "beta" else (3,)
    whole = getattr(RandomKey(0, 5, "unlabeled", 8, 8), kind)("x", *shape)
    halves = [getattr(RandomKey(0, 5, "unlabeled", 4, 8, start), kind)("x", *shape) for start in (0, 4)]
    np.testing.assert_array_equal(np.concatenate(halves), whole)


def test_numbers_are_those_of_torchs_generator_and_lie_where_they_are_placed() -> None:
    random, chance = RandomKey(0, 5, "unlabeled", 4, 8, 4, torch.device("meta")), generator(0, 5, "unlabeled", "x")
    np.testing.assert_array_equal(random.uniform("x", 2), torch.rand(8, 2, generator=chance)[4:].numpy())
    chance = generator(0, 5, "unlabeled", "x")
    np.testing.assert_array_equal(random.normal("x", 2), torch.randn(8, 2, generator=chance)[4:].numpy())
    assert random.to_device(random.uniform("x", 2)).device.type == "meta"


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_its_mean_and_spread(alpha: float) -> None:
    found = RandomKey(0, 0, "unlabeled", 20000, 20000).beta("x", alpha)
    assert found.dtype == torch.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert abs(found.mean().item() - 0.5) < 0.01
    assert found.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_what_is_drawn_for_a_batch_as_a_whole_is_the_same_in_all_its_parts() -> None:
    whole = RandomKey(0, 3, "unlabeled", 8, 8).shared("coin", 2)
    assert whole.shape == (2,)
    assert (RandomKey(0, 3, "unlabeled", 2, 8, 6).shared("coin", 2) == whole).all()
    # One flip of a coin is the same for batches of any size.
    assert (RandomKey(0, 3, "unlabeled", 4, 4).shared("coin", 2) == whole).all()
    assert (RandomKey(0, 4, "unlabeled", 8, 8).shared("coin", 2) != whole).all()
