"""Keypoint-Mix: the reference tests K1 to K6, against a loop over samples and pixels."""

from itertools import product

import pytest
import torch
from torch import Tensor

from semipose.views.keypoint_mix import blend, keypoint_mix
from semipose.views.random_key import RandomKey

DRAW = RandomKey(0, 0, "unlabeled", 6, 6)
SIZE = (64, 48)


def inputs(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(count, 7, 2, generator=generator) * torch.tensor([SIZE[1], SIZE[0]])
    return torch.rand(count, 3, *SIZE, generator=generator), keypoints


def one(
    x: float,
    y: float,
    size: tuple[int, int] = (256, 192),
    half: float = 15.0,
    shift: tuple[float, float] = (40.0, -20.0),
) -> Tensor:
    """(H, W) bool: what a patch at (x, y) changes, when it reads `shift` away."""
    image = torch.rand(1, 3, *size)
    centers, moved = torch.tensor([[[x, y]]]), torch.tensor([[shift]])
    source = torch.zeros(1, 1, dtype=torch.int64)
    return (blend(image, centers, torch.full((1, 1, 2), half), moved, source, torch.zeros(1, 1)) != image).any(1)[0]


def test_k1_what_changes_nothing() -> None:
    image, keypoints = inputs()
    assert torch.equal(keypoint_mix(image, keypoints, DRAW, "m", own=(1.0, 1.0)), image)
    assert torch.equal(keypoint_mix(image, keypoints, DRAW, "m", count=0), image)
    flat = torch.full_like(image, 0.3)
    assert torch.equal(keypoint_mix(flat, keypoints, DRAW, "m"), flat)
    # A keypoint blended into itself.
    at, half = torch.rand(6, 2, 2) * 48, torch.full((6, 2, 2), 9.0)
    itself, own = torch.arange(6)[:, None].expand(6, 2), torch.full((6, 2), 0.5)
    assert torch.equal(blend(image, at, half, torch.zeros(6, 2, 2), itself, own), image)


def test_k2_only_pixels_inside_of_the_boxes_change() -> None:
    expected = torch.zeros(256, 192, dtype=torch.bool)
    expected[45:75, 35:65] = True
    assert torch.equal(one(50, 60), expected)
    image, keypoints = inputs()
    before = image.clone(), keypoints.clone()
    changed = (keypoint_mix(image, keypoints, DRAW, "m", 2) != image).any(1)
    assert 0.02 < changed.float().mean() < 0.2
    assert torch.equal(image, before[0])
    assert torch.equal(keypoints, before[1])


def test_k3_pixels_stay_between_those_that_are_mixed() -> None:
    image, keypoints = inputs()
    for own in ((0.5, 0.9), (0.0, 0.0), (0.0, 1.0)):
        mixed = keypoint_mix(image, keypoints, DRAW, "m", 4, own=own)
        assert mixed.min() >= image.min()
        assert mixed.max() <= image.max()
        assert not torch.equal(mixed, image)


# Keypoints far apart, each on a ground of its own brightness: what a pixel becomes tells who was blended into whom.
SPREAD = torch.tensor([[10.0, 10.0], [30.0, 10.0], [50.0, 10.0], [10.0, 30.0], [30.0, 30.0], [50.0, 30.0]])


def pairs(exists: Tensor | None, others: float = 0.0, count: int = 1, images: int = 600) -> Tensor:
    """(images, 6) the keypoint that was pasted near each one (the partner's + 6), -1 where none was."""
    ground = torch.arange(6.0).view(2, 3).repeat_interleave(20, 0).repeat_interleave(20, 1)
    image = (ground + 6 * (torch.arange(images) % 2).view(-1, 1, 1)).unsqueeze(1)
    random = RandomKey(0, 0, "unlabeled", images, images)
    shown = None if exists is None else exists.expand(images, -1)
    mixed = keypoint_mix(image, SPREAD.expand(images, -1, -1), random, "m", count, shown, others, own=(0.0, 0.0))
    pasted = torch.where(mixed == image, -1.0, mixed).unflatten(3, (3, 20)).unflatten(2, (2, 20))
    found = pasted.amax((1, 3, 5)).flatten(1).long()
    partner = (found >= 6) != (torch.arange(images) % 2 == 1)[:, None]
    return torch.where(found < 0, found, found % 6 + 6 * partner)


@pytest.mark.parametrize("exists", [[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0]])
def test_k3_only_keypoints_that_exist_are_drawn_and_never_one_for_itself(exists: list[int]) -> None:
    there = torch.tensor(exists) > 0
    found = pairs(there)
    into = found >= 0
    assert (into.sum(1) == 1).all()
    assert not into[:, ~there].any()
    places, sources = into.nonzero()[:, 1], found[into]
    assert there[sources % 6].all()
    assert not (places == sources).any()
    # All ordered pairs are as frequent.
    count = there.sum().item()
    seen = (places * 6 + sources).bincount(minlength=36)
    expected = 600 / (count * (count - 1))
    assert (seen[seen > 0] - expected).abs().max() < 4 * expected**0.5
    assert (seen > 0).sum() == count * (count - 1)


def test_two_patches_are_around_two_keypoints() -> None:
    assert ((pairs(None, count=2) >= 0).sum(1) == 2).all()


def test_the_partners_share_is_as_asked_and_of_another_name() -> None:
    found = pairs(None, others=0.5)
    into = found >= 0
    assert 0.4 < (found[into] >= 6).float().mean() < 0.6
    # Of the partner too, a wrist is never blended into a wrist.
    assert not (found[into] % 6 == into.nonzero()[:, 1]).any()
    assert (pairs(None, others=1.0) != -1).sum() == 600
    assert (pairs(None, others=1.0).max(1).values >= 6).all()


@pytest.mark.parametrize("exists", [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]])
@pytest.mark.parametrize("others", [0.0, 1.0])
def test_k3_an_image_with_fewer_than_two_keypoints_stays_as_it_is(exists: list[int], others: float) -> None:
    (image, _), shown = inputs(), torch.tensor(exists).expand(6, -1)
    for keypoints in (SPREAD / 2, torch.full((6, 2), torch.nan)):
        mixed = keypoint_mix(image, keypoints.expand(6, -1, -1), DRAW, "m", 2, shown, others)
        assert torch.equal(mixed, image)


