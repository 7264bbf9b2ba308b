"""OKS-AP and AR from matches of detections with people, under any weighting of the images.

AP is not a mean over images, so its interval cannot come from sums. But matching happens inside one image: it is done
once, and a bootstrap resample only changes the images' weights.

The AP of a resample is biased upward, because interpolated precision is a maximum: by about a third of a standard
error on 700 people. Paired differences of similar models hardly change, and AR has no such bias.
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
    """Detections of all images, best score first, and which of them hit a person.

    With A areas, T thresholds, D detections and I images:

    - `image` (D,): the row of the detection's image
    - `hit` (A, T, D): true positives
    - `ignored` (A, T, D): detections that count neither as true nor as false positives
    - `people` (A, I): people of the image in the recall's denominator
    """

    image: NDArray[np.intp]
    hit: Bools
    ignored: Bools
    people: NDArray[np.int64]


def match_image(oks: Floats, outside: Bools, ignored: Bools, crowd: Bools) -> tuple[Bools, Bools]:
    """Match the detections of one image with its people, as COCO does, for every area and threshold at once.

    `oks` (d, g), detections in order of falling score; `outside` (A, d): detections whose area is out of range.
    `ignored` (A, g): people who are crowds, have no labels or are out of range; `crowd` (g,). Returns hit and ignored
    (A, T, d).
    """
    areas, people = ignored.shape
    needed = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((areas, len(THRESHOLDS), people), dtype=bool)
    hit, skipped = np.zeros((2, areas, len(THRESHOLDS), len(oks)), dtype=bool)
    for d, similarity in enumerate(oks):
        possible = (free | crowd) & (similarity >= needed)
        counted = possible & ~ignored[:, None]
        # An ignored person is taken only where no counted one is similar enough.
        pool = np.where(counted.any(-1, keepdims=True), counted, possible)
        # Of equally similar people COCO's loop keeps the last.
        best = people - 1 - np.argmax(np.where(pool, similarity, -1.0)[..., ::-1], axis=-1)
        matched = pool.any(-1)
        taken = matched[..., None] & (np.arange(people) == best[..., None])
        free &= ~taken
        skipped[..., d] = np.where(matched, (taken & ignored[:, None]).any(-1), outside[:, d, None])
        hit[..., d] = matched & ~skipped[..., d]
    return hit, skipped


def weighted_values(matches: Matches, weights: Floats, names: Collection[str] = tuple(METRICS)) -> dict[str, Floats]:
    """Return the metrics `names`, each (R,) in 0..100, with image i counted `weights[r, i]` times.

    `weights` is (R, I). NaN where a resample has no person of the area. Weights of 1 give the evaluator's own values.
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
    """Return mean interpolated precision (R,) and final recall (R,) at one area and threshold.

    NaN where `people` is 0.
    """
    kept = ~matches.ignored[a, t]
    detections = weights[:, matches.image[kept]]
    hits = np.cumsum(detections * matches.hit[a, t, kept], axis=1)
    total = hits[:, -1] if hits.shape[1] else np.zeros(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = total / people
        if not hits.shape[1]:
            return recall * 0, recall
        precision = hits / (np.cumsum(detections, axis=1) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    needed = hits_needed(people)
    # One search for all resamples: rows of `hits` rise, and an offset puts each row above the one before it.
    offset = np.arange(len(weights))[:, None] * (max(hits.max(), needed.max()) + 1)
    rank = np.searchsorted((hits + offset).ravel(), (needed + offset).ravel()).reshape(needed.shape)
    rank = np.minimum(rank - np.arange(len(weights))[:, None] * hits.shape[1], hits.shape[1] - 1)
    reached = np.where(needed <= total[:, None], np.take_along_axis(envelope, rank, axis=1), 0.0)
    return np.where(people > 0, reached.mean(axis=1), np.nan), recall


def hits_needed(people: Floats) -> Floats:
    """Smallest number of hits (R, 101) with hits / people >= each recall level, with the evaluator's rounding."""
    people = np.maximum(people, 1)[:, None]
    needed = np.ceil(RECALLS * people)
    needed = np.where((needed - 1) / people >= RECALLS, needed - 1, needed)
    return np.where(needed / people < RECALLS, needed + 1, needed)
