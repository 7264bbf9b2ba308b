"""CutMix and MixUp: mix each image with its partner in the batch, and optionally the targets alike."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semipose.views.occlude import existing, rectangles
from semipose.views.random_key import RandomKey


@dataclass(frozen=True)
class Mix:
    """Mix of each image with its partner in the batch.

    `partner` (B,) is the partner's row. `own` (B, 1, H, W) or (B, 1, 1, 1) is the share in 0..1 that the image keeps.
    """

    partner: Tensor
    own: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Mix `values` (B, C, h, w) as the images were: heatmaps, their weights, or other images.

        On maps a whole number of times smaller than the images a cell has the mean share of its pixels.
        """
        own = self.own
        if own.shape[-1] > values.shape[-1]:
            own = F.avg_pool2d(own, (own.shape[-2] // values.shape[-2], own.shape[-1] // values.shape[-1]))
        return torch.lerp(values.index_select(0, self.partner), values, own.to(values.dtype))


def cutmix(
    image: Tensor,
    random: RandomKey,
    name: str,
    count: int = 2,
    keypoints: Tensor | None = None,
    exists: Tensor | None = None,
) -> tuple[Tensor, Mix]:
    """Fill `count` rectangles of `image` (B, 3, H, W) with the partner's pixels (Yun et al., ICCV 2019).

    They are anywhere or, as in `joint_cutout`, around `keypoints` (B, K, 2) in pixels. Differs from the paper, as in
    MultiAugs (2024): two rectangles of a body part's size instead of one of any size. MultiAugs does not mix the
    targets; `Mix.of` does.
    """
    size = (image.shape[-2], image.shape[-1])
    known = None if keypoints is None or exists is None else existing(keypoints, exists, size)
    covered = rectangles(size, random, name, count, keypoints, known)
    mix = Mix(random.to_device(partners(random)), 1 - covered.float())
    return mix.of(image), mix


def mixup(image: Tensor, random: RandomKey, name: str, alpha: float = 0.2, share: float = 0.25) -> tuple[Tensor, Mix]:
    """Blend `image` (B, 3, H, W) with its partner, whose weight is `share` times a sample of Beta(alpha, alpha).

    Zhang et al. (ICLR 2018), with at most a quarter of the partner as in MultiAugs (2024). Two people in equal parts
    have no single pose. Differs from MultiAugs: each image has its own weight, and `Mix.of` can mix the targets.
    """
    mix = Mix(random.to_device(partners(random)), 1 - share * random.beta(f"{name}/share", alpha).view(-1, 1, 1, 1))
    return mix.of(image), mix


def partners(random: RandomKey) -> NDArray[np.int64]:
    """Pair neighbors of the batch: return (count,) on the host, the partner's row of each row of this process.

    The sampler has shuffled the batch, so neighbors are random. Pairs are counted in the global batch, so processes
    with an even share mix the same pairs as one process. A row without a partner in its process is its own partner.
    """
    row = np.arange(random.start, random.start + random.count)
    other = (row ^ 1) - random.start
    alone = (other < 0) | (other >= random.count)
    return np.where(alone, row - random.start, other)
