"""CID's losses: focal losses of maps, and what makes people's features differ; each computes its own slope.

Autograd would keep and pass over ten maps for each, and the maps of people, one by one, are long.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.geometry import constant
from semipose.losses.per_image import Term

TEMPERATURE = 0.05
INSTANCE_FACTOR = 4.0


def focal(probability: Tensor, target: Tensor, known: Tensor, trust: Tensor | None = None) -> tuple[Term, Term]:
    """CornerNet's focal loss of maps (B, C, h, w) between 0 and 1, by the sum of the weights of its peaks, where the
    target is 1: of an image's first maps, weighed by `known`, which broadcasts to them, and times 4 of the last P * K,
    people's own, weighed by `trust` (B, P * K).

    Peaks give -ln p (1 - p)^2, other cells -ln(1 - p) p^2 (1 - target)^4.
    """
    if trust is None:
        trust = probability.new_zeros(len(probability), 0)
    loss, peaks = _Focal.apply(probability, target, known, trust)
    heatmap, instance = (Term(*each) for each in zip(loss.unbind(1), peaks.unbind(1), strict=True))
    return heatmap, instance


class _Focal(torch.autograd.Function):
    """With its slope computed on the way."""

    @staticmethod
    def forward(ctx: Any, probability: Tensor, target: Tensor, known: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
        own, first = trust.shape[1], probability.shape[1] - trust.shape[1]
        p = probability.float()
        # 1 at the peaks, else 0.
        peak = target.floor()
        share = (1 - target).square_().square_().add_(peak)
        share[:, :first].mul_(known)
        share[:, first:].mul_(trust.view(len(trust), own, 1, 1))
        # Below 0 at the peaks; without its sign the probability of what is there.
        signed = 1 - peak - p
        right = signed.abs()
        wrong = 1 - right
        peaks, low = peak.mul_(share).sum((2, 3)), right.log()
        weighed = share.mul_(wrong)
        loss = wrong.mul(low).mul_(weighed).sum((2, 3))
        # Half of it.
        slope = low.addcdiv_(wrong, right, value=-0.5).mul_(weighed).copysign_(signed)
        ctx.save_for_backward(slope)
        ctx.counts, ctx.dtype = (first, own), probability.dtype
        shares, ones = (_kinds(first, own, *each, p.device) for each in ((-1.0, -INSTANCE_FACTOR), (1.0, 1.0)))
        with torch.autocast(p.device.type, enabled=False):
            loss, peaks = loss @ shares, peaks @ ones
        ctx.mark_non_differentiable(peaks)
        return loss, peaks

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        first, own = ctx.counts
        each = gradients[0] @ _kinds(first, own, 2.0, 2 * INSTANCE_FACTOR, slope.device).mT
        return (each.view(*each.shape, 1, 1) * slope).to(ctx.dtype), None, None, None


def quality_focal(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The sum over maps between 0 and 1 of weight * (p - target)^2 * cross entropy, a scalar; `weight` broadcasts to
    them."""
    return _Quality.apply(probability, target, weight)


class _Quality(torch.autograd.Function):
    """With its slope computed on the way."""

    @staticmethod
    def forward(ctx: Any, probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        p = probability.float()
        away = p - target
        # Autocast refuses it, for what half precision would make of it.
        with torch.autocast(p.device.type, enabled=False):
            entropy = F.binary_cross_entropy(p, target, reduction="none")
        far, weighed = away.square(), weight * away
        loss = torch.mul(far, entropy).mul_(weight).sum()
        # Half of it.
        slope = entropy.addcdiv_(far, torch.addcmul(p, p, p, value=-1), value=0.5).mul_(weighed)
        ctx.save_for_backward(slope)
        ctx.dtype = probability.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (2 * gradients[0] * slope).to(ctx.dtype), None, None


def _kinds(first: int, own: int, factor: float, other: float, device: torch.device) -> Tensor:
    """(first + own, 2): what each map counts for the loss of images' maps, and for that of people's own."""
    return constant(((factor, 0.0),) * first + ((0.0, other),) * own, device)


def contrast(parameters: Tensor, weight: Tensor) -> Term:
    """How little the features `parameters` (B, P, C) of each person stand out among those of the same image, by the sum
    of the people's `weight` (B, P).

    Cross entropy of cosines / 0.05, with oneself as the answer: 0 for one alone. Only people of some weight count as
    others.
    """
    return Term(_Contrast.apply(parameters, weight), weight.sum(1))


class _Contrast(torch.autograd.Function):
    """With its slope in closed form: half of what autograd would ask of the device."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            length = torch.linalg.vector_norm(parameters.float(), dim=-1, keepdim=True).clamp_min_(1e-12)
            unit = parameters / length
            # Nobody is as good as infinitely far from everybody.
            nobody = (weight <= 0)[:, None] * -1e4
            told = torch.baddbmm(nobody, unit, unit.mT, alpha=1 / TEMPERATURE).log_softmax(-1)
        ctx.save_for_backward(unit, length, told, weight)
        ctx.dtype = parameters.dtype
        return (told.diagonal(dim1=1, dim2=2) * weight).sum(1).neg_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        unit, length, told, weight = ctx.saved_tensors
        one = told.exp()
        one.diagonal(dim1=1, dim2=2).sub_(1)
        one.mul_((gradients[0][:, None] * weight)[..., None])
        # Each cosine is of two people.
        of_unit = torch.bmm(one + one.mT, unit)
        across = torch.addcmul(of_unit, unit, (unit * of_unit).sum(-1, keepdim=True), value=-1)
        return (across / (TEMPERATURE * length)).to(ctx.dtype), None
