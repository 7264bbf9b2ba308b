"""Images mixed with a partner's of the same batch: CutMix and MixUp, with what it takes to mix their targets."""

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
    """Who came into each image, and where: `partner` (B,) is a row of this batch, `own` (B, 1, H, W) or (B, 1, 1, 1)
    the share in 0..1 that is still the image's own."""

    partner: Tensor
    own: Tensor

    def of(self, values: Tensor) -> Tensor:
        """`values` (B, C, h, w) mixed as the images were: heatmaps, their weights, or other images.

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
    """Fill `count` rectangles of `image` (B, 3, H, W) with what the partner shows there (Yun et al., ICCV 2019).

    They lie anywhere, or around `keypoints` (B, K, 2) in pixels as those of `joint_cutout` do. Differs from the
    paper, with MultiAugs (2024): two rectangles of a body part's size instead of one of any size. MultiAugs leaves
    the targets as they are; `Mix.of` mixes them.
    """
    size = (image.shape[-2], image.shape[-1])
    there = None if keypoints is None or exists is None else existing(keypoints, exists, size)
    covered = rectangles(size, random, name, count, keypoints, there)
    mix = Mix(random.to_device(partners(random)), 1 - covered.float())
    return mix.of(image), mix


def mixup(image: Tensor, random: RandomKey, name: str, alpha: float = 0.2, share: float = 0.25) -> tuple[Tensor, Mix]:
    """Blend `image` (B, 3, H, W) with its partner, who gets `share` times a number from Beta(alpha, alpha).

    Zhang et al. (ICLR 2018); at most a quarter as in MultiAugs (2024), because two people in equal parts are nobody's
    pose. Differs from MultiAugs: each image has its own number, and targets can be mixed with `Mix.of`.
    """
    mix = Mix(random.to_device(partners(random)), 1 - share * random.beta(f"{name}/share", alpha).view(-1, 1, 1, 1))
    return mix.of(image), mix


def partners(random: RandomKey) -> NDArray[np.int64]:
    """(count,) on the host, the row of this process's batch that each row is mixed with: neighbors exchange with each
    other.

    The sampler has shuffled the batch, so a neighbor is as random as any other. Pairs are counted in the global batch:
    processes with an even share each mix what one process would. A pair that two processes share, or the last row of
    an odd batch, keeps to itself.
    """
    row = np.arange(random.start, random.start + random.count)
    other = (row ^ 1) - random.start
    alone = (other < 0) | (other >= random.count)
    return np.where(alone, row - random.start, other)
