"""Scores of top-down predictions: PCK, pixel error and OKS-AP with intervals.

The people's boxes are given, so row n of predictions and truth is the same person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError
from semipose.metrics.bootstrap import Interval, bootstrap
from semipose.metrics.evidence import Evidence, Totals
from semipose.metrics.oks import read_matches, read_values, run_evaluator
from semipose.metrics.pck import Floats, box_side, distances, torso_length, within
from semipose.metrics.truth import areas_of, digest_of, to_coco
from semipose.pose.poses import AREA_SHARE, Poses
from semipose.pose.skeleton import Skeleton

BOX_FRACTIONS = (0.05, 0.1, 0.2)
TORSO_FRACTIONS = (0.1, 0.2)
MAX_PER_IMAGE = 20


@dataclass(frozen=True)
class Score:
    """Metrics of a set of predictions. Percentages are 0..100, pixel_error is in image pixels.

    - `values` by metric
    - `per_keypoint` by metric, then by keypoint name
    - `intervals` (low, high), 95 %, by metric
    - `counts`: people, keypoints, images, people_without_torso, people_without_labels, crowds
    - `notes`: references of the metrics, and people left out
    - `evidence`: per-image values for `difference`; not saved

    Metrics that cannot be measured are absent.
    """

    values: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    counts: dict[str, int]
    notes: list[str]
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Json-able dict, without the evidence."""
        return {
            "values": dict(self.values),
            "per_keypoint": {metric: dict(each) for metric, each in self.per_keypoint.items()},
            "intervals": {metric: list(span) for metric, span in self.intervals.items()},
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Score":
        """Undo `to_dict`; without evidence, the score cannot be compared image by image."""
        spans = {metric: (float(low), float(high)) for metric, (low, high) in record["intervals"].items()}
        return cls(record["values"], record["per_keypoint"], spans, record["counts"], record["notes"])


def score(predicted: Poses, truth: Poses, skeleton: Skeleton, *, seed: int = 0, resamples: int = 1000) -> Score:
    """Score predictions for the people of `truth`, row by row.

    Keys: pck@0.05, pck@0.1, pck@0.2 (of the box's longer side), pck_torso@0.1, pck_torso@0.2, pixel_error, oks_ap,
    oks_ap50, oks_ap75, oks_apm, oks_apl, oks_ar, oks_ar50, oks_ar75, oks_arm, oks_arl. PCK and pixel error are means
    over all labeled keypoints of all people, so a keypoint that is labeled more often weighs more.

    Crowds and people without labeled keypoints are not scored; in OKS-AP they remain regions to ignore, as in COCO.
    Without `resamples`, or with a single image, there are no intervals. Raises DataError when rows do not match.
    """
    _check(predicted, truth, skeleton)
    counted = ~truth.crowd & (truth.visible > 0).any(1)
    if not counted.any():
        raise DataError(f"none of the {len(truth)} people has a labeled keypoint; there is nothing to score.")
    image_ids, image = np.unique(truth.image_ids[counted], return_inverse=True)
    images = len(image_ids)
    # With the crowds and unlabeled people of the scored images, which OKS-AP ignores.
    everyone = truth[np.isin(truth.image_ids, image_ids)]
    people, predictions = truth[counted], predicted[counted]
    totals, torsos = _totals(predictions, people, skeleton, image, images)
    evaluator = run_evaluator(to_coco(everyone, skeleton), predictions.to_coco_results(), skeleton.sigmas)
    matches = read_matches(evaluator, image_ids.tolist())
    evidence = Evidence(digest_of(everyone, skeleton), images, skeleton.keypoints, totals, matches)
    values = _measured({name: t.overall(np.ones((1, images)))[0] for name, t in totals.items()})
    values |= read_values(evaluator)
    spans: dict[str, Interval] = {}
    if resamples and images > 1:
        spans = bootstrap(evidence.values, images, resamples=resamples, seed=seed, width=evidence.width)
    counts = _counts(truth, counted, torsos, images)
    notes = _notes(people, skeleton, counts)
    if spans:
        notes.append(f"intervals: 95 %, bootstrap over {images} images, {resamples} resamples, seed {seed}")
    return Score(values, _per_keypoint(evidence), spans, counts, notes, evidence)


def _check(predicted: Poses, truth: Poses, skeleton: Skeleton) -> None:
    if predicted.keypoints.shape != truth.keypoints.shape or truth.keypoints.shape[1] != len(skeleton):
        raise DataError(
            f"predicted keypoints have shape {predicted.keypoints.shape}, true ones {truth.keypoints.shape}, the "
            f"skeleton has {len(skeleton)}; expected one prediction per person, with the skeleton's keypoints."
        )
    same = (predicted.ids == truth.ids) & (predicted.image_ids == truth.image_ids)
    if not same.all():
        row = int(np.argmin(same))
        raise DataError(
            f"row {row}: the prediction is of person {predicted.ids[row]} in image {predicted.image_ids[row]}, the "
            f"label of person {truth.ids[row]} in image {truth.image_ids[row]}; expected the same people in one order."
        )
    broken = ~np.isfinite(predicted.keypoints).all((1, 2))
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(predicted)} people have predicted keypoints that are NaN or infinite "
            f"(the first: person {predicted.ids[broken][0]}); the network's weights are broken."
        )


