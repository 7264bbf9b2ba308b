"""Position-inconsistency correction: golden values T4 and T5 of the easy-hard spec, and what must hold for any maps."""

import pytest
import torch
from torch import Tensor

from benchmarks.operators import Operators, on_meta
from semipose.fields import Field, Fields
from semipose.methods._correction import Corrected, correct

SIZE = (64, 48)


def prediction(positions: list[tuple[int, int]], value: float) -> Fields:
    """One image's maps of `value` with a slightly higher cell at each position (x, y)."""
    maps = torch.full((1, len(positions), *SIZE), value)
    for keypoint, (x, y) in enumerate(positions):
        maps[0, keypoint, y, x] += 1e-3
    return as_fields(maps)


def as_fields(maps: Tensor) -> Fields:
    return Fields({"heatmap": Field(maps, "scalar", 4, tuple(range(maps.shape[1])))})


FIRST = prediction([(10, 10), (20, 30), (5, 5), (0, 0)], 1.0)
SECOND = prediction([(13, 14), (20, 33), (5, 5), (47, 63)], 2.0)
FIRST_BEFORE = prediction([(12, 14), (20, 31), (6, 5), (40, 60)], 3.0)
SECOND_BEFORE = prediction([(10, 11), (26, 38), (5, 5), (1, 1)], 5.0)


def golden() -> Corrected:
    return correct((FIRST, SECOND), (FIRST_BEFORE, SECOND_BEFORE))


def test_the_nearest_pair_of_different_networks_is_averaged() -> None:
    """T4; its channels 0 and 2 are ties, of which the first pair counts."""
    found = golden()
    assert (found.pair[0] + 1).tolist() == [2, 2, 1, 3]
    torch.testing.assert_close(found.fields["heatmap"].maps[0, :, 40, 3], torch.tensor([2.5, 2.5, 1.5, 3.0]))


def test_the_inconsistency_is_a_share_of_the_diagonal() -> None:
    """T5: distances 5, 3, 0 and 78.600258 of 80 cells."""
    torch.testing.assert_close(golden().inconsistency[0], torch.tensor([0.0625, 0.0375, 0.0, 0.982503]))


@pytest.mark.parametrize("size", [(48, 64), (1, 64), (2, 2)])
def test_opposite_corners_are_at_most_a_diagonal_less_one_apart(size: tuple[int, int]) -> None:
    """T5's limit of (D - 1) / D holds by itself."""
    first, second = torch.zeros(1, 1, *size), torch.zeros(1, 1, *size)
    first[..., 0, 0] = second[..., -1, -1] = 1.0
    now, diagonal = (as_fields(first), as_fields(second)), (size[0] ** 2 + size[1] ** 2) ** 0.5
    found = correct(now, now).inconsistency.item()
    assert found == pytest.approx(((size[0] - 1) ** 2 + (size[1] - 1) ** 2) ** 0.5 / diagonal)
    assert found <= (diagonal - 1) / diagonal


def test_confidence_is_the_mean_height_of_the_present_peaks() -> None:
    torch.testing.assert_close(golden().confidence, torch.full((1, 4), 1.501))


def test_without_a_past_it_is_the_mean_of_the_present() -> None:
    now = random(0), random(1)
    found = correct(now, now)
    assert not found.pair.any()
    mean = (now[0]["heatmap"].maps + now[1]["heatmap"].maps) / 2
    torch.testing.assert_close(found.fields["heatmap"].maps, mean)


def random(seed: int, count: int = 6) -> Fields:
    return as_fields(torch.rand(count, 5, 16, 12, generator=torch.Generator().manual_seed(seed)))


def test_it_equals_the_loop_over_images_and_keypoints() -> None:
    predictions = [random(seed) for seed in range(4)]
    found = correct((predictions[0], predictions[1]), (predictions[2], predictions[3]))
    maps = [each["heatmap"].maps for each in predictions]
    for image in range(6):
        for keypoint in range(5):
            cells = [divmod(int(each[image, keypoint].argmax()), 12) for each in maps]
            pairs = [(0, 1), (2, 1), (0, 3), (2, 3)]
            apart = [sum((a - b) ** 2 for a, b in zip(cells[i], cells[j], strict=True)) for i, j in pairs]
            nearest = apart.index(min(apart))
            assert found.pair[image, keypoint] == nearest
            one, other = pairs[nearest]
            expected = (maps[one][image, keypoint] + maps[other][image, keypoint]) / 2
            torch.testing.assert_close(found.fields["heatmap"].maps[image, keypoint], expected)


def test_it_is_a_few_operators_for_any_batch_and_reads_nothing_back() -> None:
    counts = []
    for images in (4, 16):
        predictions = [random(seed, images) for seed in range(4)]
        with Operators() as seen:
            correct((predictions[0], predictions[1]), (predictions[2], predictions[3]))
        counts.append(seen.count)
        assert not seen.blocking
    assert counts[0] == counts[1] <= 80
    with on_meta() as device:
        moved = [as_fields(random(seed)["heatmap"].maps.to(device)) for seed in range(4)]
        assert correct((moved[0], moved[1]), (moved[2], moved[3])).pair.is_meta
