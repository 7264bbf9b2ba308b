"""Maps of one person at a time: reference values; who is drawn; people come back from what they were drawn as."""

from dataclasses import replace

import pytest
import torch

from semipose.codecs.instance import Instance, contrast, focal, gaussian_radius
from semipose.codecs.terms import whole
from semipose.fields import Fields, InstanceFields
from tests.codecs.scenes import SIZE, SKELETON, answer, scene, twice, worst

CODEC = Instance(SIZE, SKELETON)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(10, 10, 2.7332), (20, 40, 7.3559), (60, 30, 11.0338), (128, 128, 34.985), (5, 3, 1.0302)],
)
def test_the_radius_has_its_reference_values(height: float, width: float, radius: float) -> None:
    assert gaussian_radius(height, width) == pytest.approx(radius, abs=1e-3)
    assert gaussian_radius(torch.tensor(width), torch.tensor(height)).item() == pytest.approx(radius, abs=1e-3)
    assert gaussian_radius(height, width) == pytest.approx(least_root(height, width))


def least_root(height: float, width: float) -> float:
    """All three cases of the public code."""
    roots = []
    for a, b, c in (
        (1, height + width, width * height * (1 - 0.7) / (1 + 0.7)),
        (4, 2 * (height + width), (1 - 0.7) * width * height),
        (4 * 0.7, -2 * 0.7 * (height + width), (0.7 - 1) * width * height),
    ):
        roots.append((b + (b**2 - 4 * a * c) ** 0.5) / 2)
    return min(roots)


def test_the_focal_loss_has_its_reference_value() -> None:
    probability, target = (torch.tensor(values).view(1, 1, 2, 2) for values in ((0.9, 0.5, 0.1, 0.2), (1, 0.5, 0, 0.8)))
    total, peaks = focal(probability, target, torch.tensor(1.0))
    assert total.item() == pytest.approx(0.0129519, abs=1e-7)
    assert peaks.item() == 1


def test_the_contrastive_loss_has_its_reference_values() -> None:
    rows, there = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    vectors = torch.tensor([[1.0, 0.0], [2.0, 2.0]])
    assert contrast(vectors, rows, there).sum().item() == pytest.approx(0.0057065, abs=1e-6)
    assert contrast(torch.eye(2), rows, there).sum().item() == pytest.approx(4.1e-9, abs=1e-6)
    assert contrast(vectors[:1], rows[:1], there[:1]).item() == 0
    # People of other images, and nobody, are not others.
    assert contrast(vectors, torch.tensor([0, 1]), there).sum().item() == 0
    assert contrast(vectors, rows, torch.tensor([True, False]))[0].item() == 0


def test_a_peak_is_one_and_its_width_follows_the_person() -> None:
    here = scene((2,))
    here.sides[0, 1] *= 2
    fields, weights = CODEC.targets(here)
    assert (fields["center"].maps == 1).sum() == 2
    assert (fields["heatmap"].maps == 1).sum() == 10
    reach = CODEC._reach(here)[0]
    assert reach.tolist() == [int(gaussian_radius(11, 8)), int(gaussian_radius(21, 15)), 0, 0]
    assert (weights["heatmap"].maps == 1).all()


def test_a_box_larger_than_the_image_is_drawn_as_wide_as_the_image_asks_for() -> None:
    here = scene((1,))
    huge = CODEC.targets(replace(here, sides=here.sides * 100))[0]["center"].maps
    full = CODEC.targets(replace(here, sides=torch.tensor(SIZE).float().expand_as(here.sides)))[0]["center"].maps
    assert torch.equal(huge, full)


def test_the_people_drawn_are_those_there_each_from_a_cell_at_or_beside_the_center() -> None:
    here = scene((2, 4, 0))
    drawn = CODEC._drawn(here)
    assert len(drawn.rows) == 12
    assert drawn.weight.sum() == 6
    assert sorted(drawn.rows[drawn.weight > 0].tolist()) == [0, 0, 1, 1, 1, 1]
    centers = (CODEC.in_cells(here.centers) + 0.5).floor()
    for row, cell, weight in zip(drawn.rows.tolist(), drawn.cells, drawn.weight, strict=True):
        away = (centers[row][here.present[row]] - cell).abs().amax(-1)
        assert weight == 0 or away.min() <= 1
    again = CODEC._drawn(here)
    assert torch.equal(again.cells, drawn.cells)


