"""CID's losses: focal losses of probability maps, and a contrastive loss between the people of an image."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.05


def focal(probability: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """CornerNet's focal loss of maps (B, C, h, w) and the weight of their peaks, both summed over all cells: scalars.

    Peaks, where the target is 1, give -ln p (1 - p)^2, other cells -ln(1 - p) p^2 (1 - target)^4. `weight` broadcasts
    to the maps.
    """
    p, peak = probability.float(), target == 1
    # Predicted probability of the true class of a cell: peak or no peak.
    right = torch.where(peak, p, 1 - p)
    # Squared twice: a general power is slow on a CPU.
    weight = weight * torch.where(peak, 1, (1 - target).square().square())
    return (weight * (1 - right).square() * -right.log()).sum(), (weight * peak).sum()


def quality_focal(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum over all cells of weight * (p - target)^2 * cross entropy, a scalar; `weight` broadcasts to the maps."""
    p = probability.float()
    # Autocast refuses F.binary_cross_entropy.
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    return (weight * (p - target) ** 2 * entropy).sum()


def contrast(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Contrastive loss of people's `features` (B, P, C) and the people's `weight` (B, P), both summed: scalars.

    Cross entropy of cosines / 0.05: of all people in an image with a weight above 0, each should be most similar to
    themselves. One person alone has loss 0.
    """
    with torch.autocast(weight.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        similarity = unit @ unit.mT / TEMPERATURE + torch.where(weight > 0, 0.0, -1e4)[:, None]
        loss = -similarity.log_softmax(-1).diagonal(dim1=1, dim2=2)
    return (loss * weight).sum(), weight.sum()
