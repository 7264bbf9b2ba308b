"""What a score is made of, image by image: enough to weigh the images anew without the people."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semipose.metrics.average_precision import Bools, Matches, weighted_values
from semipose.metrics.pck import Floats


@dataclass(frozen=True)
class Totals:
    """A mean over labeled keypoints, as `sums` over `counts`, both (I, K), in every image; `scale` 100 for
    percent.
    """

    sums: Floats
    counts: Floats
    scale: float = 1.0

    @classmethod
    def of(cls, values: Floats, image: NDArray[np.intp], images: int, scale: float = 1.0) -> "Totals":
        """Add up `values` (N, K), NaN where not counted, of people whose images are the rows `image` (N,)."""
        counted = ~np.isnan(values)
        sums, counts = np.zeros((2, images, values.shape[1]))
        np.add.at(sums, image, np.where(counted, values, 0))
        np.add.at(counts, image, counted)
        return cls(sums, counts, scale)

    def overall(self, weights: Floats) -> Floats:
        """Mean over all labeled keypoints (R,) when image i counts `weights[r, i]` times; NaN where there are
        none.
        """
        return self._ratio(weights @ self.sums.sum(1), weights @ self.counts.sum(1))

    def per_keypoint(self, weights: Floats) -> Floats:
        """Mean of each keypoint (R, K), NaN where nobody has it labeled."""
        return self._ratio(weights @ self.sums, weights @ self.counts)

    def _ratio(self, above: Floats, below: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return self.scale * above / below


@dataclass(frozen=True)
class Evidence:
    """What the images add to every metric; `people` is a digest of who was scored against which labels.

    `subsets` names the AP of some images alone, by which ones (I,).
    """

    people: str
    images: int
    keypoints: tuple[str, ...]
    totals: Mapping[str, Totals]
    matches: Matches
    subsets: Mapping[str, Bools] = field(default_factory=dict)

    def values(self, weights: Floats) -> dict[str, Floats]:
        """Every metric (R,) under `weights` (R, I); NaN where it has nothing to be measured on."""
        means = {name: totals.overall(weights) for name, totals in self.totals.items()}
        parts = {name: self._of_subset(name, weights) for name in self.subsets}
        return means | weighted_values(self.matches, weights) | parts

    def metric(self, name: str, weights: Floats) -> dict[str, Floats]:
        """One metric (R,) under the key "" and, for a mean over keypoints, each keypoint's under its name."""
        if name in self.subsets:
            return {"": self._of_subset(name, weights)}
        if name not in self.totals:
            return {"": weighted_values(self.matches, weights, (name,))[name]}
        each = self.totals[name].per_keypoint(weights)
        return {"": self.totals[name].overall(weights)} | dict(zip(self.keypoints, each.T, strict=True))

    def _of_subset(self, name: str, weights: Floats) -> Floats:
        return weighted_values(self.matches, weights * self.subsets[name], ("oks_ap",))["oks_ap"]

    @property
    def width(self) -> int:
        """Longest row that a resample needs, to be held in memory times the resamples of a block."""
        return max(self.images, len(self.matches.image), 1)
