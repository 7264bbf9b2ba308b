"""The formulas of detector-free networks once more, as plain loops in NumPy: what the fast versions must equal."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.floating]
COCO_ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]


def gaussian(x: float, y: float, sigma: float, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """A map of one point in cells, 0 outside of the window, and the window."""
    drawn, window, reach = np.zeros(size), np.zeros(size), 3 * sigma + 1
    for row in range(math.floor(y - reach), math.ceil(y + reach) + 1):
        for column in range(math.floor(x - reach), math.ceil(x + reach) + 1):
            if 0 <= row < size[0] and 0 <= column < size[1]:
                drawn[row, column] = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
                window[row, column] = 1
    return drawn, window


def pull_push(tags: Floats, visible: Floats) -> tuple[float, float]:
    """Of one image: `tags` (M, K, L), `visible` (M, K)."""
    means, pull = [], 0.0
    for tag, shown in zip(tags, visible, strict=True):
        theirs = [tag[k] for k in range(len(tag)) if shown[k] > 0]
        if theirs:
            mean = sum(theirs) / len(theirs)
            means.append(mean)
            pull += sum(float(((each - mean) ** 2).sum()) for each in theirs) / len(theirs)
    people, push = len(means), 0.0
    for one in means:
        for other in means:
            push += math.exp(-float(((one - other) ** 2).sum()))
    pull = pull / people if people else 0.0
    return pull, 0.5 * (push - people) / (people * (people - 1)) if people > 1 else 0.0


def offsets(
    keypoints: Floats, visible: Floats, centers: Floats, extents: Floats, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Targets (K, 2, h, w) and weights (K, h, w) of one image, everything in cells; smaller people win."""
    target, weight = np.zeros((keypoints.shape[1], 2, *size)), np.zeros((keypoints.shape[1], *size))
    for person in np.argsort(-extents, kind="stable"):
        for k in range(keypoints.shape[1]):
            for row in range(size[0]):
                for column in range(size[1]):
                    x, y = np.array([column, row]) - centers[person]
                    if visible[person, k] > 0 and -4 <= x < 4 and -4 <= y < 4:
                        target[k, :, row, column] = np.array([column, row]) - keypoints[person, k]
                        weight[k, row, column] = 1 / extents[person]
    return target, weight


def group(
    heat: Floats, tags: Floats, score: Floats, cells: NDArray[np.integer], tag: Floats
) -> tuple[list[Floats], list[float]]:
    """People (K, 3: x, y, score in cells) of one image, with missing keypoints filled in, and their scores before it.

    As the public code goes about it: maps `heat` (K, h, w) and `tags` (K, h, w, L) are copied for each person, and
    everything is scanned keypoint by keypoint. Candidates: `score` (K, n), `cells` (K, n, 2), `tag` (K, n, L).
    """
    people, scores = [], []
    for members in match(score, tag):
        pose = np.zeros((len(heat), 3), np.float32)
        for k, candidate in members.items():
            x, y = cells[k, candidate]
            pose[k] = *step(heat[k], x, y), score[k, candidate]
        scores.append(float(pose[:, 2].mean()))
        people.append(refine(heat.copy(), tags.copy(), pose))
    return people, scores


def match(score: Floats, tag: Floats) -> list[dict[int, int]]:
    """Candidates by keypoint of each person."""
    people: list[dict[int, int]] = []
    for k in [k for k in COCO_ORDER if k < len(score)]:
        candidates = [c for c in range(score.shape[1]) if score[k, c] > 0.1]
        known = people[:30]
        cost, distance = np.zeros((len(candidates), len(known))), np.zeros((len(candidates), len(known)))
        for i, c in enumerate(candidates):
            for j, members in enumerate(known):
                mean = np.mean([tag[joint, number] for joint, number in members.items()], 0)
                distance[i, j] = np.sqrt(((tag[k, c].astype(np.float64) - mean) ** 2).sum())
                cost[i, j] = 100 * np.round(distance[i, j]) - score[k, c] + 1e-3 * distance[i, j]
        pairs = dict(zip(*(each.tolist() for each in linear_sum_assignment(cost)), strict=True))
        for i, c in enumerate(candidates):
            if i in pairs and distance[i, pairs[i]] < 1:
                known[pairs[i]][k] = c
            else:
                people.append({k: c})
    return people


def refine(heat: Floats, tags: Floats, pose: Floats) -> Floats:
    """`pose` (K, 3) with what it lacks."""
    theirs = [tags[k, int(pose[k, 1] + 0.5), int(pose[k, 0] + 0.5)] for k in range(len(pose)) if pose[k, 2] > 0]
    mean = np.mean(theirs, axis=0)
    filled = pose.copy()
    for k in range(len(pose)):
        away = np.sqrt(((tags[k] - mean[None, None]) ** 2).sum(2))
        y, x = np.unravel_index(np.argmax(heat[k] - np.round(away)), heat[k].shape)
        if pose[k, 2] == 0 and heat[k, y, x] > 0:
            filled[k] = *step(heat[k], int(x), int(y)), heat[k, y, x]
    return filled


def step(heat: Floats, x: int, y: int) -> tuple[float, float]:
    """A quarter cell toward the higher neighbors."""
    height, width = heat.shape
    right = heat[y, min(width - 1, x + 1)] > heat[y, max(0, x - 1)]
    below = heat[min(height - 1, y + 1), x] > heat[max(0, y - 1), x]
    return x + (0.25 if right else -0.25), y + (0.25 if below else -0.25)


def suppressed(same: NDArray[np.bool_], score: Floats) -> list[int]:
    """Who stays, one after the other from the best; `same[i, j]`: i gives way to j."""
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        if score[i] > 0 and not any(same[i, j] for j in kept):
            kept.append(int(i))
    return sorted(kept)
