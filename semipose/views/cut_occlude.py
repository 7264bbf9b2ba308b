"""Cut-Occlude: paste patches around another image's keypoints over an image's own keypoints."""

import numpy as np
import torch
from torch import Tensor

from semipose.views.keypoint_mix import blend
from semipose.views.mix import partners
from semipose.views.occlude import BELOW_ONE, HALF_SIZE, JITTER, existing, sample_keypoints
from semipose.views.random_key import RandomKey


def cut_occlude(
    image: Tensor, keypoints: Tensor, random: RandomKey, name: str, count: int = 2, exists: Tensor | None = None
) -> Tensor:
    """Paste `count` rectangles around keypoints of each image's partner over its own keypoints (SSPCM, CVPR 2023).

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels, such as pseudo-labels. Target and source keypoints are
    sampled with replacement among those inside of their image. Where `exists` (B, K) is given, it must be above 0. An
    image stays as it is where it, or its partner, has no such keypoint. Labels and targets do not change.

    Differs from the paper's code: x and y are not exchanged, only existing keypoints are sampled, and sizes follow the
    input's. The source is the neighbor in the batch. Where a rectangle crosses the source's border nothing is pasted,
    instead of a black patch.
    """
    if count == 0:
        return image
    size = (image.shape[-2], image.shape[-1])
    (low, high), unit = HALF_SIZE, (size[0] * size[1]) ** 0.5
    numbers = random.uniform(name, count, 4)
    jitter = random.normal(f"{name}/jitter", count, 4) * (JITTER * unit)
    half = (low + (high - low) * numbers[..., 2:]) * unit
    sampled = random.to_device(np.concatenate([numbers[..., :2].clip(0, BELOW_ONE), jitter, half], -1))
    target_chance, source_chance, target_jitter, source_jitter, half = sampled.split([1, 1, 2, 2, 2], -1)
    source = random.to_device(partners(random))
    known = existing(keypoints, exists, size)
    source_keypoints, source_known = keypoints.index_select(0, source), known.index_select(0, source)
    return paste(
        image,
        source,
        sample_keypoints(keypoints, known, target_chance) + target_jitter,
        sample_keypoints(source_keypoints, source_known, source_chance) + source_jitter,
        half,
    )


def paste(image: Tensor, source: Tensor, targets: Tensor, sources: Tensor, half: Tensor) -> Tensor:
    """Paste the pixels around `sources` of image `source` (B,) around `targets` of `image` (B, 3, H, W).

    `targets` and `sources` (B, R, 2) are centers, x first; their offset is rounded to whole pixels. `half` (B, R, 2)
    are half sizes in pixels. As in `blend`, rectangles shrink to the area that both images have, and all patches are
    read from the unchanged images.
    """
    shift = (sources - targets).round()
    row = source[:, None].expand(shift.shape[:2])
    return blend(image, targets, half, shift, row, torch.zeros_like(half[..., 0]))
