"""Predicted and true people in, one `Score` out: PCK, pixel error and OKS-AP with intervals, by name.

Made for top-down prediction, where the people's boxes are given and row n of both is the same person.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError
from semipose.metrics.average_precision import Floats
from semipose.metrics.evidence import Evidence, Totals
from semipose.metrics.intervals import Interval, bootstrap
from semipose.metrics.oks import BOX_SHARE, read_matches, read_values, run_evaluator
from semipose.metrics.pck import box_side, distances, torso_length, within
from semipose.poses import Poses
from semipose.skeleton import Skeleton

BOX_FRACTIONS = (0.05, 0.1, 0.2)
TORSO_FRACTIONS = (0.1, 0.2)


@dataclass(frozen=True)
class Score:
    """How well people were found. Percentages 0..100, except pixel_error in pixels of the image.

    `values` by metric; `per_keypoint` by metric, then by keypoint name; `intervals` (low, high), 95 %, by
    metric. What cannot be measured is absent. `counts`: people, keypoints, images, people_without_torso,
    people_without_labels, crowds. `notes` say what normalizes and what was left out. `evidence` is for
    `difference` and is not saved.
    """

    values: dict[str, float]
    per_keypoint: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    counts: dict[str, int]
    notes: list[str]
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """A dict that json can hold, without the evidence."""
        return {
            "values": dict(self.values),
            "per_keypoint": {metric: dict(each) for metric, each in self.per_keypoint.items()},
            "intervals": {metric: list(span) for metric, span in self.intervals.items()},
            "counts": dict(self.counts),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Score":
        """Undo `to_dict`; the score can be read and printed, but no longer compared person by person."""
        spans = {metric: (float(low), float(high)) for metric, (low, high) in record["intervals"].items()}
        return cls(record["values"], record["per_keypoint"], spans, record["counts"], record["notes"])


def score(
    predicted: Poses, truth: Poses, skeleton: Skeleton, *, seed: int = 0, resamples: int = 1000
) -> Score:
    """Score predictions of known people.

    Keys: pck@0.05, pck@0.1, pck@0.2 (of the box's longer side), pck_torso@0.1, pck_torso@0.2, pixel_error,
    oks_ap, oks_ap50, oks_ap75, oks_apm, oks_apl, oks_ar, oks_ar50, oks_ar75, oks_arm, oks_arl. PCK and pixel
    error are means over all labeled keypoints of all people, so a keypoint that is labeled more often weighs
    more.

    Crowds and people without a labeled keypoint are no detections and count nowhere; in OKS-AP they stay
    regions to ignore, as in COCO. `resamples` 0 leaves the intervals out. Raises DataError when rows do not
    belong together.
    """
    _check(predicted, truth, skeleton)
    counted = ~truth.crowd & (truth.visible > 0).any(1)
    if not counted.any():
        raise DataError(f"none of the {len(truth)} people has a labeled keypoint; nothing can be scored")
    image_ids, image = np.unique(truth.image_ids[counted], return_inverse=True)
    around = truth[np.isin(truth.image_ids, image_ids)]
    people = truth[counted]
    totals, torsos = _totals(predicted[counted], people, skeleton, image, len(image_ids))
    evaluator = run_evaluator(_coco(around, skeleton), predicted[counted].to_coco_results(), skeleton.sigmas)
    matches = read_matches(evaluator, image_ids.tolist())
    evidence = Evidence(_digest(around, skeleton), len(image_ids), skeleton.keypoints, totals, matches)
    values, per_keypoint = _point_values(totals, skeleton.keypoints, len(image_ids))
    values |= read_values(evaluator)
    spans = {}
    if resamples:
        spans = bootstrap(
            evidence.values, len(image_ids), resamples=resamples, seed=seed, width=evidence.width
        )
    counts = {
        "people": len(people),
        "keypoints": int((people.visible > 0).sum()),
        "images": len(image_ids),
        "people_without_torso": int(np.isnan(torsos).sum()),
        "people_without_labels": int((~truth.crowd & ~counted).sum()),
        "crowds": int(truth.crowd.sum()),
    }
    notes = _notes(people, skeleton, counts, resamples, seed)
    return Score(
        values, per_keypoint, {k: v for k, v in spans.items() if k in values}, counts, notes, evidence
    )


def _check(predicted: Poses, truth: Poses, skeleton: Skeleton) -> None:
    if predicted.keypoints.shape != truth.keypoints.shape or truth.keypoints.shape[1] != len(skeleton):
        raise DataError(
            f"predicted keypoints {predicted.keypoints.shape}, true ones {truth.keypoints.shape}, skeleton of "
            f"{len(skeleton)}; expected one prediction for each person and the skeleton's keypoints in all"
        )
    same = (predicted.ids == truth.ids) & (predicted.image_ids == truth.image_ids)
    if not same.all():
        row = int(np.argmin(same))
        raise DataError(
            f"row {row}: the prediction is of person {predicted.ids[row]} in image {predicted.image_ids[row]}, the "
            f"truth of person {truth.ids[row]} in image {truth.image_ids[row]}; both must list the same people in the "
            "same order"
        )
    broken = ~np.isfinite(predicted.keypoints).all((1, 2))
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(predicted)} people have predicted keypoints that are NaN or infinite (the first: "
            f"person {predicted.ids[broken][0]}); the network's weights are broken"
        )


def _totals(
    predicted: Poses, truth: Poses, skeleton: Skeleton, image: NDArray[np.intp], images: int
) -> tuple[dict[str, Totals], Floats]:
    apart = distances(predicted.keypoints, truth.keypoints, truth.visible)
    sides = box_side(truth.boxes)
    torsos = torso_length(truth.keypoints, truth.visible, skeleton.torso)
    shares = {f"pck@{f}": within(apart, sides, f) for f in BOX_FRACTIONS}
    if skeleton.torso:
        shares |= {f"pck_torso@{f}": within(apart, torsos, f) for f in TORSO_FRACTIONS}
    totals = {name: Totals.of(values, image, images, scale=100) for name, values in shares.items()}
    return totals | {"pixel_error": Totals.of(apart, image, images)}, torsos


def _point_values(
    totals: Mapping[str, Totals], names: tuple[str, ...], images: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    once = np.ones((1, images))
    overall = {metric: float(t.overall(once)[0]) for metric, t in totals.items()}
    each = {
        metric: dict(zip(names, t.per_keypoint(once)[0].tolist(), strict=True))
        for metric, t in totals.items()
    }
    measured = {
        metric: {name: v for name, v in row.items() if not np.isnan(v)} for metric, row in each.items()
    }
    return {k: v for k, v in overall.items() if not np.isnan(v)}, {
        k: row for k, row in measured.items() if row
    }


def _areas(people: Poses) -> tuple[Floats, NDArray[np.bool_]]:
    """Areas in square pixels, and where they come from the box because none was given or 0.53 x the box was."""
    from_box = BOX_SHARE * people.boxes[:, 2].astype(np.float64) * people.boxes[:, 3]
    absent = ~(people.areas > 0)
    return np.where(absent, from_box, people.areas), absent | np.isclose(people.areas, from_box, rtol=1e-4)


def _coco(people: Poses, skeleton: Skeleton) -> dict[str, Any]:
    flat = np.concatenate([people.keypoints, people.visible[..., None]], axis=2).reshape(len(people), -1)
    areas, _ = _areas(people)
    columns = zip(
        people.image_ids.tolist(),
        flat.tolist(),
        people.boxes.tolist(),
        areas.tolist(),
        people.crowd.tolist(),
        strict=True,
    )
    annotations = [
        {
            "id": n,
            "image_id": image,
            "category_id": 1,
            "keypoints": k,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for n, (image, k, box, area, crowd) in enumerate(columns, start=1)
    ]
    images = [{"id": image} for image in np.unique(people.image_ids).tolist()]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": skeleton.name}]}


def _digest(people: Poses, skeleton: Skeleton) -> str:
    digest = hashlib.sha256(repr((skeleton.keypoints, skeleton.sigmas, skeleton.torso)).encode())
    for array in (people.image_ids, people.ids, people.keypoints, people.visible, people.boxes, people.areas):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _notes(
    people: Poses, skeleton: Skeleton, counts: Mapping[str, int], resamples: int, seed: int
) -> list[str]:
    _, from_box = _areas(people)
    boxed = int(from_box.sum())
    notes = [
        "PCK and pixel error: mean over all labeled keypoints; pck is relative to the longer side of the box",
        f"OKS: sigmas {skeleton.sigmas_source}; area as given for {len(people) - boxed} people, 0.53 x box for {boxed}",
    ]
    if not skeleton.torso:
        notes.append("no pck_torso: the skeleton has no shoulders and hips")
    elif counts["people_without_torso"]:
        notes.append(
            f"pck_torso leaves out {counts['people_without_torso']} of {counts['people']} people, whose shoulder and "
            "opposite hip are not both labeled"
        )
    left_out = [f"{counts[key]} {text}" for key, text in LEFT_OUT.items() if counts[key]]
    if left_out:
        notes.append(f"not scored: {', '.join(left_out)}")
    if int(np.unique(people.image_ids, return_counts=True)[1].max()) > 20:
        notes.append("an image has more than 20 people: OKS-AP counts the 20 best scored, as COCO does")
    if resamples:
        notes.append(
            f"intervals: 95 %, percentile bootstrap over {counts['images']} images, {resamples} resamples, seed {seed}"
        )
    return notes


LEFT_OUT = {"people_without_labels": "people without a labeled keypoint", "crowds": "crowd regions"}
