"""RandAugment and TrivialAugment: random color operations on whole batches, on the device.

Every operation at every level is a row of the same few numbers (`Change`), so images with different operations go
through the same arithmetic. Operations on a pixel's own level are a table of 256 entries per image and channel. Tables
are composed and applied in one gather. Only saturation, sharpness and holes need the pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.geometry import constant
from semipose.views.occlude import cover, fill_rectangles
from semipose.views.random_key import RandomKey

Policy = Literal["randaugment", "trivialaugment"]
# A `Change` for each image: its fields by name, each (B, 1, 1).
Numbers = dict[str, Tensor]

# Rec. 601 luma: the weights of red, green and blue in gray.
LUMA = (0.299, 0.587, 0.114)
# Xie et al.'s configuration: two operations, by default at magnitude 10 of 30.
OPERATIONS: dict[Policy, int] = {"randaugment": 2, "trivialaugment": 1}
STRENGTH: dict[Policy, float] = {"randaugment": 10 / 30, "trivialaugment": 1.0}
# The hole's side of 80 px on a 256x192 crop at full strength, as a share of sqrt(H * W), halved.
_HOLE = 80 / 221.7 / 2
# Added before a level is truncated to a whole one, because rounding may leave it just below.
_ABOVE = 1e-3


class Change(NamedTuple):
    """One operation as numbers; the defaults change nothing. Levels are 0..255.

    A level becomes `gain` * level + `offset` + `pull` * mean gray. With `stretch` 1 the darkest level becomes 0 and the
    brightest 255 instead; with `equalize` 1 a level becomes its rank in the histogram. It is then rounded down to a
    multiple of `step`, and inverted from `fold` on. `saturation` blends with the gray picture. `sharpening` is the
    weight of the difference of a pixel from its 3x3 mean. `hole` is half a hole's side over sqrt(H * W).
    """

    gain: float = 1.0
    offset: float = _ABOVE
    pull: float = 0.0
    stretch: float = 0.0
    equalize: float = 0.0
    step: float = 1.0
    fold: float = 256.0
    saturation: float = 1.0
    sharpening: float = 0.0
    hole: float = 0.0


def operations(level: float, sign: float) -> dict[str, Change]:
    """Xie et al.'s list and ranges at `level` 0..1 (their magnitude / 30); `sign` 1 or -1 is more or less of it."""
    factor = 1 + sign * 0.9 * level
    return {
        "autocontrast": Change(stretch=1),
        "equalize": Change(equalize=1),
        "invert": Change(fold=0),
        "posterize": Change(step=2.0 ** (8 - max(2, 6 - int(4 * level + 1e-6)))),
        "solarize": Change(fold=256 * (1 - level)),
        "solarize_add": Change(offset=110 * level + _ABOVE, fold=128),
        "color": Change(saturation=factor),
        "contrast": Change(gain=factor, pull=1 - factor),
        "brightness": Change(gain=factor),
        # Pillow's smoothing weighs the center 5 and its eight neighbors 1: 9/13 of the way to their mean.
        "sharpness": Change(sharpening=(factor - 1) * 9 / 13),
        "cutout": Change(hole=_HOLE * level),
    }


@lru_cache(maxsize=8)
def choices(policy: Policy, strength: float) -> np.ndarray:
    """Return (R, len(Change)) float32: rows from which an image's operation is sampled uniformly."""
    if policy == "randaugment":
        rows = [change for sign in (-1, 1) for change in operations(strength, sign).values()]
    else:
        levels = [operations(strength * level / 30, sign) for level in range(31) for sign in (-1, 1)]
        left_out = {"invert", "solarize_add", "cutout"}
        rows = [Change()] * len(levels)
        rows += [change for level in levels for name, change in level.items() if name not in left_out]
    return np.array(rows, np.float32)


def augment(image: Tensor, random: RandomKey, name: str, policy: Policy, strength: float | None = None) -> Tensor:
    """Change the colors of `image` (B, 3, H, W) in 0..1; the result stays there and has 256 levels at most twice.

    "randaugment" (Cubuk et al., NeurIPS 2020, in Xie et al.'s version, ICCV 2021): two operations of the eleven of
    `operations` at `strength` (magnitude / 30). "trivialaugment" (Mueller and Hutter, ICCV 2021, in MultiAugs' version,
    2024): one operation or none, at one of 31 levels up to `strength`. It has no invert, solarize-add and cutout.
    Histograms are those of the view, with the black around the crop, as in the public code.
    Differs from the paper: holes have ImageNet's mean color and a size relative to the view's.
    """
    rows = choices(policy, STRENGTH[policy] if strength is None else strength)
    chance = random.uniform(f"{name}/color", OPERATIONS[policy], 3).astype(np.float64)
    return apply(image, rows[(chance[..., 0] * len(rows)).astype(np.int64)], chance[..., 1:], bool(rows[:, -1].any()))


