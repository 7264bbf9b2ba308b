"""Cutout and Joint Cutout: rectangles cut out of images, anywhere or at keypoints; batched."""

import numpy as np
import torch
from torch import Tensor

from semipose.geometry import constant
from semipose.views.random_key import RandomKey

# ImageNet's mean color: what the papers' zero after normalization looks like.
FILL = (0.485, 0.456, 0.406)
# Half sizes of 10..19 px and a jitter of 10 px on a 256x192 crop (Xie et al. 2021), as shares of sqrt(H * W), so that
# a small input loses the same part of the person.
HALF_SIZE = (10 / 221.7, 20 / 221.7)
JITTER = 10 / 221.7
# The largest uniform number used: times a count of keypoints it still rounds to less than the count.
BELOW_ONE = 1 - 2**-20
# The center of a rectangle that covers nothing.
NOWHERE = (-1e6, -1e6)


def joint_cutout(
    image: Tensor, keypoints: Tensor, random: RandomKey, name: str, count: int = 5, exists: Tensor | None = None
) -> Tensor:
    """Cut `count` rectangles around keypoints sampled with replacement (Joint Cutout, Xie et al. 2021).

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels. Only keypoints inside of the image are sampled. Where
    `exists` (B, K) is given, it must be above 0 (visible, confident). An image without such keypoints stays as it is.
    Differs from the paper's code: rows and columns are not exchanged when clamping, only existing keypoints are
    sampled, and sizes follow the input's.
    """
    size = (image.shape[-2], image.shape[-1])
    return fill_rectangles(image, rectangles(size, random, name, count, keypoints, existing(keypoints, exists, size)))


def cutout(image: Tensor, random: RandomKey, name: str, count: int = 5) -> Tensor:
    """Cut `count` rectangles with centers anywhere in `image` (B, 3, H, W) (DeVries and Taylor 2017)."""
    return fill_rectangles(image, rectangles((image.shape[-2], image.shape[-1]), random, name, count))


def rectangles(
    size: tuple[int, int],
    random: RandomKey,
    name: str,
    count: int,
    keypoints: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Return the mask (B, 1, H, W) bool of `count` random rectangles in images of `size` (H, W).

    Their centers are anywhere, or at sampled `keypoints` (B, K, 2) of those `known` (B, K) bool. By default all
    keypoints inside of the image are known, see `existing`.
    """
    (height, width), (low, high) = size, HALF_SIZE
    unit = (height * width) ** 0.5
    half = (low + (high - low) * random.uniform(f"{name}/sizes", count, 2)) * unit
    if keypoints is None:
        centers = random.uniform(f"{name}/centers", count, 2) * np.array([width - 1, height - 1], np.float32)
        center, half_size = random.to_device(np.concatenate([centers, half], -1)).split(2, -1)
    else:
        chance = random.uniform(f"{name}/joints", count, 1).clip(0, BELOW_ONE)
        shift = random.normal(f"{name}/jitter", count, 2) * (JITTER * unit)
        chance, shift, half_size = random.to_device(np.concatenate([chance, shift, half], -1)).split([1, 2, 2], -1)
        known = existing(keypoints, None, size) if known is None else known
        center = sample_keypoints(keypoints, known, chance) + shift
    return cover(center - half_size, center + half_size, size)[:, None]


def sample_keypoints(keypoints: Tensor, known: Tensor, chance: Tensor) -> Tensor:
    """Pick R of the `known` (B, K) bool `keypoints` (B, K, 2) by uniform numbers `chance` (B, R, 1) in [0, 1).

    Returns their positions (B, R, 2), `NOWHERE` in an image without known keypoints.
    """
    # The first keypoint whose number among the known ones is above chance * their count.
    number = known.cumsum(1, dtype=chance.dtype)
    index = torch.searchsorted(number, chance[..., 0] * number[:, -1:], right=True)
    positions = torch.where(known[..., None], keypoints, constant(NOWHERE, keypoints.device))
    return positions.gather(1, index.clamp_max_(keypoints.shape[1] - 1)[..., None].expand(-1, -1, 2))


def existing(keypoints: Tensor, exists: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Return (B, K) bool: the `keypoints` (B, K, 2) inside of images of `size` (H, W) whose `exists` is above 0."""
    border = constant((size[1] - 0.5, size[0] - 0.5), keypoints.device)
    inside = ((keypoints >= -0.5) & (keypoints < border)).all(-1)
    return inside if exists is None else inside & (exists > 0)


def fill_rectangles(image: Tensor, covered: Tensor) -> Tensor:
    """Fill `image` (B, 3, H, W) with the mean color where `covered` (B, 1, H, W) bool."""
    color = constant(tuple(((share,),) for share in FILL), image.device, image.dtype)
    return torch.where(covered, color, image)


def cover(low: Tensor, high: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Return (B, H, W) bool: whether each pixel is in one of the rectangles [low, high), (B, R, 2) pixels, x first.

    With a `stride` it is the cells of a map that are tested, by their centers; `size` is then in cells.
    """
    index = stride * torch.arange(max(size), device=low.device) + (stride - 1) / 2
    columns, rows = ((index >= low[..., None]) & (index < high[..., None])).float().unbind(2)
    if size[0] != size[1]:
        columns, rows = columns[..., : size[1]], rows[..., : size[0]]
    # A pixel is covered when some rectangle has both its row and its column: one product instead of R masks.
    with torch.autocast(low.device.type, enabled=False):
        return torch.bmm(rows.mT, columns) > 0.5
