"""Candidates for keypoints, with tags, of one image -> people, on the host (associative embedding).

Newell et al. 2017, with the steps and numbers of HigherHRNet's public code (Cheng et al. 2020).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.codecs.peaks import LEAST_KEYPOINT

# Tags of one person differ by less than this.
NEAR = 1.0
# Head and trunk first: they are found best, and limbs join them.
_COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


def grouped(score: NDArray[np.float32], tag: NDArray[np.float32], people: int = 30) -> NDArray[np.int64]:
    """Members (G, K) of each person: the candidate's number for each keypoint, -1 where there is none.

    `score` (K, n) and `tag` (K, n, L) of the candidates, of which those scored above 0.1 count. Keypoint by keypoint
    they join the people found so far at the least cost, 100 * round(tag distance) - score, or open a new one where
    the distance is 1 or more. The first `people` can be joined; G may be larger, and 0. Differs from the public code:
    of equal costs the one with nearer tags is chosen, and people with the very same tag stay two.
    """
    count = len(score)
    members = np.full((0, count), -1)
    total, size = np.zeros((0, tag.shape[-1])), np.zeros((0, 1))
    for keypoint in (*(k for k in _COCO_ORDER if k < count), *range(len(_COCO_ORDER), count)):
        candidates = np.flatnonzero(score[keypoint] > LEAST_KEYPOINT)
        tags = tag[keypoint, candidates].astype(np.float64)
        mean = (total / np.maximum(size, 1))[:people]
        distance = np.linalg.norm(tags[:, None] - mean, axis=-1)
        cost = 100 * distance.round() - score[keypoint, candidates, None] + 1e-3 * distance
        which, person = linear_sum_assignment(cost)
        accepted = distance[which, person] < NEAR
        which, person = which[accepted], person[accepted]
        members[person, keypoint] = candidates[which]
        total[person] += tags[which]
        size[person] += 1
        rest = np.setdiff1d(np.arange(len(candidates)), which)
        opened = np.full((len(rest), count), -1)
        opened[:, keypoint] = candidates[rest]
        members, total = np.concatenate([members, opened]), np.concatenate([total, tags[rest]])
        size = np.concatenate([size, np.ones((len(rest), 1))])
    return members


def refined(heat: Tensor, tags: Tensor, means: Tensor) -> Tensor:
    """Where (P,) a map's cells, counted row by row, fit best to each of P people who lack this keypoint.

    That is the highest heat - round(tag distance): `heat` (h, w), `tags` (L, h, w), the people's `means` (P, L).
    """
    # Person by person in one place, so that what is worked on stays in the processor's cache.
    away, value, best = torch.empty_like(tags), torch.empty_like(heat), []
    for mean in means:
        torch.sub(tags, mean[:, None, None], out=away)
        torch.sum(away.square_(), 0, out=value)
        torch.sub(heat, value.sqrt_().round_(), out=value)
        best.append(highest(value[None, None])[1].flatten())
    return torch.cat(best)
