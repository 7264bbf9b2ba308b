"""Per-image parts of a score, from which every metric can be computed again under other weights of the images."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from semipose.metrics.average_precision import Bools, Matches, weighted_values
from semipose.metrics.pck import Floats


@dataclass(frozen=True)
class Totals:
    """Per-image parts of a mean over labeled keypoints: `scale` x `sums` / `counts`, both (I, K)."""

    sums: Floats
    counts: Floats
    scale: float = 1.0

    @classmethod
    def of(cls, values: Floats, image: NDArray[np.intp], images: int, scale: float = 1.0) -> "Totals":
        """Sum `values` (N, K) by image; `image` (N,) is each person's row, and NaN is not counted."""
        counted = ~np.isnan(values)
        sums, counts = np.zeros((2, images, values.shape[1]))
        np.add.at(sums, image, np.where(counted, values, 0))
        np.add.at(counts, image, counted)
        return cls(sums, counts, scale)

    def overall(self, weights: Floats) -> Floats:
        """Mean over all labeled keypoints (R,) with image i counted `weights[r, i]` times; NaN without any."""
        return self._ratio(weights @ self.sums.sum(1), weights @ self.counts.sum(1))

    def per_keypoint(self, weights: Floats) -> Floats:
        """Mean of each keypoint (R, K); NaN where no person has it labeled."""
        return self._ratio(weights @ self.sums, weights @ self.counts)

    def _ratio(self, sums: Floats, counts: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return self.scale * sums / counts


@dataclass(frozen=True)
class Evidence:
    """Parts of every metric by image. `people` is a digest of the people and labels that were scored.

    `subsets` maps the name of an AP over some images only to their mask (I,).
    """

    people: str
    images: int
    keypoints: tuple[str, ...]
    totals: Mapping[str, Totals]
    matches: Matches
    subsets: Mapping[str, Bools] = field(default_factory=dict)

    def values(self, weights: Floats) -> dict[str, Floats]:
        """Every metric (R,) under `weights` (R, I); NaN where it cannot be measured."""
        means = {name: totals.overall(weights) for name, totals in self.totals.items()}
        parts = {name: self._of_subset(name, weights) for name in self.subsets}
        return means | weighted_values(self.matches, weights) | parts

    def metric(self, name: str, weights: Floats) -> dict[str, Floats]:
        """One metric (R,) under the key "", and under its name each keypoint's where the metric has them."""
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
        """Length of the longest array that one resample needs."""
        return max(self.images, len(self.matches.image), 1)