def test_jitter_goes_all_ways_as_often() -> None:
    """Over 4,000 places."""
    here = scene((4,) * 1000)
    random = torch.Generator().manual_seed(0)
    here = replace(here, keypoints=here.keypoints + 8 * torch.rand(1000, 1, 1, 2, generator=random))
    drawn = CODEC._drawn(here)
    own = (CODEC.in_cells(drawn_centers(here, drawn.rows, drawn.cells)) + 0.5).floor()
    ways = (drawn.cells - own).long()
    counts = torch.bincount((ways[:, 1] + 1) * 3 + ways[:, 0] + 1, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 380
    assert counts.max() < 510


def drawn_centers(here: object, rows: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """The center nearest to each cell."""
    centers = here.centers[rows]  # type: ignore[attr-defined]
    nearest = (CODEC.in_cells(centers) - cells[:, None]).norm(dim=-1).argmin(1)
    return centers[torch.arange(len(rows)), nearest]


def test_of_two_people_in_one_cell_the_smaller_is_drawn_and_a_limit_is_kept() -> None:
    here = scene((2,), room=2)
    here.keypoints[0, 1] = here.keypoints[0, 0]
    here.sides[0, 0] *= 2
    drawn = CODEC._drawn(here)
    assert drawn.weight.tolist() == [1, 0]
    torch.testing.assert_close(drawn.maps[0], CODEC._drawn(replace(here, weight=torch.tensor([[0.0, 1]]))).maps[0])
    few = replace(CODEC, most=1)._drawn(scene((0, 4, 0)))
    assert few.rows.tolist() == [1, 1, 1]
    assert few.weight.sum() == 3


def test_a_perfect_answer_has_hardly_any_loss_and_a_wrong_one_does() -> None:
    here = scene((2, 4, 0))
    fields = answer(CODEC, here)
    right = CODEC.losses(fields, here)
    wrong = CODEC.losses(fields, replace(here, keypoints=here.keypoints.roll(1, 2)))
    assert wrong["instance"] > 3 * right["instance"] > 0
    assert wrong["heatmap"] > 3 * right["heatmap"]


def test_own_maps_are_weighed_by_trust_in_keypoints_and_people() -> None:
    here = scene((4,))
    fields = answer(CODEC, here)
    losses = [whole(CODEC.instance_terms(fields, each)) for each in (
        here, replace(here, visible=0.5 * here.visible), replace(here, weight=0.5 * here.weight),
    )]  # fmt: skip
    # By the sum of the weights, which stays above 1.
    for other in losses[1:]:
        torch.testing.assert_close(other["instance"], losses[0]["instance"])
    wrong = replace(here, keypoints=here.keypoints + torch.tensor([0.0, 0, 0, 0, 9.0])[:, None])
    shown = replace(wrong, visible=here.visible * torch.tensor([1.0, 1, 1, 1, 0]))
    doubted = replace(wrong, visible=here.visible * torch.tensor([1.0, 1, 1, 1, 0.1]))
    first, none, little = (whole(CODEC.instance_terms(fields, each))["instance"] for each in (wrong, shown, doubted))
    assert none < little < 0.3 * first


def test_everybody_comes_back_from_a_perfect_answer() -> None:
    here = scene()
    found = CODEC.decode(answer(CODEC, here))
    # Peaks lie at whole cells, and flat neighbors give no quarter.
    assert worst(found, here) <= 3
    assert (found.person > 0).sum(1).tolist() == [2, 4, 0]
    on_device = CODEC.found(answer(CODEC, here), 6)[0]
    assert worst(on_device, here) <= 3
    assert (on_device.weight > 0).sum(1).tolist() == [2, 4, 0]


def test_half_a_center_and_half_a_peak_are_half_a_person() -> None:
    """And not a quarter: what is hardly sure must mean the same for all networks."""
    here = scene((1,))
    fields = answer(CODEC, here)
    whole = CODEC.decode(fields)
    fields["center"].maps.mul_(0.5)
    draw = fields._draw
    half = CODEC.decode(InstanceFields(fields, fields.features, fields.shared, lambda *where: 0.5 * draw(*where)))
    torch.testing.assert_close(half.person[0, 0], 0.5 * whole.person[0, 0])
    torch.testing.assert_close(half.scores[0, 0], 0.5 * whole.scores[0, 0])


def test_people_alike_are_one_person_also_from_two_scales() -> None:
    here = scene((1,), room=1)
    fields = answer(CODEC, here)
    x, y = (CODEC.in_cells(here.centers[0, 0]) + 0.5).long().tolist()
    fields["center"].maps[0, 0, y + 4, x + 4] = 0.99
    for person in (CODEC.decode(fields).person, CODEC.found(fields, 4)[0].weight):
        assert (person > 0).sum() == 1
    large = Instance((256, 256), SKELETON)
    both = CODEC.decode_scales([answer(CODEC, here), answer(large, twice(here))])
    assert (both.person > 0).sum() == 1
    assert worst(both, here) <= 3


def test_fields_that_draw_nobody_are_refused() -> None:
    here = scene()
    moved = Fields(answer(CODEC, here))
    assert not isinstance(moved, InstanceFields)
    with pytest.raises(ValueError, match="draw no people"):
        whole(CODEC.instance_terms(moved, here))
