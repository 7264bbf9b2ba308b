"""What is drawn lies where the numbers say."""

from dataclasses import replace

import numpy as np
import pytest

from semipose.drawing import SIDE_COLORS, Noun, body_sides, contact_sheet, draw, person_tile
from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS, Skeleton

COCO = PRESETS["coco_17"]


def one_person(skeleton: Skeleton, at: tuple[float, float], score: float = 1.0) -> Poses:
    poses = Poses.blank(1, len(skeleton))
    poses.keypoints[:] = at
    poses.scores[:], poses.visible[:] = score, 2
    poses.boxes[:] = (10, 10, 60, 60)
    return poses


@pytest.mark.parametrize(
    ("names", "flip", "expected"),
    [
        (("left_hip", "right_hip", "nose"), (1, 0, 2), ["left", "right", "center"]),
        (("rsho", "lsho"), (1, 0), ["right", "left"]),
        (("hipR", "hipL"), (1, 0), ["right", "left"]),
        (("paw_1", "paw_2"), (1, 0), ["left", "right"]),
        (("lip", "root"), (0, 1), ["center", "center"]),
    ],
)
def test_sides_follow_the_names_of_partners(names: tuple[str, ...], flip: tuple[int, ...], expected: list[str]) -> None:
    assert body_sides(Skeleton("x", names, (), flip, (0.07,) * len(names), "test")) == expected


def test_a_keypoint_is_drawn_at_its_pixel_in_its_sides_color() -> None:
    only_left = replace(COCO, bones=())
    poses = one_person(only_left, (40, 30))
    poses.visible[0] = 0
    poses.visible[0, COCO.keypoints.index("left_wrist")] = 2
    image = draw(np.zeros((80, 80, 3), np.uint8), poses, only_left)
    assert tuple(image[30, 40]) == SIDE_COLORS["left"]
    ys, xs = np.nonzero(image.sum(-1) > 120)
    assert abs(xs.mean() - 40) < 0.2
    assert abs(ys.mean() - 30) < 0.2


def test_unlabeled_keypoints_nan_and_far_points_draw_nothing() -> None:
    blank = np.full((50, 50, 3), 7, np.uint8)
    for poses in (one_person(COCO, (20, 20)), one_person(COCO, (np.nan, 3)), one_person(COCO, (1e30, 3))):
        poses.visible[:] = 0 if np.isfinite(poses.keypoints).all() and poses.keypoints.max() < 100 else 2
        assert (draw(blank, poses, COCO) == blank).all()


def test_less_sure_means_fainter_and_the_given_image_stays() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    sure, unsure = (draw(image, one_person(COCO, (40, 40), score), COCO)[40, 40].sum() for score in (1.0, 0.3))
    assert 0 < unsure < sure
    assert not image.any()


@pytest.mark.parametrize("box", [(30, 20, 20, 40), (-30, -10, 50, 40), (90, 70, 60, 60), (500, 500, 10, 10)])
def test_a_tile_moves_points_with_its_pixels(box: tuple[float, ...]) -> None:
    image = np.zeros((80, 100, 3), np.uint8)
    image[38:41, 50:53] = 255
    tile = person_tile(image, np.array(box, np.float32), size=160)
    moved = tile.move(one_person(COCO, (51, 39))).keypoints[0, 0]
    assert tile.pixels.shape == (160, 160, 3)
    if (moved >= 0).all() and (moved < 160).all():
        weight = tile.pixels[..., 0] * (tile.pixels[..., 0] > 120).astype(float)
        ys, xs = np.mgrid[:160, :160]
        found = (xs * weight).sum() / weight.sum(), (ys * weight).sum() / weight.sum()
        assert np.abs(np.array(found) - moved).max() < 0.6


def test_a_contact_sheet_holds_tiles_of_any_size() -> None:
    tiles = [np.full((20 + i, 30, 3), 100 + i, np.uint8) for i in range(5)]
    sheet = contact_sheet(tiles, columns=2, gap=4)
    assert sheet.shape == (3 * (24 + 4) + 4, 2 * (30 + 4) + 4, 3)
    assert all((sheet == 100 + i).any() for i in range(5))


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("person", ("person", "people")),
        ("Mouse", ("mouse", "mice")),
        ("snow leopard", ("snow leopard", "instances of snow leopard")),
        ("lsp_14", ("person", "people")),
        ("<b>mouse</b>", ("person", "people")),
    ],
)
def test_messages_use_the_name_of_the_category(category: str, words: tuple[str, str]) -> None:
    noun = Noun.of(category)
    assert (noun.singular, noun.plural) == words
