"""Golden values of the specs' reference tests."""

import pytest
import torch

from semipose.fields import Field, Fields
from semipose.losses.heatmap import field_loss, heatmap_loss


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], 0.0654750),  # T1
        ([[1.0] * 3] * 2, 0.1132917),
        ([[0.5] * 3] * 2, 0.25 * 0.1132917),  # a weight acts squared
    ],
)
def test_heatmap_loss_equals_the_published_value(weight: list[list[float]], expected: float) -> None:
    predicted = torch.arange(120.0).reshape(2, 3, 4, 5) / 100
    target = ((torch.arange(120) * 7) % 11).reshape(2, 3, 4, 5) / 10
    found = heatmap_loss(predicted, target, torch.tensor(weight)[..., None, None])
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_constant_error_on_17_of_24_maps() -> None:
    """L1: maps of weight 0 count in the mean and get no gradient."""
    predicted = torch.full((2, 24, 8, 6), 0.2, requires_grad=True)
    weight = (torch.arange(24) < 17).float()[None, :, None, None]
    loss = heatmap_loss(predicted, torch.zeros(2, 24, 8, 6), weight)
    assert loss.item() == pytest.approx(0.0141667, abs=1e-6)
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad[:, 17:].abs().max() == 0


def test_fields_with_nothing_in_common_are_refused() -> None:
    heat = Fields({"heatmap": Field(torch.zeros(1, 1, 2, 2), "scalar", 4, (0,))})
    tags = Fields({"tags": Field(torch.zeros(1, 1, 2, 2), "embedding", 4, (0,))})
    with pytest.raises(ValueError, match="nothing to compare"):
        field_loss(heat, tags, torch.ones(()))
