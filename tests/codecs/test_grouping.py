"""Candidates to people: the published example, the optimum, and equal to plain loops."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from semipose.codecs.associative import AssociativeEmbedding
from semipose.codecs.grouping import grouped, refined
from semipose.codecs.peaks import peaks
from semipose.fields import Field, Fields
from semipose.pose.skeleton import PRESETS
from tests.codecs import plain

COCO = PRESETS["coco_17"]


def crowd(people: int, side: int, length: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Heatmaps (17, side, side) with a peak of most keypoints of `people`, and tags (length, 17, side, side)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    heat, tags = np.zeros((17, side, side)), np.zeros((length, 17, side, side))
    for person in range(people):
        for k in range(17):
            at = random.uniform(4, side - 5, 2)
            near = (x - at[0]) ** 2 + (y - at[1]) ** 2
            height = random.uniform(0.2, 1) if random.random() < 0.75 else 0.05
            heat[k] = np.maximum(heat[k], height * np.exp(-near / 8))
            tags[:, k] += (near < 20) * (2.0 * person + random.normal(0, 0.1, (length, 1, 1)) - tags[:, k])
    # Equal tags would leave it to rounding who gets which of two candidates.
    heat, tags = heat + random.uniform(0, 0.02, heat.shape), tags + random.normal(0, 0.02, tags.shape)
    return torch.from_numpy(heat).float(), torch.from_numpy(tags).float()


def coarse(heat: torch.Tensor, tags: torch.Tensor) -> tuple[AssociativeEmbedding, Fields]:
    """A network without the finer map that answered so to one image."""
    side = heat.shape[-1]
    fields = {
        "heatmap": Field(heat[None], "scalar", 4, COCO.flip),
        "tags": Field(tags.flatten(0, 1)[None], "embedding", 4, COCO.flip * len(tags)),
    }
    return AssociativeEmbedding((4 * side, 4 * side), COCO, fine=False), Fields(fields)


def published() -> tuple[torch.Tensor, torch.Tensor]:
    heat, tags = torch.zeros(17, 32, 32), torch.zeros(1, 17, 32, 32)
    for k, x, y, score, tag in (
        (0, 6, 5, 0.9, 0),
        (1, 8, 6, 0.7, 0.3),
        (0, 20, 20, 0.8, 5),
        (1, 22, 21, 0.6, 4.9),
        (2, 10, 10, 0.5, 9),
    ):
        heat[k, y, x], tags[0, k, y, x] = score, tag
    return heat, tags


def test_the_published_example_gives_three_people_with_their_scores() -> None:
    codec, fields = coarse(*published())
    found = codec.decode(fields)
    torch.testing.assert_close(found.person[0, :4], torch.tensor([0.0941176, 0.0823529, 0.0294118, 0.0]))
    # The reference adds half a cell to ours.
    cells = codec.in_cells(found.keypoints[0]) + 0.5
    assert cells[0, :2].tolist() == [[6.25, 5.25], [8.25, 6.25]]
    assert cells[1, :2].tolist() == [[20.25, 20.25], [22.25, 21.25]]
    assert cells[2, 2].tolist() == [10.25, 10.25]
    torch.testing.assert_close(found.scores[0, 0, :2], torch.tensor([0.9, 0.7]))
    few = codec.decode(fields, people=2)
    assert torch.equal(few.person, found.person[:, :2])
    assert torch.equal(few.keypoints, found.keypoints[:, :2])


def test_people_with_the_very_same_tag_stay_two() -> None:
    members = grouped(np.array([[0.9, 0.8], [0.7, 0.6]], np.float32), np.ones((2, 2, 1), np.float32))
    assert sorted(members.tolist()) == [[0, 0], [1, 1]]


def test_among_candidates_with_near_tags_the_score_decides() -> None:
    score = np.array([[0.9, 0.0], [0.5, 0.8]], np.float32)
    tag = np.array([[[0.0], [0.0]], [[0.1], [0.3]]], np.float32)
    assert grouped(score, tag).tolist() == [[0, 1], [-1, 0]]


def test_nobody_is_found_where_no_candidate_is_sure_enough() -> None:
    assert grouped(np.full((3, 4), 0.1, np.float32), np.zeros((3, 4, 1), np.float32)).shape == (0, 3)


def test_scipys_assignment_costs_as_little_as_any() -> None:
    random = np.random.default_rng(0)
    for rows, columns in ((4, 4), (3, 6), (5, 5)):
        cost = random.integers(0, 5, (rows, columns)) * 100.0 - random.random((rows, 1))
        least = min(
            sum(cost[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(columns), rows)
        )
        row, column = linear_sum_assignment(cost)
        assert cost[row, column].sum() == pytest.approx(least)


@pytest.mark.parametrize("seed", range(3))
def test_grouping_and_filling_in_equal_plain_loops_exactly(seed: int) -> None:
    heat, tags = crowd(5, 48, seed=seed)
    codec, fields = coarse(heat, tags)
    score, cells = peaks(heat[None], 30)
    tag = np.stack([tags[:, k, cells[0, k, :, 1], cells[0, k, :, 0]].T.numpy() for k in range(17)])
    people, scores = plain.group(
        heat.numpy(), tags.permute(1, 2, 3, 0).numpy(), score[0].numpy(), cells[0].numpy(), tag
    )
    order = np.argsort(-np.array(scores), kind="stable")[:30]
    found = codec.decode(fields)
    np.testing.assert_allclose(found.person[0, : len(order)], np.array(scores)[order], rtol=1e-6)
    expected = np.stack(people)[order]
    assert (expected[..., 2] > 0).all()
    np.testing.assert_array_equal(codec.in_cells(found.keypoints[0, : len(order)]), expected[..., :2])
    np.testing.assert_array_equal(found.scores[0, : len(order)], expected[..., 2])


def test_missing_keypoints_lie_where_the_plain_search_finds_them() -> None:
    heat, tags = crowd(4, 40)
    means = torch.tensor([[0.3, 0.1], [4.2, 4.0], [17.0, 3.0]])
    at = refined(heat[3], tags[:, 3], means)
    for index, mean in zip(at.tolist(), means.numpy(), strict=True):
        away = np.sqrt(((tags[:, 3].permute(1, 2, 0).numpy() - mean) ** 2).sum(2))
        assert index == np.argmax(heat[3].numpy() - np.round(away))
