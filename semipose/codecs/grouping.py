"""Group one image's keypoint candidates into people by their tags, on the host (associative embedding).

Newell et al. 2017, with the steps and constants of HigherHRNet's public code (Cheng et al. 2020).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from semipose.codecs.heatmap import highest
from semipose.codecs.peaks import MIN_KEYPOINT_SCORE

# Tags of one person differ by less.
MAX_TAG_DISTANCE = 1.0
# Head and trunk first: they are detected best, and limbs join them.
_COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


def grouped(score: NDArray[np.float32], tag: NDArray[np.float32], people: int = 30) -> NDArray[np.int64]:
    """Members (G, K) of each person: the number of the candidate for each keypoint, or -1.

    Candidates with a `score` (K, n) above 0.1 count; `tag` (K, n, L) are their tags. Keypoint by keypoint, candidates
    are assigned to the people so far at the lowest total cost, 100 * round(tag distance) - score. A candidate at a
    distance of 1 or more starts a new person. Only the first `people` can be joined; G may be larger, and 0. Differs
    from the public code: of equal costs the one with nearer tags is chosen, and people with the same tag stay two.
    """
    count = len(score)
    members = np.full((0, count), -1)
    tag_sum, size = np.zeros((0, tag.shape[-1])), np.zeros((0, 1))
    for keypoint in (*(k for k in _COCO_ORDER if k < count), *range(len(_COCO_ORDER), count)):
        candidates = np.flatnonzero(score[keypoint] > MIN_KEYPOINT_SCORE)
        tags = tag[keypoint, candidates].astype(np.float64)
        mean = (tag_sum / np.maximum(size, 1))[:people]
        distance = np.linalg.norm(tags[:, None] - mean, axis=-1)
        cost = 100 * distance.round() - score[keypoint, candidates, None] + 1e-3 * distance
        which, person = linear_sum_assignment(cost)
        accepted = distance[which, person] < MAX_TAG_DISTANCE
        which, person = which[accepted], person[accepted]
        members[person, keypoint] = candidates[which]
        tag_sum[person] += tags[which]
        size[person] += 1
        rest = np.setdiff1d(np.arange(len(candidates)), which)
        started = np.full((len(rest), count), -1)
        started[:, keypoint] = candidates[rest]
        members, tag_sum = np.concatenate([members, started]), np.concatenate([tag_sum, tags[rest]])
        size = np.concatenate([size, np.ones((len(rest), 1))])
    return members


def refined(heat: Tensor, tags: Tensor, means: Tensor) -> Tensor:
    """Best cells (P,), counted row by row, for P people who lack this keypoint.

    The best cell has the highest heat - round(tag distance). `heat` (h, w), `tags` (L, h, w), the people's mean tags
    `means` (P, L).
    """
    # Person by person, in place: the buffers stay in the processor's cache.
    difference, value, best = torch.empty_like(tags), torch.empty_like(heat), []
    for mean in means:
        torch.sub(tags, mean[:, None, None], out=difference)
        torch.sum(difference.square_(), 0, out=value)
        torch.sub(heat, value.sqrt_().round_(), out=value)
        best.append(highest(value[None, None])[1].flatten())
    return torch.cat(best)
