"""Color augmentation of whole batches, on the device."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from semipose.views.policies import LUMA, augment
from semipose.views.random_key import RandomKey

Color = Literal["jitter", "randaugment", "trivialaugment", "none"]

# Default strength of the jitter.
_JITTER = 0.4


def recolor(image: Tensor, random: RandomKey, name: str, color: Color, strength: float | None = None) -> Tensor:
    """Change the colors of `image` (B, 3, H, W) in 0..1 by policy `color`; `strength` 0..1, None for its default."""
    if color == "none":
        return image
    if color == "jitter":
        return jitter(image, random, name, _JITTER if strength is None else strength)
    return augment(image, random, name, color, strength)


def jitter(image: Tensor, random: RandomKey, name: str, strength: float) -> Tensor:
    """Change brightness, contrast, saturation and color cast of `image` (B, 3, H, W) in 0..1; the result stays there.

    All four are linear in the color, so each image gets one 3x3 matrix and one offset. `strength` 0 changes nothing;
    at 0.4 brightness, contrast and saturation are in 0.6..1.4 and each channel's gain in 0.9..1.1.
    """
    if strength == 0:
        return image
    change = (random.uniform(f"{name}/color", 6) * 2 - 1) * strength
    brightness, contrast, saturation = (1 + change[:, :3]).T
    gain = 1 + 0.25 * change[:, 3:]
    gray = np.array(LUMA, np.float32)
    color = gray + (np.eye(3, dtype=np.float32) - gray) * saturation[:, None, None]
    matrix = color * (brightness * contrast)[:, None, None] * gain[:, :, None]
    # Contrast turns around middle gray; the exact image mean would cost a pass over the image.
    offset = ((1 - contrast) * 0.5)[:, None] * gain
    matrix, offset = random.to_device(np.concatenate([matrix, offset[:, :, None]], -1)).split([3, 1], -1)
    with torch.autocast(image.device.type, enabled=False):
        changed = torch.baddbmm(offset, matrix, image.float().flatten(2)).view_as(image)
    return changed.clamp_(0, 1)
