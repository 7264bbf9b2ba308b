"""Losses between maps: plain functions on tensors."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from semipose.fields import Fields


def heatmap_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """0.5 * mean over all B * K * h * w cells of (weight * (predicted - target))^2, as a scalar.

    `predicted` and `target` (B, K, h, w); `weight` broadcasts to them and is in 0..1. Cells of weight 0 count in
    the mean, and a weight between 0 and 1 acts squared, as in the field's public code (JointsMSELoss).
    """
    return 0.5 * F.mse_loss(weight * predicted.float(), weight * target.float())


def squared_error(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over all cells of weight * (predicted - target)^2, as a scalar; unlike above the weight is not squared.

    `predicted` and `target` (B, C, h, w); `weight` broadcasts to them.
    """
    return (weight * (predicted.float() - target).square()).mean()


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum one or more scalars, one by one: stacking them would cost a backward pass."""
    first, *rest = losses.values()
    return sum(rest, start=first)


def field_loss(predicted: Fields, target: Fields, weight: Tensor) -> Tensor:
    """Sum `heatmap_loss` over the scalar maps that both sides have."""
    shared = [name for name, field in target.items() if field.kind == "scalar" and name in predicted]
    if not shared:
        raise ValueError(f"nothing to compare: predicted {sorted(predicted)}, target {sorted(target)}")
    return sum(
        (heatmap_loss(predicted[name].maps, target[name].maps, weight) for name in shared[1:]),
        start=heatmap_loss(predicted[shared[0]].maps, target[shared[0]].maps, weight),
    )