def apply(image: Tensor, changes: np.ndarray, places: np.ndarray, holes: bool = True) -> Tensor:
    """Apply to each `image` (B, 3, H, W) in 0..1 its one or two `changes` (B, operations, len(Change)).

    `places` (B, operations, 2) are the holes' centers as shares of the width and height; without `holes` none is cut.
    """
    height, width = image.shape[-2:]
    centers, half = places * (width, height), changes[..., -1:] * (height * width) ** 0.5
    cuts = np.concatenate([centers, half, half], -1).transpose(1, 0, 2).reshape(-1, 1, 4)
    # Operation first, then the number, then the image.
    numbers = _placed(changes.transpose(1, 2, 0)[..., None, None], image)
    slots = [dict(zip(Change._fields, part.unbind(0), strict=True)) for part in numbers.unbind(0)]
    hidden: Sequence[Tensor | None] = [None] * len(slots)
    if holes:
        center, half_size = _placed(cuts, image).split(2, -1)
        covered = cover(center - half_size, center + half_size, (height, width))
        hidden = covered.view(len(slots), -1, 1, height, width).unbind(0)
    with torch.autocast(image.device.type, enabled=False):
        image = image.float()
        if len(slots) == 2:
            image = _pixels(image, slots[0], hidden[0])
        # An operation is a table or needs the pixels: so both tables fit between the two turns of the pixels.
        image = _tables(image, slots)
        return _pixels(image, slots[-1], hidden[-1])


def _placed(numbers: np.ndarray, image: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).to(image.device, non_blocking=True)


def _pixels(image: Tensor, change: Numbers, hidden: Tensor | None) -> Tensor:
    """Saturation, sharpness and the hole that is `hidden` (B, 1, H, W); `image` is not changed itself."""
    size = (image.shape[-2], image.shape[-1])
    luma = constant((LUMA,), image.device).expand(len(image), 1, 3)
    gray = torch.bmm(luma, image.flatten(2)).view(-1, 1, *size)
    image = torch.lerp(gray, image, change["saturation"][..., None])
    # The border has no neighbors and stays, as in Pillow.
    inner = image[..., 1:-1, 1:-1]
    inner.addcmul_(inner - F.avg_pool2d(image, 3, 1), change["sharpening"][..., None])
    # Once for both, as an image has at most one of them.
    image = image.clamp_(0, 1)
    return image if hidden is None else fill_rectangles(image, hidden)


def _tables(image: Tensor, changes: Sequence[Numbers]) -> Tensor:
    """Apply all `changes` of levels in one gather."""
    level = image.flatten(2).mul(255).add_(0.5).long()
    counts = torch.zeros(*level.shape[:2], 256, device=image.device)
    histogram = counts.scatter_add(2, level, constant((1.0,), image.device).expand(level.shape))
    table = _table(histogram, changes[0], level.shape[-1])
    for change in changes[1:]:
        index = table.long()
        table = _table(counts.scatter_add(2, index, histogram), change, level.shape[-1]).gather(2, index)
    return (table / 255).gather(2, level).view(image.shape)


def _table(histogram: Tensor, change: Numbers, pixels: int) -> Tensor:
    """Return the new value (B, 3, 256) of each level, for images of `pixels` pixels and a `histogram` (B, 3, 256)."""
    level = torch.arange(256, device=histogram.device)
    below = histogram.cumsum(-1)
    unfinished = below < pixels
    darkest = (below == 0).sum(-1, keepdim=True)
    span = unfinished.sum(-1, keepdim=True) - darkest
    stretched = (change["stretch"] * span) > 0
    gain = torch.where(stretched, 255 / span, change["gain"])
    gray = constant(tuple((share / pixels,) for share in LUMA), histogram.device)
    mean = ((histogram * level).sum(-1, keepdim=True) * gray).sum(1, keepdim=True)
    offset = torch.addcmul(change["offset"], change["pull"], mean)
    straight = torch.addcmul(offset, gain, level - darkest * stretched)
    # Equalize: as many pixels for every level; those of the brightest do not count (as in Pillow).
    share = torch.div((below * unfinished).amax(-1, keepdim=True), 255, rounding_mode="floor")
    place = (below - histogram + torch.div(share, 2, rounding_mode="floor")) / share
    curve = torch.where((change["equalize"] * share) > 0, place, straight).clamp(0, 255).floor()
    curve = curve - curve.remainder(change["step"])
    return torch.where(curve >= change["fold"], 255 - curve, curve)
