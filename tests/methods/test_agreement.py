"""Two predictions merged: the mean where their peaks are near, else the higher one (T-R4 of the spec)."""

import pytest
import torch

from semipose.fields import Field, Fields
from semipose.methods._agreement import agreement, blend


def one_peak(cell: tuple[int, int], height: float) -> Fields:
    maps = torch.zeros(1, 1, 16, 12)
    maps[0, 0, cell[1], cell[0]] = height
    return Fields({"heatmap": Field(maps, "scalar", 4, (0,))})


@pytest.mark.parametrize(
    ("cell", "height", "share"),
    [
        ((5, 8), 0.2, 0.5),
        ((7, 8), 0.2, 0.5),  # two cells away
        ((5, 6), 0.9, 0.5),
        ((7, 9), 0.9, 1.0),  # further: the higher one
        ((7, 9), 0.2, 0.0),
        ((8, 8), 0.9, 1.0),
        ((11, 15), 0.2, 0.0),
    ],
)
def test_near_peaks_are_averaged_and_of_others_the_higher_one_is_taken(
    cell: tuple[int, int], height: float, share: float
) -> None:
    first, second = one_peak((5, 8), 0.5), one_peak(cell, height)
    expected = (1 - share) * first["heatmap"].maps + share * second["heatmap"].maps
    torch.testing.assert_close(agreement(first, second, torch.ones(()))["heatmap"].maps, expected)
    assert torch.equal(agreement(first, second, torch.zeros(()))["heatmap"].maps, first["heatmap"].maps)


def test_tr4_equal_answers_agree_on_themselves() -> None:
    maps = torch.rand(2, 5, 16, 12)
    fields = Fields({"heatmap": Field(maps, "scalar", 4, tuple(range(5)))})
    assert torch.equal(agreement(fields, fields, torch.ones(()))["heatmap"].maps, maps)


def test_the_mixed_answer_of_half_precision_maps_is_whole() -> None:
    first, second = (
        Fields({"heatmap": Field(torch.full((1, 1, 2, 2), value).bfloat16(), "scalar", 4, (0,))})
        for value in (0.0, 1.0)
    )
    assert blend(first, second, torch.tensor(0.25))["heatmap"].maps.unique().tolist() == [0.25]
