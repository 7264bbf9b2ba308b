"""Cut-Occlude: the surroundings of another person's keypoints pasted over an image's own."""

import numpy as np
import torch
from torch import Tensor

from semipose.views.keypoint_mix import blend
from semipose.views.mix import partners
from semipose.views.occlude import BELOW_ONE, HALF_SIZE, JITTER, drawn, existing
from semipose.views.random_key import RandomKey


def cut_occlude(
    image: Tensor, keypoints: Tensor, random: RandomKey, name: str, count: int = 2, exists: Tensor | None = None
) -> Tensor:
    """Paste `count` rectangles around keypoints of each image's partner over its own keypoints (SSPCM, CVPR 2023).

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels, such as pseudo-labels: both are drawn with replacement
    among those inside of their image and, where `exists` (B, K) is given, above 0 there. An image or a partner without
    any leaves the image as it is. Labels and targets stay as they are. Differs from the paper's code: x and y are not
    exchanged, only keypoints that exist are drawn, sizes follow the input's, neighbors of the batch are each other's
    source, and where a rectangle crosses the source's border nothing is pasted instead of a black patch.
    """
    if count == 0:
        return image
    size = (image.shape[-2], image.shape[-1])
    (low, high), unit = HALF_SIZE, (size[0] * size[1]) ** 0.5
    numbers = random.uniform(name, count, 4)
    jitter = random.normal(f"{name}/jitter", count, 4) * (JITTER * unit)
    half = (low + (high - low) * numbers[..., 2:]) * unit
    placed = random.to_device(np.concatenate([numbers[..., :2].clip(0, BELOW_ONE), jitter, half], -1))
    target_chance, source_chance, target_jitter, source_jitter, half = placed.split([1, 1, 2, 2, 2], -1)
    source = random.to_device(partners(random))
    there = existing(keypoints, exists, size)
    theirs, also = keypoints.index_select(0, source), there.index_select(0, source)
    return paste(
        image,
        source,
        drawn(keypoints, there, target_chance) + target_jitter,
        drawn(theirs, also, source_chance) + source_jitter,
        half,
    )


def paste(image: Tensor, source: Tensor, targets: Tensor, sources: Tensor, half: Tensor) -> Tensor:
    """`image` (B, 3, H, W) with what lies around `sources` of image `source` (B,) pasted around its own `targets`.

    Centers (B, R, 2), x first, at a whole number of pixels from each other, and `half` sizes (B, R, 2) in pixels. See
    `blend`: rectangles shrink to what both images have there, and all are read from the unchanged images.
    """
    shift = (sources - targets).round()
    row = source[:, None].expand(shift.shape[:2])
    return blend(image, targets, half, shift, row, torch.zeros_like(half[..., 0]))
