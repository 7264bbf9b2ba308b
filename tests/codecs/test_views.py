"""The published example of two views of one image, and that everybody moves between views as their maps do."""

import math

import pytest
import torch

from semipose.geometry import Affine
from tests.codecs import plain
from tests.codecs.scenes import CODECS, SIZE, SKELETON, mirrored, scene

SIDE = 128


def published(center: tuple[float, float], zoom: float, degrees: float) -> Affine:
    """Pixels of a 640x480 image to cells of a map of 128, by HigherHRNet's recipe: no half pixels, `zoom` of the short
    side, turned counterclockwise."""
    return Affine.about([-math.radians(degrees)], [SIDE / (480 * zoom)], [False], center, (SIDE / 2, SIDE / 2))


WEAK, STRONG = published((320, 240), 1.0, 0.0), published((330, 250), 1.3, 25.0)


def test_the_published_point_lies_where_it_should_in_both_views() -> None:
    point = torch.tensor([[[350.0, 260.0]]])
    torch.testing.assert_close(WEAK.points(point)[0, 0], torch.tensor([72.0, 69.3333]), atol=1e-4, rtol=0)
    torch.testing.assert_close(STRONG.points(point)[0, 0], torch.tensor([68.585095, 64.125274]), atol=1e-4, rtol=0)
    between = STRONG @ WEAK.inverse()
    assert between.scale.item() == pytest.approx(0.7692308, abs=1e-6)
    there_and_back = (between.inverse() @ between).matrix[0]
    torch.testing.assert_close(there_and_back, torch.eye(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_moved_map_has_its_center_where_the_moved_point_is(mode: str) -> None:
    drawn, _ = plain.gaussian(72.0, 69.3333, 2.0, (SIDE, SIDE))
    maps = torch.from_numpy(drawn).float()[None, None]
    moved = (STRONG @ WEAK.inverse()).image(maps, (SIDE, SIDE), mode)[0, 0]  # type: ignore[arg-type]
    cell = torch.arange(SIDE, dtype=torch.float32)
    center = torch.stack([(moved * cell).sum(), (moved * cell[:, None]).sum()]) / moved.sum()
    torch.testing.assert_close(center, torch.tensor([68.585095, 64.125274]), atol=1e-3, rtol=0)
    if mode == "bilinear":
        assert moved.max().item() == pytest.approx(0.906, abs=1e-3)


def test_a_mirrored_way_there_and_a_mirror_are_the_way_itself() -> None:
    noise = torch.rand(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    between, mirror = STRONG @ WEAK.inverse(), Affine.mirror(SIDE, 1)
    straight, round_trip = between.image(noise, (SIDE, SIDE)), (mirror @ between).image(noise, (SIDE, SIDE)).flip(-1)
    torch.testing.assert_close(round_trip, straight, atol=1e-3, rtol=0)


def test_what_the_other_view_did_not_show_is_outside() -> None:
    between = WEAK @ STRONG.inverse()
    known = between.inside((SIDE, SIDE), (SIDE, SIDE))[0, 0]
    corners = between.points(torch.tensor([[[0.0, 0.0], [127.0, 127.0]]]))[0].long()
    assert (corners < 0).any() | (corners >= SIDE).any()
    assert known[64, 64] == 1
    # Seen from the view that shows more, the other one is an island.
    back = between.inverse().inside((SIDE, SIDE), (SIDE, SIDE))[0, 0]
    assert back[64, 64] == 1
    assert back[0, 0] == 0


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_targets_of_moved_people_are_the_moved_targets(codec: object) -> None:
    """Mirrored, turned a little and shifted; what is drawn of whole cells may be half a cell off."""
    here = scene((2, 4))
    turn = Affine.about([0.1, -0.1], [1.0, 1.0], [True, False], (63.5, 63.5), (66.0, 60.0))
    there = here.moved(turn, SKELETON.flip)
    fields, _ = codec.targets(here)  # type: ignore[attr-defined]
    direct, _ = codec.targets(there)  # type: ignore[attr-defined]
    heat = fields["heatmap"].moved(turn).maps
    off = (heat - direct["heatmap"].maps)[..., 6:-6, 6:-6].abs().max()
    assert off < (0.06 if type(codec).__name__ == "CenterOffset" else 0.75)
    wrong = (heat - direct["heatmap"].maps.roll(1, 1))[..., 6:-6, 6:-6].abs().max()
    assert wrong > 0.85


def test_mirroring_twice_changes_nobody() -> None:
    here = scene()
    back = mirrored(mirrored(here))
    torch.testing.assert_close(back.keypoints[here.present], here.keypoints[here.present], atol=1e-4, rtol=0)
    assert torch.equal(back.visible, here.visible)
    assert SIZE == (128, 128)
