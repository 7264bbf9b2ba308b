"""Paired differences of scores on the same people, with 95 % intervals by bootstrap over images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from semipose.errors import DataError, UsageError
from semipose.metrics.bootstrap import Interval, bootstrap
from semipose.metrics.metric import IN_PIXELS, digits, sign
from semipose.metrics.pck import Floats

if TYPE_CHECKING:
    from semipose.metrics.evidence import Evidence
    from semipose.metrics.score import Score


# With fewer images the percentile bootstrap is overconfident: where all of three images gain, every resample gains.
MIN_IMAGES = 10


@dataclass(frozen=True)
class Difference:
    """Difference a - b of two scores on the same people, with a 95 % interval.

    `value`, `low` and `high` are in the metric's unit: percentage points, or pixels for pixel_error. `per_keypoint` has
    the same three for each labeled keypoint, and is empty for OKS metrics. `helped` is "yes" or "no" (a is better, or
    worse) when the interval excludes 0 and there are at least 10 images, else "unclear".
    """

    value: float
    low: float
    high: float
    per_keypoint: dict[str, tuple[float, float, float]]
    helped: Literal["yes", "no", "unclear"]
    text: str
    metric: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Json-able dict of all fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Difference":
        """Undo `to_dict`, also where json made lists of tuples."""
        each = {name: tuple(three) for name, three in record["per_keypoint"].items()}
        return cls(**record | {"per_keypoint": each})


def difference(
    a: "Score",
    b: "Score",
    metric: str,
    *,
    seed: int = 0,
    resamples: int = 1000,
    cause: str = "the unlabeled images",
) -> Difference:
    """Compare two scores of the same people by paired bootstrap: each resample takes the same images for both.

    `cause`, for the sentence, names what a has and b lacks. Raises UsageError for a metric that one of them lacks, or a
    score that was read from a file. Raises DataError for scores of different people or labels.
    """
    return mean_difference([(a, b)], metric, seed=seed, resamples=resamples, cause=cause)


def mean_difference(
    pairs: Sequence[tuple["Score", "Score"]],
    metric: str,
    *,
    seed: int = 0,
    resamples: int = 1000,
    cause: str = "the unlabeled images",
) -> Difference:
    """Mean of a - b over `pairs` of scores of the same people, e.g. one pair for each seed.

    Each resample takes the same images for all. Raises the errors of `difference`.
    """
    evidence = [(_evidence(a, "first", metric), _evidence(b, "second", metric)) for a, b in pairs]
    first = evidence[0][0]
    for pair, both in zip(pairs, evidence, strict=True):
        for score, one in zip(pair, both, strict=True):
            if one.people != first.people:
                raise DataError(_mismatch(pairs[0][0], score))

    def gains(weights: Floats) -> dict[str, Floats]:
        each = [(a.metric(metric, weights), b.metric(metric, weights)) for a, b in evidence]
        return {name: np.mean([after[name] - before[name] for after, before in each], 0) for name in each[0][0]}

    width = max(one.width for both in evidence for one in both)
    once = gains(np.ones((1, first.images)))
    values = {name: float(gain[0]) for name, gain in once.items() if not np.isnan(gain[0])}
    spans = bootstrap(gains, first.images, resamples=resamples, seed=seed, width=width)
    value, (low, high) = values.pop(""), spans[""]
    better = (low, high) if sign(metric) > 0 else (-high, -low)
    helped = _verdict(better, first.images)
    text = _sentence(metric, value, (low, high), first.images, helped, cause)
    per_keypoint = {name: (v, *spans[name]) for name, v in values.items()}
    return Difference(value, low, high, per_keypoint, helped, text, metric, first.images)


def _evidence(score: "Score", name: str, metric: str) -> "Evidence":
    if score.evidence is None:
        raise UsageError(
            "a score read from a file has no per-image values to compare. Evaluate both models again and compare those."
        )
    if metric not in score.values:
        raise UsageError(f"the {name} score has no metric {metric!r}; its metrics are {', '.join(score.values)}.")
    return score.evidence


def _verdict(better: Interval, images: int) -> Literal["yes", "no", "unclear"]:
    low, high = better
    if images < MIN_IMAGES or low <= 0 <= high:
        return "unclear"
    return "yes" if low > 0 else "no"


def _sentence(metric: str, value: float, span: Interval, images: int, helped: str, cause: str) -> str:
    places, unit = digits(metric), " px" if metric in IN_PIXELS else ""
    # Adding 0.0 turns -0.0, which would read as a loss, into 0.0.
    gain, low, high = (f"{round(number, places) + 0.0:+.{places}f}{unit}" for number in (value, *span))
    verdict = {
        "yes": f"{cause} helped",
        "no": f"{cause} hurt",
        "unclear": f"whether {cause} helped is unclear",
    }[helped]
    if images < MIN_IMAGES:
        verdict = f"too few images to say whether {cause} helped"
    counted = "1 image" if images == 1 else f"{images} images"
    return f"{metric} {gain} (95 % interval {low} to {high}, bootstrap over {counted}): {verdict}."


def _mismatch(a: "Score", b: "Score") -> str:
    sizes = [f"{score.counts['people']} people in {score.counts['images']} images" for score in (a, b)]
    detail = "other ids, boxes, labels or sigmas" if sizes[0] == sizes[1] else "not the same people"
    return (
        f"the first score is of {sizes[0]}, the second of {sizes[1]} ({detail}). A paired comparison needs "
        "the same people, labels and order: evaluate both models on one json with the same boxes."
    )
