"""Matches of detections with people in, OKS-AP and AR out, for any number of times each image is counted.

AP is no mean over images, so an interval cannot come from sums. The matching, however, happens inside one
image and does not change when the image is drawn twice: it is done once, and a resample only weighs it.

Interpolated precision takes the best of what follows, so a resample's AP lies a little above the value
itself: about a third of a standard error on 700 people. Paired differences of alike models hardly feel it; AR
does not have it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semipose.metrics.pck import Floats

Bools = NDArray[np.bool_]

AREAS = ("all", "medium", "large")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# Metric: (precision or recall, area, row of THRESHOLDS or None for the mean over all of them).
METRICS: dict[str, tuple[str, str, int | None]] = {
    "oks_ap": ("precision", "all", None),
    "oks_ap50": ("precision", "all", 0),
    "oks_ap75": ("precision", "all", 5),
    "oks_apm": ("precision", "medium", None),
    "oks_apl": ("precision", "large", None),
    "oks_ar": ("recall", "all", None),
    "oks_ar50": ("recall", "all", 0),
    "oks_ar75": ("recall", "all", 5),
    "oks_arm": ("recall", "medium", None),
    "oks_arl": ("recall", "large", None),
}


@dataclass(frozen=True)
class Matches:
    """Which detections hit a person, best score first over all images; A areas, T thresholds, D detections, I
    images.

    `image` (D,) is the row of the detection's image; `hit` (A, T, D); `ignored` (A, T, D) marks detections
    that count neither as right nor as wrong; `people` (A, I) is how many people an image adds to the recall's
    denominator.
    """

    image: NDArray[np.intp]
    hit: Bools
    ignored: Bools
    people: NDArray[np.int64]


def match_image(oks: Floats, outside: Bools, ignored: Bools, crowd: Bools) -> tuple[Bools, Bools]:
    """Give each detection of one image a person, as COCO does, for every area and threshold at once.

    `oks` (d, g) with detections best score first; `outside` (A, d): the detection's area is out of range;
    `ignored` (A, g): the person is a crowd, has no labels or is out of range; `crowd` (g,). Returns hit and
    ignored (A, T, d).
    """
    areas, people = ignored.shape
    needed = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((areas, len(THRESHOLDS), people), dtype=bool)
    hit, skipped = np.zeros((2, areas, len(THRESHOLDS), len(oks)), dtype=bool)
    for d, similarity in enumerate(oks):
        possible = (free | crowd) & (similarity >= needed)
        counted = possible & ~ignored[:, None]
        # Someone to ignore is taken only where nobody who counts is near enough.
        pool = np.where(counted.any(-1, keepdims=True), counted, possible)
        # Of equally similar people COCO's loop keeps the last.
        best = people - 1 - np.argmax(np.where(pool, similarity, -1.0)[..., ::-1], axis=-1)
        found = pool.any(-1)
        taken = found[..., None] & (np.arange(people) == best[..., None])
        free &= ~taken
        skipped[..., d] = np.where(found, (taken & ignored[:, None]).any(-1), outside[:, d, None])
        hit[..., d] = found & ~skipped[..., d]
    return hit, skipped


def weighted_values(matches: Matches, weights: Floats, names: Collection[str] = tuple(METRICS)) -> dict[str, Floats]:
    """The metrics `names`, each (R,) in 0..100, when image i is counted `weights[r, i]` times; `weights` (R,
    I).

    NaN where a resample holds nobody of the area. With weights of 1 these are the evaluator's own values.
    """
    tables: dict[tuple[str, str], Floats] = {}
    for area in {METRICS[name][1] for name in names}:
        a = AREAS.index(area)
        people = weights @ matches.people[a]
        curves = [_curve(matches, a, t, weights, people) for t in range(len(THRESHOLDS))]
        tables["precision", area] = np.stack([precision for precision, _ in curves], axis=1)
        tables["recall", area] = np.stack([recall for _, recall in curves], axis=1)
    values = {}
    for name in names:
        kind, area, row = METRICS[name]
        table = tables[kind, area]
        values[name] = 100 * (table.mean(axis=1) if row is None else table[:, row])
    return values


def _curve(matches: Matches, a: int, t: int, weights: Floats, people: Floats) -> tuple[Floats, Floats]:
    """Mean interpolated precision (R,) and final recall (R,) at one area and threshold; NaN where `people` is
    0.
    """
    kept = ~matches.ignored[a, t]
    drawn = weights[:, matches.image[kept]]
    hits = np.cumsum(drawn * matches.hit[a, t, kept], axis=1)
    total = hits[:, -1] if hits.shape[1] else np.zeros(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = total / people
        if not hits.shape[1]:
            return recall * 0, recall
        precision = hits / (np.cumsum(drawn, axis=1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    needed = hits_needed(people)
    # One search over all resamples: each row of `hits` rises, and is lifted above the row before it.
    lift = np.arange(len(weights))[:, None] * (max(hits.max(), needed.max()) + 1)
    at = np.searchsorted((hits + lift).ravel(), (needed + lift).ravel()).reshape(needed.shape)
    at = np.minimum(at - np.arange(len(weights))[:, None] * hits.shape[1], hits.shape[1] - 1)
    reached = np.where(needed <= total[:, None], np.take_along_axis(envelope, at, axis=1), 0.0)
    return np.where(people > 0, reached.mean(axis=1), np.nan), recall


def hits_needed(people: Floats) -> Floats:
    """Smallest number of hits (R, 101) with hits / people >= each recall level, in the evaluator's own
    rounding.
    """
    people = np.maximum(people, 1)[:, None]
    needed = np.ceil(RECALLS * people)
    needed = np.where((needed - 1) / people >= RECALLS, needed - 1, needed)
    return np.where(needed / people < RECALLS, needed + 1, needed)
