"""Scores in, 95 % intervals out: bootstrap over images, so people of one image are drawn or left out
together.
"""

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


# With fewer images the percentile bootstrap is far too sure of itself: of three images that all happen to
# gain, every resample gains.
FEWEST_IMAGES = 10


@dataclass(frozen=True)
class Difference:
    """How far score a lies above score b on the same people, with a 95 % interval.

    `value`, `low`, `high` are a - b in the metric's unit (percentage points, or pixels for pixel_error);
    `per_keypoint` has the same three of each labeled keypoint, and is empty for OKS metrics. `helped` says
    whether a is better: "yes" or "no" when the interval leaves out 0 and there are at least 10 images, else
    "unclear".
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
        """A dict that json can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Difference":
        """Undo `to_dict`, also after json turned tuples into lists."""
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
    """Compare two scores of the same people: each resample draws the same images for both (paired bootstrap).

    `cause` is what a has and b lacks, for the sentence. Raises UsageError for a metric that one of them lacks
    or a score that was read from a file, DataError when they are scores of different people or labels.
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
    """The mean of a - b over `pairs` of scores, all of the same people, such as a pair for each random start.

    Each resample draws the same images for all. Raises what `difference` does.
    """
    known = [(_evidence(a, "first", metric), _evidence(b, "second", metric)) for a, b in pairs]
    first = known[0][0]
    for pair, found in zip(pairs, known, strict=True):
        for score, evidence in zip(pair, found, strict=True):
            if evidence.people != first.people:
                raise DataError(_unlike(pairs[0][0], score))

    def gains(weights: Floats) -> dict[str, Floats]:
        each = [(a.metric(metric, weights), b.metric(metric, weights)) for a, b in known]
        return {name: np.mean([after[name] - before[name] for after, before in each], 0) for name in each[0][0]}

    width = max(evidence.width for pair in known for evidence in pair)
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
            "a score read from a file has no per-image values to pair; evaluate both models again and compare those."
        )
    if metric not in score.values:
        raise UsageError(f"the {name} score has no {metric!r}; it has {', '.join(score.values)}.")
    return score.evidence


def _verdict(better: Interval, images: int) -> Literal["yes", "no", "unclear"]:
    low, high = better
    if images < FEWEST_IMAGES or low <= 0 <= high:
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
    if images < FEWEST_IMAGES:
        verdict = f"too few images to say whether {cause} helped"
    drawn = "1 image" if images == 1 else f"{images} images"
    return f"{metric} {gain} (95 % interval {low} to {high}, bootstrap over {drawn}): {verdict}."


def _unlike(a: "Score", b: "Score") -> str:
    found = [f"{score.counts['people']} people in {score.counts['images']} images" for score in (a, b)]
    detail = "other ids, boxes, labels or sigmas" if found[0] == found[1] else "not the same people"
    return (
        f"the first score is of {found[0]}, the second of {found[1]} ({detail}); a paired comparison needs "
        "the same people, labels and order: evaluate both models on one json with the same boxes."
    )