def _totals(
    predicted: Poses, truth: Poses, skeleton: Skeleton, image: NDArray[np.intp], images: int
) -> tuple[dict[str, Totals], Floats]:
    distance = distances(predicted.keypoints, truth.keypoints, truth.visible)
    box_sides = box_side(truth.boxes)
    torsos = torso_length(truth.keypoints, truth.visible, skeleton.torso)
    correct = {f"pck@{f}": within(distance, box_sides, f) for f in BOX_FRACTIONS}
    if skeleton.torso:
        correct |= {f"pck_torso@{f}": within(distance, torsos, f) for f in TORSO_FRACTIONS}
    totals = {name: Totals.of(values, image, images, scale=100) for name, values in correct.items()}
    return totals | {"pixel_error": Totals.of(distance, image, images)}, torsos


def _counts(truth: Poses, counted: NDArray[np.bool_], torsos: Floats, images: int) -> dict[str, int]:
    return {
        "people": int(counted.sum()),
        "keypoints": int((truth.visible[counted] > 0).sum()),
        "images": images,
        "people_without_torso": int(np.isnan(torsos).sum()),
        "people_without_labels": int((~truth.crowd & ~counted).sum()),
        "crowds": int(truth.crowd.sum()),
    }


def _measured(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if not np.isnan(value)}


def _per_keypoint(evidence: Evidence) -> dict[str, dict[str, float]]:
    once = np.ones((1, evidence.images))
    each = {
        metric: _measured(dict(zip(evidence.keypoints, totals.per_keypoint(once)[0], strict=True)))
        for metric, totals in evidence.totals.items()
    }
    return {metric: row for metric, row in each.items() if row}


def _notes(people: Poses, skeleton: Skeleton, counts: Mapping[str, int]) -> list[str]:
    boxed = int(areas_of(people)[1].sum())
    notes = [
        "PCK and pixel error: mean over all labeled keypoints; pck is relative to the longer side of the box",
        f"OKS sigmas: {skeleton.sigmas_source}",
        f"OKS areas: as given for {len(people) - boxed} people, {AREA_SHARE} x box for {boxed}",
    ]
    if not skeleton.torso:
        notes.append("pck_torso is left out: the skeleton has no shoulders and hips")
    elif counts["people_without_torso"]:
        notes.append(
            f"pck_torso leaves out {counts['people_without_torso']} of {counts['people']} people: no "
            "shoulder labeled together with the opposite hip"
        )
    if counts["people_without_labels"] or counts["crowds"]:
        notes.append(
            f"not scored: {counts['people_without_labels']} people without a labeled keypoint, "
            f"{counts['crowds']} crowd regions"
        )
    if int(np.unique(people.image_ids, return_counts=True)[1].max()) > MAX_PER_IMAGE:
        notes.append(f"OKS-AP counts the {MAX_PER_IMAGE} highest scored people of an image, as COCO does")
    return notes
