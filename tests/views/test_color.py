"""Color: the jitter is its formula, and the setting reaches the strong view."""

from dataclasses import replace

import pytest
import torch

from semipose.views.color import Color, jitter, recolor
from semipose.views.policies import augment
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation
from tests.people import crops

DRAW = RandomKey(0, 0, "unlabeled", 4, 4)


def test_color_changes_stay_in_range_and_differ_between_images() -> None:
    image = torch.rand(1, 3, 32, 32).expand(4, 3, 32, 32)
    changed = jitter(image, DRAW, "c", 0.4)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed[0] - changed[1]).abs().mean() > 0.01
    assert torch.equal(jitter(image, DRAW, "c", 0.0), image)


def test_jitter_is_saturation_then_brightness_and_contrast_around_gray_then_gain() -> None:
    """Also pins which random number does what: committed results rest on it."""
    image = torch.rand(4, 3, 8, 8)
    change = (torch.from_numpy(DRAW.uniform("c/color", 6)) * 2 - 1) * 0.4
    brightness, contrast, saturation = (1 + change[:, :3, None, None]).split(1, 1)
    gray = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    expected = gray + saturation * (image - gray)
    expected = (expected * brightness * contrast + 0.5 * (1 - contrast)) * (1 + 0.25 * change[:, 3:, None, None])
    torch.testing.assert_close(jitter(image, DRAW, "c", 0.4), expected.clamp(0, 1))


def test_colors_are_not_rounded_under_autocast() -> None:
    image = torch.rand(4, 3, 8, 8)
    for color in ("jitter", "randaugment", "trivialaugment"):
        with torch.autocast("cpu", torch.bfloat16):
            under = recolor(image, DRAW, "c", color)
        assert torch.equal(under, recolor(image, DRAW, "c", color))


@pytest.mark.parametrize(
    ("color", "strength", "expected"),
    [
        ("none", None, lambda image, random: image),
        ("jitter", None, lambda image, random: jitter(image, random, "strong", 0.4)),
        ("jitter", 0.7, lambda image, random: jitter(image, random, "strong", 0.7)),
        ("randaugment", None, lambda image, random: augment(image, random, "strong", "randaugment", 1 / 3)),
        ("randaugment", 0.7, lambda image, random: augment(image, random, "strong", "randaugment", 0.7)),
        ("trivialaugment", None, lambda image, random: augment(image, random, "strong", "trivialaugment", 1.0)),
    ],
)
def test_the_strong_view_has_the_colors_that_were_asked_for(color: Color, strength: float | None, expected) -> None:  # type: ignore[no-untyped-def]
    people = crops(labeled=False)
    plain, asked = (
        replace(people, augmentation=Augmentation(color=name, strength=amount))
        for name, amount in (("none", None), (color, strength))
    )
    without, found = plain.strong(plain.weak()), asked.strong(asked.weak())
    assert torch.equal(found.affine.matrix, without.affine.matrix)
    assert torch.equal(found.image, expected(without.image, people.random))
    assert torch.equal(asked.weak().image, plain.weak().image)
