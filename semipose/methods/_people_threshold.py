"""Score threshold for pseudo people: kept with the method, computed on the device."""

from typing import Literal

import torch
from torch import Tensor, nn

from semipose.geometry import constant

Rule = Literal["matched", "mixture", "fixed"]

BINS = 500
# Lower ends of the bins, half a bin above 0 so that rounding a score to a bin has no bias. The last bin holds scores
# above 1.
_BIN_STARTS = (*((end + 0.5) / BINS for end in range(BINS)), torch.inf)
# Momentum of the running statistics: about the last hundred batches count.
MOMENTUM = 0.01
# Steps of the mixture's fit by EM, and the smallest standard deviation of its Gaussians.
_EM_STEPS, _MIN_DEVIATION = 10, 0.02


class PeopleThreshold(nn.Module):
    """Score from which on people of unlabeled images are pseudo-labels, by the histogram of recent scores.

    - "matched" keeps as many people per image as labeled images have; for images of the same source.
    - "mixture" keeps people that the higher of two Gaussians explains better; for images of other sources.
    - "fixed" keeps people with a score of at least `fixed`.

    Statistics are linear in the batches, so that processes can average them.
    """

    above: Tensor
    labeled: Tensor

    def __init__(self, rule: Rule, fixed: float) -> None:
        super().__init__()
        self.rule, self.fixed = rule, fixed
        # People per image with a score above each bin's lower end (the last is 0), and people per labeled image.
        # Both averages start at 0 and lag equally.
        self.register_buffer("above", torch.zeros(BINS + 1))
        self.register_buffer("labeled", torch.zeros(1))

    def running_statistics(self) -> list[Tensor]:
        """Statistics that processes average."""
        return [self.above, self.labeled]

    @torch.no_grad()
    def update(self, scores: Tensor, labeled: float) -> None:
        """Add a batch: `scores` (B, M) in 0..1, 0 for padding, and the number of people per `labeled` image."""
        above = (scores[..., None] > constant(_BIN_STARTS, scores.device)).sum((0, 1), dtype=self.above.dtype)
        self.above.mul_(1 - MOMENTUM).add_(above, alpha=MOMENTUM / len(scores))
        self.labeled.mul_(1 - MOMENTUM).add_(MOMENTUM * labeled)

    def forward(self, confident_score: float) -> Tensor:
        """Threshold, a scalar in 0..1 on the device; with the rule fixed, `fixed` or, if 0, `confident_score`."""
        if self.rule == "fixed":
            return torch.full_like(self.labeled, self.fixed or confident_score).squeeze()
        return (self._matched() if self.rule == "matched" else self._mixture()).squeeze()

    def _matched(self) -> Tensor:
        """Score that as many people exceed as are labeled, in whole bins; 0 if there are too few people."""
        return (self.above[:-1] >= self.labeled).mean(dtype=self.above.dtype)

    def _mixture(self) -> Tensor:
        """Lowest score that the Gaussian with the higher mean explains better than the other, by EM."""
        score = torch.arange(1, BINS + 1, device=self.above.device) / BINS
        weight = (self.above[:-1] - self.above[1:]) / self.above[0].clamp_min(1e-9)
        middle = (weight * score).sum()
        spread = (weight * (score - middle).square()).sum().sqrt().clamp_min(_MIN_DEVIATION)
        means = torch.stack([middle - spread, middle + spread])
        deviations, shares = spread.expand(2), torch.full_like(means, 0.5)
        for _ in range(_EM_STEPS):
            belongs = _densities(score, means, deviations, shares).softmax(0) * weight
            total = belongs.sum(1).clamp_min(1e-9)
            means = (belongs * score).sum(1) / total
            away = score - means[:, None]
            deviations = ((belongs * away.square()).sum(1) / total).sqrt().clamp_min(_MIN_DEVIATION)
            shares = total
        low, high = _densities(score, means, deviations, shares).unbind(0)
        # Far below both means, the wider Gaussian may become the likelier one again.
        confident = (high > low) & (score > means.amin())
        return torch.where(confident, score, torch.ones_like(score)).amin()


def _densities(score: Tensor, means: Tensor, deviations: Tensor, shares: Tensor) -> Tensor:
    """Logarithms (2, n) of two weighted Gaussians at the scores `score` (n,), up to a constant."""
    away = (score - means[:, None]) / deviations[:, None]
    return shares.clamp_min(1e-9).log()[:, None] - deviations.log()[:, None] - 0.5 * away.square()
