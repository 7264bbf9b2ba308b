"""Keypoint-Mix: what is around one keypoint blended into what is around another; batched, on the device."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.geometry import constant
from semipose.views.mix import partners
from semipose.views.occlude import HALF_SIZE, NOWHERE, existing
from semipose.views.random_key import RandomKey

# 5 px on a 256x192 crop, as a share of sqrt(H * W), like the sizes of views/occlude.py.
_JITTER = 5 / 221.7


def keypoint_mix(
    image: Tensor,
    keypoints: Tensor,
    random: RandomKey,
    name: str,
    count: int = 2,
    exists: Tensor | None = None,
    others: float = 0.5,
    own: tuple[float, float] = (0.5, 0.9),
) -> Tensor:
    """Blend the surroundings of a different keypoint into those of `count` keypoints of each image (Yun et al. 2025).

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels. Both keypoints are drawn among those inside of their
    image for which `exists` (B, K), where given, is above 0; the blended-in one is never of the same name, and comes
    from the partner of the batch in the share `others` of the patches, else from the same image. A pixel keeps the
    share `own` (drawn evenly between the two numbers) of itself. An image with fewer than two such keypoints stays
    as it is. Labels and targets stay as they are, also for the keypoints that were mixed.

    The paper's text gives no sizes, numbers or shares: these are ours. With `own=(0, 0)` it is SSPCM's Cut-Occlude.
    """
    count, size = min(count, keypoints.shape[1]), (image.shape[-2], image.shape[-1])
    if count == 0:
        return image
    (low, high), unit, kinds = HALF_SIZE, (size[0] * size[1]) ** 0.5, keypoints.shape[1]
    shift = random.normal(f"{name}/jitter", count, 2) * (_JITTER * unit)
    numbers = random.uniform(name, count, 4 + 2 * kinds)
    half, share = (low + (high - low) * numbers[..., :2]) * unit, own[0] + (own[1] - own[0]) * numbers[..., 2:3]
    placed = random.to_device(np.concatenate([shift, half, share, numbers[..., 4:]], -1))
    jitter, half_size, kept, order, source_order = placed.split([2, 2, 1, kinds, kinds], -1)
    neighbor, itself = partners(random)[:, None], np.arange(random.count)[:, None]
    source = random.to_device(np.where(numbers[..., 3] < others, neighbor, itself))
    there = existing(keypoints, exists, size)
    target, at = _targets(keypoints, there, order[:, 0], count)
    shift_to = (_sources(keypoints, there, source_order, target, source) - at).round()
    return blend(image, at + jitter, half_size, shift_to, source, kept[..., 0])


def _targets(keypoints: Tensor, there: Tensor, order: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index (B, R) and place (B, R, 2) of `count` keypoints that are `there` (B, K), those highest in `order` (B, K).

    Nowhere where there are too few, and all of them where there are fewer than two.
    """
    there = there & (there.sum(1, keepdim=True) > 1)
    index = torch.where(there, order, -1.0).topk(count, dim=1).indices
    known = torch.where(there[..., None], keypoints, constant(NOWHERE, keypoints.device))
    return index, known.gather(1, index[..., None].expand(-1, -1, 2))


def _sources(keypoints: Tensor, there: Tensor, order: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Place (B, R, 2) in image `source` (B, R) of the keypoint that is highest in `order` (B, R, K), among those there
    and not of the same name as `target` (B, R); nowhere if there is none."""
    names = torch.arange(keypoints.shape[1], device=keypoints.device)
    fit = there[source] & (names != target[..., None])
    index = torch.where(fit, order, -1.0).argmax(-1, keepdim=True)[..., None]
    known = torch.where(fit[..., None], keypoints[source], constant(NOWHERE, keypoints.device))
    return known.gather(2, index.expand(-1, -1, 1, 2)).squeeze(2)


def blend(image: Tensor, centers: Tensor, half: Tensor, shift: Tensor, source: Tensor, own: Tensor) -> Tensor:
    """`image` (B, 3, H, W) with R patches of itself or of others in the batch blended in.

    Patch r of image b covers the pixels in [center - half, center + half) of `centers` and `half` (B, R, 2), x first.
    Each of them keeps `own` (B, R) of itself and gets the rest from the pixel `shift` (B, R, 2; whole numbers) away
    in image `source` (B, R). Where that pixel does not exist nothing changes: near a border both patches shrink to
    what they have in common. Of patches that overlap the last one counts, and all read the unchanged images.
    """
    count, channels, height, width = image.shape
    size = constant((width, height), image.device)
    low, high = torch.maximum(centers - half, -shift), torch.minimum(centers + half, size - shift)
    index = torch.arange(max(height, width), device=image.device)
    covers = ((index >= low[..., None]) & (index < high[..., None])).to(torch.uint8)
    columns, rows = covers[:, :, 0, :width], covers[:, :, 1, :height]
    # 0 where no patch is, else the number of the last one: the column of two tables, of where to read from (counted
    # in pixels of all images one after the other) and how much to take.
    patches = constant(tuple(range(1, own.shape[1] + 1)), image.device, torch.uint8)
    number = ((rows * patches[:, None])[..., None] * columns[:, :, None]).amax(1).flatten(1).long()
    away = (shift * constant((1.0, float(width)), image.device)).sum(-1).long()
    away = away + (source - torch.arange(count, device=image.device)[:, None]) * (channels * height * width)
    away, taken = (F.pad(table, (1, 0)).gather(1, number).view(count, 1, height, width) for table in (away, 1 - own))
    place = torch.arange(image.numel(), device=image.device).view(image.shape)
    return torch.lerp(image, image.take(place + away), taken)
