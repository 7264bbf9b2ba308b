"""Views: where they look, what they remember, and that their randomness belongs to (seed, update, stream, name)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.geometry import Affine
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Crops
from tests.people import CROP, SKELETON, crops


def dot_crops(xy: torch.Tensor, augmentation: Augmentation | None = None, update: int = 0) -> Crops:
    """Black crops with a bright blob at `xy` (B, 2)."""
    y, x = torch.meshgrid(torch.arange(CROP[0]), torch.arange(CROP[1]), indexing="ij")
    square = (x - xy[:, 0, None, None]) ** 2 + (y - xy[:, 1, None, None]) ** 2
    image = (255 * torch.exp(-square / 18)).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
    count = len(xy)
    return Crops(
        image.contiguous(),
        (64, 64),
        1.0,
        augmentation or Augmentation(),
        RandomKey(0, update, "labeled", count, count),
        xy[:, None],
        torch.full((count, 1), 2, dtype=torch.uint8),
    )


def brightest(image: torch.Tensor) -> torch.Tensor:
    gray = image.mean(1)
    y, x = torch.meshgrid(torch.arange(gray.shape[1]), torch.arange(gray.shape[2]), indexing="ij")
    mass = gray.sum((1, 2))
    return torch.stack([(gray * x).sum((1, 2)) / mass, (gray * y).sum((1, 2)) / mass], -1)


def test_the_plain_view_shows_the_middle_of_the_crop() -> None:
    view = dot_crops(torch.tensor([[47.5, 47.5], [50.0, 40.0]])).canonical()
    torch.testing.assert_close(brightest(view.image), torch.tensor([[31.5, 31.5], [34.0, 24.0]]), atol=0.1, rtol=0)


def test_white_is_one_and_what_lies_beyond_the_crop_is_black() -> None:
    people = crops(labeled=False)
    white = replace(people, images=torch.full_like(people.images, 255), zoom=2.0)
    image = white.canonical().image
    torch.testing.assert_close(image[:, :, 10:-10, 10:-10], torch.ones(4, 3, 44, 44))
    assert not image[:, :, :6].any()
    assert not image[..., :6].any()


def test_labels_follow_the_pixels_in_weak_and_strong_views() -> None:
    xy = 42 + 11 * torch.rand(16, 2, generator=torch.Generator().manual_seed(1))
    people = dot_crops(xy, Augmentation(color="none"))
    weak = people.weak()
    strong = people.strong(weak)
    for view in (weak, strong):
        torch.testing.assert_close(brightest(view.image), people.labels(view, (0,))[:, 0], atol=0.3, rtol=0)
    assert weak.affine.mirrored.any()
    assert not weak.affine.mirrored.all()


def test_the_map_between_two_views_takes_one_to_the_other() -> None:
    people = dot_crops(torch.full((8, 2), 45.0))
    weak = people.weak()
    strong = people.strong(weak)
    there = weak.to(strong).points(people.labels(weak, (0,)))
    torch.testing.assert_close(there, people.labels(strong, (0,)), atol=1e-2, rtol=0)


def test_augmentation_stays_within_its_bounds_and_off_is_off() -> None:
    xy = torch.full((256, 2), 47.5)
    people = dot_crops(xy, Augmentation(rotation=20, scale=0.2, flip=0.0))
    matrix = people.weak().affine.matrix
    scale = people.weak().affine.scale
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert 0.8 - 1e-4 <= scale.min() < 0.9
    assert 1.1 < scale.max() <= 1.2 + 1e-4
    assert 30 < angle.abs().max() <= 40.01
    assert 0.3 < (angle.abs() < 1e-3).float().mean() < 0.5  # 40 % are not turned
    still = dot_crops(xy, Augmentation(rotation=0, scale=0, flip=0, color="none"))
    torch.testing.assert_close(still.weak().image, still.canonical().image)
    torch.testing.assert_close(still.strong(still.weak()).image, still.canonical().image, atol=1e-5, rtol=0)


def test_draws_depend_on_seed_update_stream_and_name_only() -> None:
    first = crops(labeled=False, update=3).weak().affine.matrix
    assert torch.equal(first, crops(labeled=False, update=3).weak().affine.matrix)
    for other in (
        crops(labeled=False, update=4).weak(),
        crops(labeled=False, update=3, stream="other").weak(),
        crops(labeled=False, update=3).weak("second"),
        crops(labeled=False, update=3, seed=1).weak(),
    ):
        assert not torch.equal(first, other.affine.matrix)


def test_views_are_made_of_their_named_draws() -> None:
    """Pins which random number does what: committed results rest on it."""
    people = crops(labeled=True)
    random, weak = people.random, people.weak()

    def turned(name: str, share: float) -> tuple[np.ndarray, np.ndarray]:
        normal = random.normal(f"{name}/turn", 2).clip(-2, 2)
        angle = normal[:, 0] * math.radians(30) * (random.uniform(f"{name}/turned") < share)
        return angle, 1 + (normal[:, 1] * 0.25).clip(-0.25, 0.25)

    mirrored, still = random.uniform("weak", 2)[:, 0] < 0.5, np.zeros(4, bool)
    expected = Affine.about(*turned("weak", 0.6), mirrored, (47.5, 47.5), (31.5, 31.5))
    torch.testing.assert_close(weak.affine.matrix, expected.matrix, atol=1e-4, rtol=0)
    further = Affine.about(*turned("strong", 0.8), still, (31.5, 31.5), (31.5, 31.5))
    torch.testing.assert_close(people.strong(weak).affine.matrix, (further @ expected).matrix, atol=1e-4, rtol=0)


def test_unlabeled_crops_have_no_labels_to_give() -> None:
    people = crops(labeled=False)
    with pytest.raises(ValueError, match="unlabeled"):
        people.labels(people.canonical(), SKELETON.flip)


def angles(rotation: float, strong: bool) -> torch.Tensor:
    """(4000,) in degrees: how far views of many crops are turned, or strong views from their weak ones."""
    count = 4000
    images = torch.zeros(count, 4, 4, 3, dtype=torch.uint8)
    policy = Augmentation(rotation=rotation, flip=0.0, color="none")
    people = Crops(images, (4, 4), 1.0, policy, RandomKey(0, 0, "unlabeled", count, count))
    weak = people.weak()
    matrix = (weak.to(people.strong(weak)) if strong else weak.affine).matrix
    return torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()


@pytest.mark.parametrize(("strong", "turned"), [(False, 0.6), (True, 0.8)])
def test_a_turn_is_clipped_at_twice_its_deviation_and_a_share_is_not_turned(strong: bool, turned: float) -> None:
    found = angles(40.0, strong)
    assert found.abs().max().item() == pytest.approx(80, abs=0.01)
    assert ((found.abs() > 0.01).float().mean() - turned).abs() < 0.03
    assert (found[found.abs() > 0.01].std() - 40 * 0.954).abs() < 2


@pytest.mark.parametrize("strong", [False, True])
def test_a_rotation_of_180_turns_by_any_angle_all_as_likely(strong: bool) -> None:
    """As for people seen from overhead: upright is one angle among others."""
    share = torch.histc(angles(180.0, strong), 12, -180, 180) / 4000
    assert (share - 1 / 12).abs().max() < 0.02
