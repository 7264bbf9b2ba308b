"""Rectangles cut out of images: batched, placed by keypoints or anywhere."""

import torch
from torch import Tensor

from semipose.views.draw import Draw

# ImageNet's mean color: what the papers' zero after normalization looks like.
FILL = (0.485, 0.456, 0.406)
# Half sizes of 10..19 px and a jitter of 10 px on a 256x192 crop (Xie et al. 2021), as shares of sqrt(H * W), so that
# a small input loses the same part of the person.
_HALF_SIZE = (10 / 221.7, 20 / 221.7)
_JITTER = 10 / 221.7


def joint_cutout(image: Tensor, keypoints: Tensor, draw: Draw, name: str, count: int = 5) -> Tensor:
    """Cut `count` rectangles around keypoints drawn with replacement (Joint Cutout of Xie et al. 2021).

    `image` (B, 3, H, W), `keypoints` (B, K, 2) in its pixels. Differs from the paper's code: rows and columns are
    not exchanged when clamping, only keypoints that exist are drawn, and sizes follow the input's.
    """
    chosen = (draw.uniform(f"{name}/joints", count) * keypoints.shape[1]).long()
    centers = keypoints.gather(1, chosen[..., None].expand(-1, -1, 2))
    unit = (image.shape[-1] * image.shape[-2]) ** 0.5
    centers = centers + draw.normal(f"{name}/jitter", count, 2) * (_JITTER * unit)
    return _cut(image, centers, _half_sizes(draw, name, count, unit))


def cutout(image: Tensor, draw: Draw, name: str, count: int = 5) -> Tensor:
    """Cut `count` rectangles with centers anywhere in `image` (B, 3, H, W) (DeVries and Taylor 2017)."""
    height, width = image.shape[-2:]
    where = draw.uniform(f"{name}/centers", count, 2)
    centers = torch.stack([where[..., 0] * (width - 1), where[..., 1] * (height - 1)], -1)
    return _cut(image, centers, _half_sizes(draw, name, count, (height * width) ** 0.5))


def _half_sizes(draw: Draw, name: str, count: int, unit: float) -> Tensor:
    low, high = _HALF_SIZE
    return (low + (high - low) * draw.uniform(f"{name}/sizes", count, 2)) * unit


def _cut(image: Tensor, centers: Tensor, half: Tensor) -> Tensor:
    """Fill rectangles, given by `centers` and `half` sizes (B, R, 2) as x, y in pixels, with the mean color."""
    covered = cover(centers, half, (image.shape[-2], image.shape[-1]))[:, None]
    fill = torch.tensor(FILL, dtype=image.dtype).to(image.device, non_blocking=True)[:, None, None]
    return torch.where(covered, fill, image)


def cover(centers: Tensor, half: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) bool: the pixel's center lies in one of the rectangles (B, R, 2); x first."""
    columns = _between(centers[..., 0], half[..., 0], size[1])
    rows = _between(centers[..., 1], half[..., 1], size[0])
    # A pixel is covered when some rectangle has both its row and its column: one product instead of R masks.
    with torch.autocast(centers.device.type, enabled=False):
        return torch.bmm(rows.mT, columns) > 0.5


def _between(center: Tensor, half: Tensor, length: int) -> Tensor:
    """(B, R, length) float 0/1: index lies in [center - half, center + half)."""
    index = torch.arange(length, device=center.device, dtype=torch.float32)
    low, high = (center - half)[..., None], (center + half)[..., None]
    return ((index >= low) & (index < high)).float()
