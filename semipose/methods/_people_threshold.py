"""From which score on a teacher's people are believed: kept with the method, computed on the device."""

from typing import Literal

import torch
from torch import Tensor, nn

from semipose.geometry import constant

Rule = Literal["matched", "mixture", "fixed"]

BINS = 500
# Where bins begin, half of one above 0, so that their number is neither too high nor too low; scores above 1 are in the
# last.
_ENDS = (*((end + 0.5) / BINS for end in range(BINS)), torch.inf)
# Of the running statistics: about the last hundred batches count.
MOMENTUM = 0.01
# Steps of the mixture's fit, and the narrowest of its Gaussians.
_STEPS, _NARROWEST = 10, 0.02


class PeopleThreshold(nn.Module):
    """The score above which people of unlabeled images are pseudo-labels, by the histogram of recent scores.

    "matched" keeps as many people per image as labeled images have (for images of one source), "mixture" those that
    the higher of two Gaussians explains better (for others), "fixed" those of at least `fixed`. Statistics are linear
    in the batches, so that processes can average them.
    """

    above: Tensor
    labeled: Tensor

    def __init__(self, rule: Rule, fixed: float) -> None:
        super().__init__()
        self.rule, self.fixed = rule, fixed
        # People per image with scores above where each bin begins (and, last, nobody), and people per labeled image.
        # Both start at 0 and are equally behind.
        self.register_buffer("above", torch.zeros(BINS + 1))
        self.register_buffer("labeled", torch.zeros(1))

    def running_statistics(self) -> list[Tensor]:
        """What several processes average."""
        return [self.above, self.labeled]

    @torch.no_grad()
    def update(self, scores: Tensor, labeled: float) -> None:
        """Count a batch: the people's `scores` (B, M) in 0..1, 0 for nobody, and how many an image has `labeled`."""
        above = (scores[..., None] > constant(_ENDS, scores.device)).sum((0, 1), dtype=self.above.dtype)
        self.above.mul_(1 - MOMENTUM).add_(above, alpha=MOMENTUM / len(scores))
        self.labeled.mul_(1 - MOMENTUM).add_(MOMENTUM * labeled)

    def forward(self, sure: float) -> Tensor:
        """The threshold, a scalar in 0..1 on the device; of the rule fixed it is `sure` where `fixed` is 0."""
        if self.rule == "fixed":
            return torch.full_like(self.labeled, self.fixed or sure).squeeze()
        return (self._matched() if self.rule == "matched" else self._mixture()).squeeze()

    def _matched(self) -> Tensor:
        """Where as many people lie above as are labeled, in whole bins; 0 where there are not as many at all."""
        return (self.above[:-1] >= self.labeled).mean(dtype=self.above.dtype)

    def _mixture(self) -> Tensor:
        """The lowest score that the Gaussian with the higher mean explains better than the other, by EM."""
        at = torch.arange(1, BINS + 1, device=self.above.device) / BINS
        weight = (self.above[:-1] - self.above[1:]) / self.above[0].clamp_min(1e-9)
        middle = (weight * at).sum()
        spread = (weight * (at - middle).square()).sum().sqrt().clamp_min(_NARROWEST)
        means = torch.stack([middle - spread, middle + spread])
        deviations, shares = spread.expand(2), torch.full_like(means, 0.5)
        for _ in range(_STEPS):
            belongs = _densities(at, means, deviations, shares).softmax(0) * weight
            total = belongs.sum(1).clamp_min(1e-9)
            means = (belongs * at).sum(1) / total
            away = at - means[:, None]
            deviations = ((belongs * away.square()).sum(1) / total).sqrt().clamp_min(_NARROWEST)
            shares = total
        low, high = _densities(at, means, deviations, shares).unbind(0)
        # Far below both means the wider of the two may be the likelier one again.
        sure = (high > low) & (at > means.amin())
        return torch.where(sure, at, torch.ones_like(at)).amin()


def _densities(at: Tensor, means: Tensor, deviations: Tensor, shares: Tensor) -> Tensor:
    """Logarithms (2, n) of two weighted Gaussians at the scores `at` (n,), up to a constant."""
    away = (at - means[:, None]) / deviations[:, None]
    return shares.clamp_min(1e-9).log()[:, None] - deviations.log()[:, None] - 0.5 * away.square()
