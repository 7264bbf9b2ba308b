"""Rectangles: right axes, right places, on any size (T8 of the easy-hard spec, corrected axes)."""

import pytest
import torch

from semipose.views.color import jitter
from semipose.views.draw import Draw
from semipose.views.occlude import FILL, cover, cutout, joint_cutout

DRAW = Draw(0, 0, "unlabeled", 4, 4)


@pytest.mark.parametrize(
    ("x", "y", "rows", "columns"),
    [
        (40, 100, (88, 112), (28, 52)),
        (40, 185, (173, 197), (28, 52)),  # public code clamps rows to the width
        (40, 230, (218, 242), (28, 52)),  # ... and never cuts ankles
        (5, 250, (238, 256), (0, 17)),  # clipped by the border
    ],
)
def test_a_rectangle_lies_around_its_center(
    x: int, y: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    found = cover(torch.tensor([[[x, y]]]).float(), torch.full((1, 1, 2), 12.0), (256, 192))[0]
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


def test_cutouts_reach_all_of_the_image_and_grow_with_it() -> None:
    draw = Draw(0, 0, "unlabeled", 256, 256)
    shares = []
    for size in ((64, 48), (128, 96)):
        cut = cutout(torch.ones(256, 3, *size), draw, "c", count=5)
        hidden = (cut != 1).any(1).float()
        shares.append(hidden.mean().item())
        assert hidden.amax(0).mean() > 0.99
    assert abs(shares[0] - shares[1]) < 0.01
    assert 0.03 < shares[0] < 0.12


def test_color_changes_stay_in_range_and_differ_between_images() -> None:
    image = torch.rand(1, 3, 32, 32).expand(4, 3, 32, 32)
    changed = jitter(image, DRAW, "c", 0.4)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed[0] - changed[1]).abs().mean() > 0.01
    assert torch.equal(jitter(image, DRAW, "c", 0.0), image)
