"""Cut-Occlude: patches land on keypoints with the right axes, and nothing else changes (T9 of the easy-hard spec)."""

import pytest
import torch
from torch import Tensor

from semipose.views.cut_occlude import cut_occlude, paste
from semipose.views.random_key import RandomKey

SIZE = (64, 48)
DRAW = RandomKey(0, 0, "unlabeled", 4, 4)
# Rows 0 and 1 are each other's partner, and 2 and 3.
PARTNER = [1, 0, 3, 2]


def pasted(target: tuple[int, int], source: tuple[int, int], half: float = 12.0) -> tuple[Tensor, Tensor]:
    """Two 256x192 images of which the first got a patch of the second, before and after."""
    image = torch.rand(2, 3, 256, 192)
    points = [torch.tensor([[point], [(-1e6, -1e6)]]).float() for point in (target, source)]
    return image, paste(image, torch.tensor([1, 0]), *points, torch.full((2, 1, 2), half))


@pytest.mark.parametrize(
    ("target", "source", "rows", "columns"),
    [
        ((40, 150), (60, 90), (138, 162), (28, 52)),  # T9; the public code exchanges x and y
        ((40, 250), (60, 90), (238, 256), (28, 52)),  # clipped by the image's own border, whose last row is reached
        ((40, 150), (185, 90), (138, 162), (28, 47)),  # ... by that of the source: seven columns are missing
        ((5, 150), (60, 4), (146, 162), (0, 17)),  # ... by both
    ],
)
def test_a_patch_goes_from_keypoint_to_keypoint(
    target: tuple[int, int], source: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image, found = pasted(target, source)
    (top, bottom), (left, right) = rows, columns
    dx, dy = source[0] - target[0], source[1] - target[1]
    expected = image.clone()
    expected[0, :, top:bottom, left:right] = image[1, :, top + dy : bottom + dy, left + dx : right + dx]
    assert torch.equal(found, expected)


def test_patches_are_read_from_unchanged_images_and_the_last_covers_the_first() -> None:
    """A patch of a patch would carry pixels twice."""
    image = torch.rand(2, 3, *SIZE)
    targets = torch.tensor([[[20.0, 20.0], [24.0, 20.0]], [[30.0, 40.0], [30.0, 44.0]]])
    found = paste(image, torch.tensor([1, 0]), targets, targets.flip(0), torch.full((2, 2, 2), 6.0))
    expected = image.clone()
    for row in range(2):
        for patch in range(2):
            x, y = (int(value) for value in targets[row, patch])
            u, v = (int(value) for value in targets[1 - row, patch])
            source = image[1 - row, :, v - 6 : v + 6, u - 6 : u + 6]
            expected[row, :, y - 6 : y + 6, x - 6 : x + 6] = source
    assert torch.equal(found, expected)


def test_only_pixels_near_keypoints_change_and_they_are_the_partners() -> None:
    """Each image has one color of its own, so a changed pixel tells where it is from."""
    image = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, *SIZE).contiguous()
    keypoints = torch.tensor([[14.0, 50.0]]).expand(4, 1, 2).clone()
    before = keypoints.clone()
    found = cut_occlude(image, keypoints, DRAW, "c")
    changed = (found != image).any(1)
    # Half a size of 20 px and three deviations of the jitter of 10 px, on an input of 256x192.
    reach = (20 + 30) * (SIZE[0] * SIZE[1]) ** 0.5 / 221.7
    where = changed.nonzero()
    assert ((where[:, 1] - 50).abs() <= reach).all()
    assert ((where[:, 2] - 14).abs() <= reach).all()
    assert changed.flatten(1).any(1).all()
    for row, partner in enumerate(PARTNER):
        assert (found[row, :, changed[row]] == partner).all()
    assert torch.equal(keypoints, before)


def test_labels_images_and_masks_stay_as_they_were() -> None:
    image, keypoints, exists = torch.rand(4, 3, *SIZE), torch.rand(4, 6, 2) * 48, torch.ones(4, 6)
    before = [value.clone() for value in (image, keypoints, exists)]
    assert not torch.equal(cut_occlude(image, keypoints, DRAW, "c", exists=exists), image)
    assert all(torch.equal(old, new) for old, new in zip(before, (image, keypoints, exists), strict=True))


def test_patches_grow_with_the_input() -> None:
    random, shares = RandomKey(0, 0, "unlabeled", 256, 256), []
    for height, width in ((64, 48), (128, 96)):
        image = torch.rand(256, 3, height, width)
        middle = torch.tensor([width / 2, height / 2]).expand(256, 1, 2)
        shares.append((cut_occlude(image, middle, random, "c") != image).any(1).float().mean().item())
    assert abs(shares[0] - shares[1]) < 0.005
    assert 0.02 < shares[0] < 0.06


def sources(exists: Tensor, keypoints: Tensor) -> Tensor:
    """(6,) how often each of six keypoints was the source; what surrounds them is of different colors."""
    count = 240
    image = torch.zeros(count, 3, 120, 180)
    for number, (x, y) in enumerate(((0, 0), (60, 0), (120, 0), (0, 60), (60, 60), (120, 60))):
        image[:, :, y : y + 60, x : x + 60] = (number + 1) / 8
    image[0::2] = 1.0
    found = cut_occlude(
        image, keypoints.expand(count, -1, -1), RandomKey(0, 0, "u", count, count), "c", 1, exists.expand(count, -1)
    )
    colors = (found[0::2, 0] * 8).round().long()
    pixels = torch.stack([(colors == number + 1).flatten(1).sum(1) for number in range(6)])
    return pixels.argmax(0).bincount(minlength=6)


def test_only_keypoints_that_exist_give_and_take() -> None:
    keypoints = torch.tensor([[30.0, 30.0], [90.0, 30.0], [150.0, 30.0], [30.0, 90.0], [90.0, 90.0], [150.0, 90.0]])
    exists = torch.tensor([1, 0, 1, 0, 0, 0])
    found = sources(exists, keypoints)
    assert (found > 0).tolist() == [True, False, True, False, False, False]
    assert abs(found[0] - found[2]) < 30


@pytest.mark.parametrize("lacking", [0, 1])
def test_without_keypoints_nothing_is_pasted(lacking: int) -> None:
    """Neither where the image has none nor where its partner has none."""
    image, exists = torch.rand(4, 3, *SIZE), torch.ones(4, 6)
    keypoints = torch.rand(4, 6, 2) * 48
    exists[lacking] = 0
    keypoints[2] = torch.nan
    assert torch.equal(cut_occlude(image, keypoints, DRAW, "c", exists=exists), image)


def test_no_rectangles_change_nothing() -> None:
    image = torch.rand(4, 3, *SIZE)
    assert torch.equal(cut_occlude(image, torch.rand(4, 6, 2) * 48, DRAW, "c", count=0), image)
