"""Sub-pixel round trips at every stride, and the edges of the map."""

import pytest
import torch

from semipose.codecs.heatmap import HeatmapCodec, highest
from semipose.fields import Field, Fields

FLIP = (0, 2, 1)


def points(codec: HeatmapCodec, margin: float, count: int = 200) -> torch.Tensor:
    """Random keypoints (count, 3, 2) at least `margin` pixels inside."""
    span = torch.tensor([codec.size[1] - 1 - 2 * margin, codec.size[0] - 1 - 2 * margin])
    return torch.rand(count, 3, 2, generator=torch.Generator().manual_seed(0)) * span + margin


@pytest.mark.parametrize(
    ("stride", "sigma", "margin"),
    [(4, 2.0, 0.0), (4, 1.0, 0.0), (4, 3.0, 0.0), (2, 2.0, 0.0), (8, 1.5, 0.0), (1, 2.0, 0.0)],
)
def test_dark_finds_clean_peaks_to_a_twentieth_of_a_pixel(stride: int, sigma: float, margin: float) -> None:
    codec = HeatmapCodec((256, 192), FLIP, stride, sigma)
    keypoints = points(codec, margin)
    fields, _ = codec.encode(keypoints, torch.full(keypoints.shape[:2], 2))
    found, score = codec.decode(fields, "dark")
    assert (found - keypoints).abs().max() <= 0.05
    assert (score > 0.7).all()


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_quarter_offset_is_within_a_quarter_cell(stride: int) -> None:
    codec = HeatmapCodec((128, 96), FLIP, stride)
    keypoints = points(codec, 2.0 * stride)
    fields, _ = codec.encode(keypoints, torch.full(keypoints.shape[:2], 2))
    found, _ = codec.decode(fields, "quarter")
    assert (found - keypoints).abs().max() <= 0.25 * stride + 1e-3


def test_a_flat_or_empty_map_gives_its_first_cell_and_no_nan() -> None:
    codec = HeatmapCodec((64, 64), FLIP)
    empty = Fields({"heatmap": Field(torch.zeros(1, 3, 16, 16), "scalar", 4, FLIP)})
    for how in ("dark", "quarter"):
        found, score = codec.decode(empty, how)
        assert torch.isfinite(found).all()
        assert (score == 0).all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(256, 192), (96, 72), (36, 28), (20, 12)])
def test_the_score_and_the_place_are_the_highest_cells_and_of_equals_the_first(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    maps = torch.randint(0, 40, (4, 3, size[0] // 4, size[1] // 4), generator=torch.Generator().manual_seed(0)).float()
    score, index = maps.flatten(2).max(-1)
    maps = maps.contiguous(memory_format=layout)
    found, place = highest(maps)
    assert torch.equal(found, score)
    assert torch.equal(place, index)


@pytest.mark.parametrize(("x", "y"), [(0, 5), (15, 5), (5, 0), (5, 15), (0, 0), (15, 15)])
def test_a_quarter_step_needs_both_neighbors(x: int, y: int) -> None:
    maps = torch.rand(1, 3, 16, 16) * 0.5
    maps[..., y, x] = 1.0
    found, _ = HeatmapCodec((64, 64), FLIP).decode(Fields({"heatmap": Field(maps, "scalar", 4, FLIP)}), "quarter")
    step = (found - 1.5) / 4 - torch.tensor([x, y])
    expected = torch.tensor([0.0 if x in (0, 15) else 0.25, 0.0 if y in (0, 15) else 0.25])
    assert torch.equal(step.abs(), expected.expand(1, 3, 2))


def test_autocast_does_not_round_the_place() -> None:
    codec = HeatmapCodec((256, 192), FLIP)
    keypoints = points(codec, 0.0)
    fields, _ = codec.encode(keypoints, torch.full(keypoints.shape[:2], 2))
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = codec.decode(fields, "dark")
    assert (found - keypoints).abs().max() <= 0.05


def test_a_map_of_nan_gives_a_place_without_nan() -> None:
    codec = HeatmapCodec((64, 64), FLIP)
    broken = Fields({"heatmap": Field(torch.full((1, 3, 16, 16), torch.nan), "scalar", 4, FLIP)})
    assert torch.isfinite(codec.decode(broken, "dark")[0]).all()


def test_unlabeled_and_outside_keypoints_have_weight_zero_and_an_empty_map() -> None:
    codec = HeatmapCodec((64, 48), FLIP)
    keypoints = torch.tensor([[[20.0, 20.0], [20.0, 20.0], [-3.0, 20.0]]])
    fields, weight = codec.encode(keypoints, torch.tensor([[2, 0, 2]]))
    assert weight.flatten().tolist() == [1, 0, 0]
    assert fields["heatmap"].maps[0, 0].max() > 0.8
    assert fields["heatmap"].maps[0, 1:].abs().max() == 0


def test_the_patch_is_cut_around_the_peak_of_each_map() -> None:
    """Two peaks of one map: the higher one is refined, with its own neighbors."""
    codec = HeatmapCodec((64, 64), FLIP)
    first, _ = codec.encode(torch.tensor([[[12.0, 40.3], [1.0, 1.0], [1.0, 1.0]]]), torch.full((1, 3), 2))
    second, _ = codec.encode(torch.tensor([[[50.0, 9.0], [1.0, 1.0], [1.0, 1.0]]]), torch.full((1, 3), 2))
    maps = first["heatmap"].maps + 0.5 * second["heatmap"].maps
    found, _ = codec.decode(Fields({"heatmap": Field(maps, "scalar", 4, FLIP)}), "dark")
    assert (found[0, 0] - torch.tensor([12.0, 40.3])).abs().max() < 0.2


def test_sigma_follows_the_height_but_stays_resolved() -> None:
    assert HeatmapCodec.for_size((256, 192), FLIP).sigma == 2.0
    assert HeatmapCodec.for_size((384, 288), FLIP).sigma == 3.0
    assert HeatmapCodec.for_size((96, 96), FLIP).sigma == 1.5
