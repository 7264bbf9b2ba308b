"""Color changes of whole batches on the device."""

import torch
from torch import Tensor

from semipose.views.draw import Draw

# Rec. 601 luma: what a gray picture keeps of red, green and blue.
_LUMA = (0.299, 0.587, 0.114)


def jitter(image: Tensor, draw: Draw, name: str, strength: float) -> Tensor:
    """Change brightness, contrast, saturation and color cast of `image` (B, 3, H, W) in 0..1; the result stays there.

    All four are linear in the color, so each image gets one 3x3 matrix and one offset. `strength` 0 changes nothing;
    at 0.4 brightness, contrast and saturation lie in 0.6..1.4 and each channel's gain in 0.9..1.1.
    """
    if strength == 0:
        return image
    change = (draw.uniform(f"{name}/color", 6) * 2 - 1) * strength
    brightness, contrast, saturation = (1 + change[:, :3]).unbind(-1)
    gain = 1 + 0.25 * change[:, 3:]
    luma = torch.stack([torch.full_like(brightness, share) for share in _LUMA], -1)
    gray = luma[:, None, :].expand(-1, 3, -1)
    color = torch.lerp(gray, _identity(image), saturation[:, None, None])
    matrix = color * (brightness * contrast)[:, None, None] * gain[:, :, None]
    # Contrast turns around middle gray; the exact image mean would cost a pass over the image.
    offset = ((1 - contrast) * 0.5)[:, None] * gain
    changed = torch.baddbmm(offset[:, :, None], matrix, image.flatten(2)).view_as(image)
    return changed.clamp_(0, 1)


def _identity(image: Tensor) -> Tensor:
    return torch.eye(3, device=image.device, dtype=image.dtype).expand(len(image), 3, 3)
