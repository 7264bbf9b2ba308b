"""The sampler's order is a function of its key."""

import numpy as np

from semipose.crops.sampler import Sampler


def test_a_sampler_sees_everybody_once_an_epoch_in_an_order_of_its_own() -> None:
    sampler = Sampler(10, 4, seed=0, stream="labeled")
    rows = np.concatenate([sampler.rows(update) for update in range(5)])
    assert sorted(rows[:10]) == list(range(10))
    assert sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    again = Sampler(10, 4, seed=0, stream="labeled")
    assert again.rows(3).tolist() == sampler.rows(3).tolist()  # no state: any update may come first
    assert Sampler(10, 4, 0, "unlabeled").rows(0).tolist() != sampler.rows(0).tolist()
    assert Sampler(3, 8, 0, "labeled").rows(0).shape == (8,)  # fewer people than a batch
