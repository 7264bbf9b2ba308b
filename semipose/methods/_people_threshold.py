"""From which score on a teacher's people are believed: kept with the method, computed on the device."""

from typing import Literal

import torch
from torch import Tensor, nn

from semipose.geometry import indices

Rule = Literal["matched", "mixture", "fixed"]

BINS = 100
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

    histogram: Tensor
    labeled: Tensor

    def __init__(self, rule: Rule, fixed: float) -> None:
        super().__init__()
        self.rule, self.fixed = rule, fixed
        # People per image and bin of score, and people per labeled image. Both start at 0 and are equally behind.
        self.register_buffer("histogram", torch.zeros(BINS))
        self.register_buffer("labeled", torch.zeros(1))

    def running_statistics(self) -> list[Tensor]:
        """What several processes average."""
        return [self.histogram, self.labeled]

    @torch.no_grad()
    def update(self, scores: Tensor, labeled: Tensor) -> None:
        """Count a batch: the people's `scores` (B, M) in 0..1, 0 for nobody, and how many are `labeled` (B',)."""
        index = (scores * BINS).long().clamp(0, BINS - 1)
        found = torch.zeros_like(self.histogram).scatter_add_(0, index.flatten(), (scores > 0).float().flatten())
        self.histogram.lerp_(found / len(scores), MOMENTUM)
        self.labeled.lerp_(labeled.float().mean(), MOMENTUM)

    def forward(self, sure: float) -> Tensor:
        """The threshold, a scalar in 0..1 on the device; of the rule fixed it is `sure` where `fixed` is 0."""
        if self.rule == "fixed":
            return torch.full_like(self.labeled, self.fixed or sure).squeeze()
        return (self._matched() if self.rule == "matched" else self._mixture()).squeeze()

    def _matched(self) -> Tensor:
        """Where as many people lie above as are labeled; 0 where there are not as many."""
        above = torch.cat([self.histogram.flip(0).cumsum(0).flip(0), torch.zeros_like(self.labeled)])
        # People spread evenly over their bin.
        index = ((above > self.labeled).sum(0, keepdim=True) - 1).clamp_min(0)
        more, fewer = above.gather(0, index), above.gather(0, index + 1)
        share = ((more - self.labeled) / (more - fewer).clamp_min(1e-9)).clamp(0, 1)
        return (index + share) / BINS

    def _mixture(self) -> Tensor:
        """The lowest score that the Gaussian with the higher mean explains better than the other, by EM."""
        at = (indices(BINS, self.histogram.device) + 0.5) / BINS
        weight = self.histogram / self.histogram.sum().clamp_min(1e-9)
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