def test_k3_a_partner_without_another_keypoint_gives_nothing() -> None:
    image, keypoints = inputs()
    exists = torch.zeros(6, 7)
    exists[0, :2], exists[1, 0] = 1, 1
    mixed = keypoint_mix(image, keypoints, DRAW, "m", 2, exists, others=1.0)
    taken = keypoint_mix(image, keypoints, DRAW, "m", 2, exists.index_fill(1, torch.tensor([2]), 1), others=1.0)
    # Keypoint 1 may get the partner's 0, keypoint 0 nothing at all: not itself, and not what does not exist.
    changed = (mixed != image).any(1)
    assert not changed[1:].any()
    assert changed[0].sum() < 30 * 30
    assert (taken != image).sum() > (mixed != image).sum()


@pytest.mark.parametrize(("x", "y"), [(2, 3), (190, 254), (-4, 100), (80, 259), (-100, -100), (96, 128)])
@pytest.mark.parametrize("shift", [(150, 200), (-150, -200), (0, 3), (500, 0)])
def test_k4_near_borders_both_patches_shrink_to_what_they_have_in_common(
    x: int, y: int, shift: tuple[int, int]
) -> None:
    changed = one(x, y, shift=shift)
    expected = torch.zeros(256, 192, dtype=torch.bool)
    for row in range(max(0, y - 15), min(256, y + 15)):
        for column in range(max(0, x - 15), min(192, x + 15)):
            expected[row, column] = 0 <= row + shift[1] < 256 and 0 <= column + shift[0] < 192
    assert torch.equal(changed, expected)


def test_k5_x_is_the_column() -> None:
    image = torch.rand(1, 3, 256, 192)
    keypoints = torch.tensor([[[150.0, 20.0], [150.0, 240.0]]])
    mixed = keypoint_mix(image, keypoints, RandomKey(0, 0, "u", 1, 1), "m", 2, others=0.0)
    rows, columns = (mixed != image).any(1)[0].nonzero(as_tuple=True)
    assert (columns - 150).abs().max() < 40
    assert ((rows < 60) | (rows > 200)).all()
    assert (rows < 60).any()
    assert (rows > 200).any()


def test_patches_are_moved_by_whole_pixels() -> None:
    place = torch.arange(64.0 * 48).view(1, 1, 64, 48)
    keypoints = torch.tensor([[[13.3, 20.4], [30.7, 40.9]]])
    mixed = keypoint_mix(place, keypoints, RandomKey(0, 0, "u", 1, 1), "m", 1, others=0.0, own=(0.0, 0.0))
    moved = (mixed - place)[mixed != place]
    # 17.4 to the right and 20.5 down, or back.
    assert moved.abs().unique().tolist() in ([20 * 48 + 17], [21 * 48 + 17])
    assert moved.sign().unique().numel() == 1


def test_k6_the_other_images_do_not_matter_where_sources_are_the_image_itself() -> None:
    image, keypoints = inputs()
    order = torch.tensor([0, 4, 2, 5, 1, 3])
    mixed = keypoint_mix(image, keypoints, DRAW, "m", others=0.0)
    assert torch.equal(keypoint_mix(image[order], keypoints[order], DRAW, "m", others=0.0)[[0, 2]], mixed[[0, 2]])


def test_patches_grow_with_the_image() -> None:
    shares = []
    for size in ((64, 48), (128, 96)):
        random = RandomKey(0, 0, "unlabeled", 256, 256)
        keypoints = (0.3 + 0.4 * torch.rand(256, 7, 2)) * torch.tensor([size[1], size[0]])
        image = torch.rand(256, 3, *size)
        shares.append((keypoint_mix(image, keypoints, random, "m") != image).any(1).float().mean().item())
    assert abs(shares[0] - shares[1]) < 0.01
    assert 0.02 < shares[0] < 0.06


def test_pixels_are_those_of_a_loop() -> None:
    image = torch.rand(4, 3, 24, 16)
    generator = torch.Generator().manual_seed(1)
    centers = torch.rand(4, 3, 2, generator=generator) * 24 - 4
    half = 2 + 5 * torch.rand(4, 3, 2, generator=generator)
    shift = torch.randint(-12, 13, (4, 3, 2), generator=generator).float()
    source, own = torch.randint(0, 4, (4, 3), generator=generator), torch.rand(4, 3, generator=generator)
    expected = image.clone()
    for b, r in product(range(4), range(3)):
        (left, top), (right, bottom) = (centers[b, r] - half[b, r]).tolist(), (centers[b, r] + half[b, r]).tolist()
        dx, dy = (int(value) for value in shift[b, r])
        for y, x in product(range(24), range(16)):
            if left <= x < right and top <= y < bottom and 0 <= y + dy < 24 and 0 <= x + dx < 16:
                other = image[source[b, r], :, y + dy, x + dx]
                expected[b, :, y, x] = torch.lerp(image[b, :, y, x], other, 1 - own[b, r])
    torch.testing.assert_close(blend(image, centers, half, shift, source, own), expected, rtol=0, atol=1e-6)
