"""The highest places of maps, and values at places, against plain indexing."""

import pytest
import torch

from semipose.codecs.peaks import at_cells, at_points, center_kernel, peaks, quarter, smoothed
from tests.codecs import plain


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_peaks_are_the_highest_of_their_neighborhood_best_first() -> None:
    maps = torch.zeros(1, 2, 12, 16)
    maps[0, 0, 3, 4], maps[0, 0, 3, 5], maps[0, 0, 9, 15], maps[0, 1, 0, 0] = 0.9, 0.8, 0.5, 0.3
    height, cells = peaks(maps, 3)
    torch.testing.assert_close(height, torch.tensor([[[0.9, 0.5, 0.0], [0.3, 0.0, 0.0]]]))
    assert cells[0, 0, :2].tolist() == [[4, 3], [15, 9]]
    assert cells[0, 1, 0].tolist() == [0, 0]


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_peak_is_the_highest_of_as_many_cells_as_pooling_looks_at(kernel: int) -> None:
    maps = noise(2, 3, 17, 14)
    top = torch.nn.functional.max_pool2d(maps, kernel, 1, kernel // 2)
    height, cells = peaks(maps, 40, kernel)
    expected = torch.where(maps == top, maps, 0).flatten(2).topk(40).values
    assert torch.equal(height, expected)
    assert torch.equal(at_cells(maps, cells)[height > 0], height[height > 0])


def test_centers_merge_within_more_cells_on_larger_maps() -> None:
    assert [center_kernel((side, side)) for side in (128, 200, 201, 300, 301)] == [3, 3, 5, 5, 7]


def test_values_at_cells_are_those_of_the_border_beyond_it() -> None:
    maps = noise(1, 1, 6, 8)
    cells = torch.tensor([[[[2, 3], [-1, 3], [9, 7]]]])
    assert at_cells(maps, cells)[0, 0].tolist() == [maps[0, 0, 3, 2], maps[0, 0, 3, 0], maps[0, 0, 5, 7]]


def test_values_between_cells_are_those_of_the_enlarged_map() -> None:
    maps = noise(2, 3, 6, 8)
    large = torch.nn.functional.interpolate(maps, scale_factor=2.0, mode="bilinear")
    x, y = torch.meshgrid(torch.arange(16), torch.arange(12), indexing="xy")
    cells = torch.stack([x, y], -1).flatten(0, 1).expand(2, 3, -1, -1)
    torch.testing.assert_close(at_points(maps, cells / 2 - 0.25), large.flatten(2))


def test_a_quarter_step_goes_to_the_higher_neighbors() -> None:
    maps = noise(1, 1, 5, 7)
    x, y = torch.meshgrid(torch.arange(7), torch.arange(5), indexing="xy")
    cells = torch.stack([x, y], -1).flatten(0, 1)[None, None]
    expected = [plain.step(maps[0, 0].numpy(), x, y) for x, y in cells[0, 0].tolist()]
    assert torch.equal((cells + quarter(maps, cells))[0, 0], torch.tensor(expected))


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 2)])
def test_smoothed_maps_are_the_mean_of_maps_and_their_pooled_ones(size: tuple[int, int]) -> None:
    maps = noise(2, 3, *size)
    torch.testing.assert_close(smoothed(maps), (maps + torch.nn.functional.avg_pool2d(maps, 3, 1, 1)) / 2)
