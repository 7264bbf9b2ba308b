"""CutMix and MixUp: who is mixed with whom, where, and that targets follow."""

import pytest
import torch

from semipose.views.mix import Mix, cutmix, mixup, partners
from semipose.views.occlude import rectangles
from semipose.views.random_key import RandomKey

DRAW = RandomKey(0, 0, "unlabeled", 6, 6)


@pytest.mark.parametrize("keypoints", [None, torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(0)) * 48])
def test_cutmix_shows_the_partner_in_its_rectangles_and_itself_elsewhere(keypoints: torch.Tensor | None) -> None:
    image = torch.rand(6, 3, 64, 48)
    before = image.clone()
    mixed, mix = cutmix(image, DRAW, "m", 2, keypoints)
    inside = rectangles((64, 48), DRAW, "m", 2, keypoints).expand_as(image)
    assert 0.02 < inside.float().mean() < 0.3
    assert torch.equal(mixed[~inside], image[~inside])
    assert torch.equal(mixed[inside], image[mix.partner][inside])
    assert torch.equal(image, before)


def test_cutmix_around_keypoints_that_do_not_exist_changes_nothing() -> None:
    image, keypoints = torch.rand(6, 3, 64, 48), torch.rand(6, 5, 2) * 48
    mixed, mix = cutmix(image, DRAW, "m", 2, keypoints, torch.zeros(6, 5))
    assert torch.equal(mixed, image)
    assert (mix.own == 1).all()


def test_mixup_blends_each_image_by_a_number_of_its_own() -> None:
    image = torch.rand(6, 3, 64, 48)
    mixed, mix = mixup(image, DRAW, "m", alpha=1.0)
    assert mix.own.shape == (6, 1, 1, 1)
    assert ((mix.own >= 0.75) & (mix.own <= 1)).all()
    assert mix.own.unique().numel() == 6
    torch.testing.assert_close(mixed, mix.own * image + (1 - mix.own) * image[mix.partner])
    assert torch.equal(mixup(image, DRAW, "m", share=0.0)[0], image)


def test_targets_are_mixed_where_and_as_much_as_the_pixels() -> None:
    own = torch.ones(2, 1, 8, 8)
    own[0, 0, 2:4, 4:7] = 0
    maps = torch.stack([torch.full((3, 4, 4), 1.0), torch.full((3, 4, 4), 5.0)])
    mixed = Mix(torch.tensor([1, 0]), own).of(maps)
    expected = maps.clone()
    expected[0, :, 1, 2] = 5.0  # all four pixels of the cell are the partner's
    expected[0, :, 1, 3] = 3.0  # two of them
    assert torch.equal(mixed, expected)
    assert Mix(torch.tensor([1, 0]), own).of(maps.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("count", "total", "start", "expected"),
    [
        (6, 6, 0, [1, 0, 3, 2, 5, 4]),
        (5, 5, 0, [1, 0, 3, 2, 4]),  # the last has nobody
        (4, 8, 4, [1, 0, 3, 2]),  # the second of two processes
        (3, 6, 3, [0, 2, 1]),  # its first row's partner is on the other process
    ],
)
def test_partners_exchange_within_the_processes_slice(count: int, total: int, start: int, expected: list[int]) -> None:
    assert partners(RandomKey(0, 0, "unlabeled", count, total, start)).tolist() == expected
