"""Keypoint-Mix: blend the pixels around one keypoint into those around another; batched, on the device."""

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

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels. Both keypoints are sampled among those inside of their
    image. Where `exists` (B, K) is given, it must be above 0. The source keypoint never has the target's name. With
    probability `others` it comes from the image's partner in the batch, else from the same image. A pixel keeps a share
    of itself that is uniform in the range `own`. An image with fewer than two such keypoints stays as it is. Labels and
    targets do not change, not even for the mixed keypoints.

    The paper states no sizes, numbers or shares: these are ours. With `own=(0, 0)` it is SSPCM's Cut-Occlude.
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
    known = existing(keypoints, exists, size)
    target, at = _targets(keypoints, known, order[:, 0], count)
    shift_to = (_sources(keypoints, known, source_order, target, source) - at).round()
    return blend(image, at + jitter, half_size, shift_to, source, kept[..., 0])


def _targets(keypoints: Tensor, known: Tensor, order: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index (B, R) and position (B, R, 2) of the `count` keypoints of `known` (B, K) highest in `order` (B, K).

    The position is `NOWHERE` for those missing, and for all where fewer than two are known.
    """
    known = known & (known.sum(1, keepdim=True) > 1)
    index = torch.where(known, order, -1.0).topk(count, dim=1).indices
    positions = torch.where(known[..., None], keypoints, constant(NOWHERE, keypoints.device))
    return index, positions.gather(1, index[..., None].expand(-1, -1, 2))


def _sources(keypoints: Tensor, known: Tensor, order: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Position (B, R, 2), in image `source` (B, R), of the keypoint highest in `order` (B, R, K).

    It is `known` and of another name than `target` (B, R); `NOWHERE` where there is none.
    """
    names = torch.arange(keypoints.shape[1], device=keypoints.device)
    allowed = known[source] & (names != target[..., None])
    index = torch.where(allowed, order, -1.0).argmax(-1, keepdim=True)[..., None]
    positions = torch.where(allowed[..., None], keypoints[source], constant(NOWHERE, keypoints.device))
    return positions.gather(2, index.expand(-1, -1, 1, 2)).squeeze(2)


def blend(image: Tensor, centers: Tensor, half: Tensor, shift: Tensor, source: Tensor, own: Tensor) -> Tensor:
    """Blend R patches of the same or other images of the batch into `image` (B, 3, H, W).

    Patch r of image b covers the pixels in [center - half, center + half) of `centers` and `half` (B, R, 2), x first.
    Each pixel keeps the share `own` (B, R) of itself. The rest comes from image `source` (B, R), at the offset `shift`
    (B, R, 2; whole numbers). Where that pixel does not exist nothing changes: near a border both patches shrink to
    their common area. Where patches overlap the last one counts. All are read from the unchanged images.
    """
    count, channels, height, width = image.shape
    size = constant((width, height), image.device)
    low, high = torch.maximum(centers - half, -shift), torch.minimum(centers + half, size - shift)
    index = torch.arange(max(height, width), device=image.device)
    covers = ((index >= low[..., None]) & (index < high[..., None])).to(torch.uint8)
    columns, rows = covers[:, :, 0, :width], covers[:, :, 1, :height]
    # `number` is 0 outside of all patches, else the number of the last patch. It indexes two tables: the offset to read
    # from (in the flattened batch) and the share to take.
    patches = constant(tuple(range(1, own.shape[1] + 1)), image.device, torch.uint8)
    number = ((rows * patches[:, None])[..., None] * columns[:, :, None]).amax(1).flatten(1).long()
    offset = (shift * constant((1.0, float(width)), image.device)).sum(-1).long()
    offset = offset + (source - torch.arange(count, device=image.device)[:, None]) * (channels * height * width)
    offset, taken = (
        F.pad(table, (1, 0)).gather(1, number).view(count, 1, height, width) for table in (offset, 1 - own)
    )
    position = torch.arange(image.numel(), device=image.device).view(image.shape)
    return torch.lerp(image, image.take(position + offset), taken)
