"""Adaptive convolution (DEKR, Geng et al. 2021): a 3x3 kernel whose taps are moved by an affine map per pixel.

At pixel q, the tap of displacement r_p = (y, x) samples q + A r_p + t, with A (2x2) and t (2) predicted at q.
Beyond the map the samples are 0. Sampling is `grid_sample`, which has a backward pass on every device.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semipose.geometry import constant
from semipose.networks.torchvision_loader import load_torchvision

# Displacements of the nine taps, y and x, in the kernel's order.
_TAPS = (
    (-1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
    (-1.0, 0.0, 1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 1.0),
)
# The most samples, of 4 bytes each, that are held at once.
_MAX_SAMPLES = 2**26


class AdaptiveBlock(nn.Module):
    """Adaptive convolution within each of `groups` groups of `channels`, batch norm, the input added, ReLU.

    Without `adaptive` it is an ordinary 3x3 convolution. Parameter names are those of the public checkpoints, with
    the groups' tensors one after the other along the first dimension.
    """

    def __init__(self, channels: int, groups: int, *, adaptive: bool = True) -> None:
        super().__init__()
        self.adaptive, total = adaptive, channels * groups
        if adaptive:
            self.transform_matrix_conv = nn.Conv2d(total, 4 * groups, 3, padding=1, groups=groups)
            self.translation_conv = nn.Conv2d(total, 2 * groups, 3, padding=1, groups=groups)
        self.adapt_conv = nn.Conv2d(total, total, 3, padding=1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(total)

    def initialize(self, identity: bool) -> None:
        """Initialize A and t as 0, as published, so that all taps sample the center.

        With `identity` A starts as the identity, and the block as an ordinary convolution.
        """
        self.adapt_conv.reset_parameters()
        if self.adaptive:
            for conv in (self.transform_matrix_conv, self.translation_conv):
                nn.init.zeros_(conv.weight)
                nn.init.zeros_(conv.get_parameter("bias"))
            if identity:
                with torch.no_grad():
                    self.transform_matrix_conv.get_parameter("bias").view(-1, 4)[:, ::3] = 1

    def forward(self, x: Tensor) -> Tensor:
        if self.adaptive:
            matrix, shift = self.transform_matrix_conv(x), self.translation_conv(x)
            found = adaptive_convolution(x, self.adapt_conv.weight, matrix, shift)
        else:
            found = self.adapt_conv(x)
        return F.relu(self.bn(found) + x, inplace=True)


def adaptive_convolution(x: Tensor, weight: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Convolve `x` (B, G C, H, W) within G groups by `weight` (G D, C, 3, 3) to (B, G D, H, W).

    `matrix` (B, 4 G, H, W) holds A of every group and pixel row by row, y before x. `shift` (B, 2 G, H, W) holds its t
    as y, x, in pixels of the map.

    torchvision's operator is used where it works, which is tested once. Otherwise at most 256 MB of samples are held
    at once. Where there are more, groups are computed in turn, and again in the backward pass.
    """
    if torch.compiler.is_exporting():
        # For any batch size, and with operators that every runtime has.
        return _sampled(x, weight, matrix, shift)
    groups = shift.shape[1] // 2
    operator = _operator(x.device)
    if operator is not None:
        # The operator adds the regular displacements by itself.
        apart = _displacements(matrix, shift, groups) - _taps(x)[:, :, None, None]
        found = operator(_exact(x), apart.transpose(2, 3).flatten(1, 3), _exact(weight), padding=1)
        return found.to(x.dtype)
    at_once = max(1, _MAX_SAMPLES * groups // max(1, 9 * x.numel()))
    if at_once >= groups:
        return _sampled(x, weight, matrix, shift)
    pieces = zip(
        *(
            part.split(at_once * part.shape[axis] // groups, axis)
            for part, axis in ((x, 1), (weight, 0), (matrix, 1), (shift, 1))
        ),
        strict=True,
    )
    if not torch.is_grad_enabled():
        return torch.cat([_sampled(*piece) for piece in pieces], 1)
    again = partial(checkpoint, _sampled, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([again(*piece) for piece in pieces], 1)


def _sampled(x: Tensor, weight: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Compute `adaptive_convolution` by `grid_sample`, with all samples at once."""
    (batch, _, height, width), groups = x.shape, shift.shape[1] // 2
    with torch.autocast(x.device.type, enabled=False):
        grid = _normalized(_displacements(matrix, shift, groups)).flatten(0, 1).flatten(1, 2)
        found = F.grid_sample(_exact(x).reshape(batch * groups, -1, height, width), grid, align_corners=False)
    columns = found.to(x.dtype).reshape(batch, groups, -1, height * width)
    return torch.matmul(weight.reshape(groups, -1, columns.shape[2]), columns).reshape(batch, -1, height, width)


def _displacements(matrix: Tensor, shift: Tensor, groups: int) -> Tensor:
    """Return A r_p + t of every group, axis (y, x), tap and pixel: (B, G, 2, 9, H, W)."""
    of_y, of_x = _exact(matrix).unflatten(1, (groups, 2, 2)).split(1, 3)
    along_y, along_x = _taps(of_y)[:, :, None, None]
    return of_y * along_y + of_x * along_x + _exact(shift).unflatten(1, (groups, 2, 1))


def _exact(values: Tensor) -> Tensor:
    """Convert to at least float32: positions in bfloat16 would be off by up to half a cell."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _taps(like: Tensor) -> Tensor:
    return constant(_TAPS, like.device).to(_exact(like).dtype)


def _normalized(away: Tensor) -> Tensor:
    """Convert displacements from each pixel to positions (B, G, 9, H, W, 2), x and y in -1..1, for `grid_sample`."""
    height, width = away.shape[-2:]
    rows = torch.arange(height, device=away.device, dtype=away.dtype)[:, None]
    columns = torch.arange(width, device=away.device, dtype=away.dtype)
    y, x = away.unbind(2)
    return torch.stack(((2 * (x + columns) + 1) / width - 1, (2 * (y + rows) + 1) / height - 1), -1)


@cache
def _operator(device: torch.device) -> Callable[..., Tensor] | None:
    """Return torchvision's deformable convolution where it imports and computes correctly on `device`, else None."""
    try:
        load_torchvision()
        deform_conv2d: Callable[..., Tensor] = import_module("torchvision.ops").deform_conv2d
        x, kernel = torch.arange(16.0, device=device).view(1, 1, 4, 4), torch.ones(1, 1, 3, 3, device=device)
        found = deform_conv2d(x, torch.zeros(1, 18, 4, 4, device=device), kernel, padding=1)
        right = torch.allclose(found, F.conv2d(x, kernel, padding=1))
    except Exception:  # a torchvision made for another torch fails in any of a dozen ways
        return None
    return deform_conv2d if right else None
