"""Losses of a batch image by image, so that labels and pseudo people are learned in one go and told apart after."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from semipose.geometry import constant


class Term(NamedTuple):
    """What each image adds to one loss: `total` (B,), and to what that is divided by, `divisor` (B,); None: 1 each."""

    total: Tensor
    divisor: Tensor | None = None


def by_parts(
    terms: Mapping[str, Term], parts: Sequence[int], factors: Sequence[float] = (1.0,)
) -> list[dict[str, Tensor]]:
    """For each of the `parts`, numbers of images one after the other, its losses times its factor: scalars, 0 where
    nothing counts."""
    losses, weights = _sums([term.total for term in terms.values()], parts), list(factors)
    if any(term.divisor is not None for term in terms.values()):
        one = constant((1.0,) * sum(parts), losses.device)
        divisors = _sums([one if term.divisor is None else term.divisor for term in terms.values()], parts)
        losses = losses / divisors.clamp_min_(1)
    else:
        weights = [factor / count for factor, count in zip(factors, parts, strict=True)]
    weighed = [of if weight == 1 else of * weight for of, weight in zip(losses.unbind(1), weights, strict=True)]
    return [dict(zip(terms, each.unbind(), strict=True)) for each in weighed]


def whole(terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """The losses of all images together: scalars."""
    return by_parts(terms, [len(next(iter(terms.values())).total)])[0]


def squared_error(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(B,) mean over each image's cells of weight * (predicted - target)^2; the weight is not squared here.

    Maps (B, C, h, w), to which `weight` broadcasts.
    """
    return _SquaredError.apply(predicted, target, weight)


class _SquaredError(torch.autograd.Function):
    """With one pass over the maps on the way back, where autograd's own has one for each operation."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        away = predicted.float() - target
        weighted = weight * away
        ctx.save_for_backward(weighted)
        ctx.dtype = predicted.dtype
        return (weighted * away).mean((1, 2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weighted,) = ctx.saved_tensors
        factor = (gradients[0] * (2 * len(weighted) / weighted.numel())).view(-1, 1, 1, 1)
        return (factor * weighted).to(ctx.dtype), None, None


def _sums(each: Sequence[Tensor], parts: Sequence[int]) -> Tensor:
    """(n, parts) of n rows (B,) the sum over every part."""
    rows = torch.stack(list(each))
    if len(set(parts)) == 1:
        return rows.unflatten(1, (len(parts), -1)).sum(2)
    return torch.stack([part.sum(1) for part in rows.split(list(parts), 1)], 1)
