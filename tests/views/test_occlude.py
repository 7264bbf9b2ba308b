"""Rectangles: right axes, right places, on any size (T8 of the easy-hard spec, corrected axes)."""

import pytest
import torch

from semipose.views import occlude
from semipose.views.occlude import BELOW_ONE, FILL, cover, cutout, joint_cutout, rectangles
from semipose.views.random_key import RandomKey

DRAW = RandomKey(0, 0, "unlabeled", 4, 4)
MANY = RandomKey(0, 0, "unlabeled", 600, 600)
SIZE = (64, 48)


@pytest.mark.parametrize(
    ("x", "y", "rows", "columns"),
    [
        (40, 100, (88, 112), (28, 52)),
        (40, 185, (173, 197), (28, 52)),  # public code clamps rows to the width
        (40, 230, (218, 242), (28, 52)),  # ... and never cuts ankles
        (5, 250, (238, 256), (0, 17)),  # clipped by the border
        (-40, 100, (0, 0), (0, 0)),  # beyond it
    ],
)
def test_a_rectangle_lies_around_its_center(x: int, y: int, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    center = torch.tensor([[[x, y]]]).float()
    found = cover(center - 12, center + 12, (256, 192))[0]
    expected = torch.zeros(256, 192, dtype=torch.bool)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert torch.equal(found, expected)


def test_joint_cutout_hides_its_keypoints_and_leaves_the_rest() -> None:
    image = torch.full((4, 3, 256, 192), 0.9)
    keypoints = torch.tensor([[[60.0, 200.0]]]).expand(4, 1, 2)
    cut = joint_cutout(image, keypoints, DRAW, "c", count=1)
    changed = (cut != image).any(1)
    where = changed.nonzero()
    assert (changed.flatten(1).sum(1) > 15**2).all()
    assert (changed.flatten(1).sum(1) < 45**2).all()
    # Rows near 200 and columns near 60: exchanged axes would be caught here.
    assert (where[:, 1].float().mean() - 200).abs() < 20
    assert (where[:, 2].float().mean() - 60).abs() < 20
    fill = cut[changed[:, None].expand_as(cut)].unique()
    assert torch.allclose(fill, torch.tensor(sorted(FILL)))


def test_only_what_rectangles_cover_changes() -> None:
    image, keypoints = torch.rand(4, 3, *SIZE), torch.rand(4, 6, 2) * 48
    before = image.clone(), keypoints.clone()
    for cut, points in ((cutout(image, DRAW, "c"), None), (joint_cutout(image, keypoints, DRAW, "c"), keypoints)):
        covered = rectangles(SIZE, DRAW, "c", 5, points).expand_as(image)
        assert 0.05 < covered.float().mean() < 0.5
        assert torch.equal(cut[~covered], image[~covered])
        assert not (cut[covered] == image[covered]).any()
    assert torch.equal(image, before[0])
    assert torch.equal(keypoints, before[1])


def test_no_rectangles_change_nothing() -> None:
    image = torch.rand(4, 3, *SIZE)
    assert torch.equal(cutout(image, DRAW, "c", count=0), image)
    assert torch.equal(joint_cutout(image, torch.rand(4, 6, 2) * 48, DRAW, "c", count=0), image)


def test_cutouts_reach_all_of_the_image_and_grow_with_it() -> None:
    random = RandomKey(0, 0, "unlabeled", 256, 256)
    shares = []
    for size in ((64, 48), (128, 96)):
        cut = cutout(torch.ones(256, 3, *size), random, "c", count=5)
        hidden = (cut != 1).any(1).float()
        shares.append(hidden.mean().item())
        assert hidden.amax(0).mean() > 0.99
    assert abs(shares[0] - shares[1]) < 0.01
    assert 0.03 < shares[0] < 0.12


# Keypoints so far apart that the middle of each rectangle tells which one was drawn.
SPREAD = torch.tensor([[30.0, 30.0], [90.0, 30.0], [150.0, 30.0], [30.0, 90.0], [90.0, 90.0], [150.0, 90.0]])


def drawn(exists: torch.Tensor | None, keypoints: torch.Tensor = SPREAD) -> torch.Tensor:
    """(6,) how often each of `SPREAD` was drawn, one rectangle an image."""
    points = keypoints.expand(MANY.count, -1, -1)
    shown = None if exists is None else exists.expand(MANY.count, -1) > 0
    covered = rectangles((120, 180), MANY, "c", 1, points, shown)[:, 0].float()
    return covered.unflatten(2, (3, 60)).unflatten(1, (2, 60)).sum((2, 4)).flatten(1).argmax(1).bincount(minlength=6)


@pytest.mark.parametrize("exists", [[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 2], [0, 0, 1, 1, 1, 1]])
def test_every_keypoint_that_exists_is_drawn_as_often_and_no_other(exists: list[int]) -> None:
    found, there = drawn(torch.tensor(exists)), torch.tensor(exists) > 0
    assert not found[~there].any()
    expected = MANY.count / there.sum().item()
    assert (found[there] - expected).abs().max() < 4 * expected**0.5
    assert torch.equal(drawn(there), found)


def test_the_least_and_the_greatest_chance_draw_one_that_exists_too() -> None:
    exists = torch.tensor([[False, True, True, False, True, False]])
    chance = torch.tensor([[[0.0], [1 / 3], [BELOW_ONE]]])
    found = occlude.sample_keypoints(SPREAD[None], exists, chance)
    assert torch.equal(found[0], SPREAD[[1, 2, 4]])


def test_keypoints_outside_of_the_image_or_without_a_place_are_not_drawn() -> None:
    keypoints = SPREAD.clone()
    keypoints[0], keypoints[2], keypoints[3] = torch.tensor([-1.0, 30.0]), torch.nan, torch.tensor([30.0, 120.0])
    expected = drawn(torch.tensor([False, True, False, False, True, True]))
    assert torch.equal(drawn(None, keypoints), expected)


def test_an_image_without_keypoints_is_not_cut() -> None:
    exists = torch.ones(4, 6, dtype=torch.bool)
    exists[1], exists[3] = False, False
    keypoints = torch.rand(4, 6, 2) * 48
    keypoints[2] = torch.nan
    image = torch.rand(4, 3, *SIZE)
    same = (joint_cutout(image, keypoints, DRAW, "c", exists=exists) == image).flatten(1).all(1)
    assert same.tolist() == [False, True, True, True]


def test_all_keypoints_there_are_drawn_as_ever() -> None:
    """Committed results rest on these numbers: keypoint floor(chance * K), jitter and sizes by their names."""
    keypoints = 15 + torch.rand(4, 6, 2) * 18
    joints, jitter, sizes = (
        torch.from_numpy(each)
        for each in (DRAW.uniform("c/joints", 5), DRAW.normal("c/jitter", 5, 2), DRAW.uniform("c/sizes", 5, 2))
    )
    chosen = (joints * 6).long()
    unit = (SIZE[0] * SIZE[1]) ** 0.5 / 221.7
    centers = keypoints.gather(1, chosen[..., None].expand(-1, -1, 2)) + jitter * 10 * unit
    half = (10 + 10 * sizes) * unit
    differ = rectangles(SIZE, DRAW, "c", 5, keypoints)[:, 0] != cover(centers - half, centers + half, SIZE)
    assert differ.float().mean() < 1e-3
