"""Gaussians written as windows: reference values, and equal to plain loops."""

import numpy as np
import pytest
import torch

from semipose.codecs.rendering import Windows, on_map
from tests.codecs import plain


def one(x: float, y: float, size: tuple[int, int] = (128, 128)) -> torch.Tensor:
    """HigherHRNet's map of one point: integer places, sigma 2."""
    at = torch.tensor([[[[x, y]]]]).floor()
    return Windows.around(at, torch.ones(1, 1, 1), 2.0, 7.0, 7.0, size).gaussians()[0, 0]


def test_a_point_becomes_the_published_patch_of_15_cells() -> None:
    drawn = one(10.7, 20.2)
    assert drawn[20, 10] == 1
    assert abs(drawn.double().sum() - 25.125131) < 2e-6
    torch.testing.assert_close(drawn[20, 11].item(), 0.8824969, atol=1e-7, rtol=0)
    torch.testing.assert_close(drawn[21, 11].item(), 0.7788008, atol=1e-7, rtol=0)
    assert (drawn > 0).sum() == 225
    assert abs(one(0, 0).sum() - 9.037531) < 2e-6


def test_a_map_of_one_point_is_as_far_from_zero_as_published() -> None:
    for size, expected in ((128, 7.67e-4), (256, 1.917e-4)):
        squared = one(60, 60, (size, size)).square()
        assert abs(squared.sum() - 12.566) < 1e-3
        assert abs(squared.mean() - expected) < 1e-6


def test_windows_equal_loops_over_cells_also_at_borders_and_where_people_overlap() -> None:
    random = torch.Generator().manual_seed(0)
    size, sigma = (20, 28), 1.5
    at = torch.rand(2, 3, 2, 2, generator=random) * 34 - 3
    at[0, 0, 0] = torch.tensor([5.0, 7.0])
    confidence = torch.rand(2, 3, 2, generator=random)
    confidence[1, 0] = 0
    there = on_map(at, size)
    windows = Windows.around(at, confidence * there, sigma, 3 * sigma + 1, 3 * sigma + 1, size)
    maps, covered = windows.gaussians(), windows.confidences()
    assert there.any()
    assert not there.all()
    for image in range(2):
        for k in range(2):
            drawn, near = np.zeros(size), np.zeros(size)
            for person in range(3):
                if confidence[image, person, k] > 0 and there[image, person, k]:
                    heat, window = plain.gaussian(*at[image, person, k].tolist(), sigma, size)
                    drawn, near = (
                        np.maximum(drawn, heat),
                        np.maximum(near, window * confidence[image, person, k].item()),
                    )
            np.testing.assert_allclose(maps[image, k], drawn, atol=1e-6)
            np.testing.assert_allclose(covered[image, k], near, atol=1e-7)


def of_widths(at: torch.Tensor, reach: torch.Tensor, confidence: torch.Tensor, size: tuple[int, int]) -> Windows:
    """Windows of people around whole cells that end at each one's `reach`, three times the standard deviation."""
    wide = reach[..., None, None, None].float()
    return Windows.around(at, confidence, (2 * wide + 1) / 6, wide, 9, size)


def test_each_person_may_have_a_width_of_their_own() -> None:
    at = torch.tensor([[[[10.0, 10.0]], [[30.0, 10.0]]]])
    reach, confidence = torch.tensor([[2, 5]]), torch.tensor([[[0.7], [0.4]]])
    windows = of_widths(at, reach, confidence, (20, 40))
    maps, covered = windows.gaussians(), windows.confidences()
    assert covered.sum().item() == pytest.approx(0.7 * 5**2 + 0.4 * 11**2)
    torch.testing.assert_close(maps[0, 0, 10, [12, 35]], torch.tensor([-18 * 4 / 25, -18 * 25 / 121]).exp())
    assert maps[0, 0, 10, [10, 30]].tolist() == [1, 1]


def test_windows_of_many_widths_equal_loops_over_cells_also_at_borders_and_where_people_overlap() -> None:
    random = torch.Generator().manual_seed(0)
    size = (9, 14)
    at = torch.stack(
        [torch.randint(-3, 17, (2, 3, 2), generator=random), torch.randint(-3, 12, (2, 3, 2), generator=random)], -1
    ).float()
    at[0, 0], at[0, 1, 0] = torch.tensor([5.0, 7.0]), torch.tensor([7.0, 6.0])
    reach, confidence = torch.randint(0, 5, (2, 3), generator=random), torch.ones(2, 3, 2)
    confidence[1, 0] = 0
    maps = of_widths(at, reach, confidence, size).gaussians()
    for image in range(2):
        for k in range(2):
            each = [
                stamp(at[image, person, k], reach[image, person].item(), size) * confidence[image, person, k].item()
                for person in range(3)
            ]
            np.testing.assert_allclose(maps[image, k], np.max(each, 0), atol=1e-6)


def stamp(at: torch.Tensor, reach: int, size: tuple[int, int]) -> np.ndarray:
    """One Gaussian, cell by cell."""
    drawn = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            across, down = x - at[0].item(), y - at[1].item()
            if max(abs(across), abs(down)) <= reach:
                drawn[y, x] = np.exp(-(across**2 + down**2) / (2 * ((2 * reach + 1) / 6) ** 2))
    return drawn


def test_nobody_leaves_empty_maps() -> None:
    windows = Windows.around(torch.zeros(2, 3, 4, 2), torch.zeros(2, 3, 4), 2.0, 7.0, 7.0, (8, 8))
    maps, covered = windows.gaussians(), windows.confidences()
    assert maps.abs().sum() == covered.abs().sum() == 0
