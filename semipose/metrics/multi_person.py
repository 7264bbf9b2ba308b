"""Scores of people detected in whole images: OKS-AP and AR with intervals, precision and recall.

For networks that detect people themselves: detections and people need not correspond, and false positives count.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semipose.errors import DataError
from semipose.metrics.average_precision import THRESHOLDS, Matches
from semipose.metrics.bootstrap import Interval, bootstrap
from semipose.metrics.evidence import Evidence
from semipose.metrics.oks import read_matches, read_values, run_evaluator
from semipose.metrics.score import MAX_PER_IMAGE, Score
from semipose.metrics.truth import areas_of, digest_of, to_coco
from semipose.pose.crowding import CROWDING_LIMITS, crowding_classes
from semipose.pose.poses import AREA_SHARE, Poses
from semipose.pose.skeleton import Skeleton

if TYPE_CHECKING:
    from faster_coco_eval import COCOeval_faster

Ids = NDArray[np.int64]


def score_multi_person(
    predicted: Poses,
    truth: Poses,
    skeleton: Skeleton,
    image_ids: ArrayLike,
    *,
    crowd_index: ArrayLike | None = None,
    limits: tuple[float, float] = CROWDING_LIMITS,
    seed: int = 0,
    resamples: int = 1000,
) -> Score:
    """Score the people detected in the images `image_ids` (I,), which are all images that were searched.

    Keys: the ten OKS values of `score`. With `crowd_index` (I,), CrowdPose's index of each image, also oks_ap_easy,
    oks_ap_medium and oks_ap_hard, parted at `limits`; images of NaN are in none of them.

    A person's score is `predicted.box_scores`; equal scores stay in the order of images, then of rows. As in COCO the
    20 best of an image count, and detections on crowds or on people without labels are ignored. Without `resamples`, or
    with a single image, there are no intervals. Raises DataError where people and images do not match, or where no
    keypoint is labeled.
    """
    images, first = np.unique(np.asarray(image_ids, dtype=np.int64), return_index=True)
    _check(predicted, truth, skeleton, images)
    labeled = ~truth.crowd & (truth.visible > 0).any(1)
    if not labeled.any():
        raise DataError(f"none of the {len(truth)} people has a labeled keypoint; there is nothing to score.")
    evaluator, matches = _match(predicted, truth, skeleton, images)
    digest = digest_of(truth, skeleton, images.tolist())
    notes = _notes(truth, labeled, skeleton)
    subsets = {}
    if crowd_index is not None:
        index = np.broadcast_to(np.asarray(crowd_index, dtype=np.float64), np.shape(image_ids))
        classes = crowding_classes(index[first], limits)
        subsets = {f"oks_ap_{name}": mask for name, mask in classes.items() if mask.any()}
        sizes = ", ".join(f"{mask.sum()} {name}" for name, mask in classes.items())
        notes.append(f"images by crowdIndex, parted at {limits[0]:g} and {limits[1]:g}: {sizes}")
    evidence = Evidence(digest, len(images), skeleton.keypoints, {}, matches, subsets)
    once = evidence.values(np.ones((1, len(images))))
    values = read_values(evaluator) | {name: float(once[name][0]) for name in subsets if not np.isnan(once[name][0])}
    spans: dict[str, Interval] = {}
    if resamples and len(images) > 1:
        spans = bootstrap(evidence.values, len(images), resamples=resamples, seed=seed, width=evidence.width)
        notes.append(f"intervals: 95 %, bootstrap over {len(images)} images, {resamples} resamples, seed {seed}")
    return Score(values, {}, spans, _counts(predicted, truth, labeled, len(images)), notes, evidence)


def precision_and_recall(
    predicted: Poses, truth: Poses, skeleton: Skeleton, image_ids: ArrayLike
) -> tuple[float, float]:
    """Return precision and recall in 0..100 of detections in the images `image_ids`, at OKS 0.5.

    Detections on crowds or on people without labels count neither way, nor those beyond the 20 best of an image.
    Precision is NaN without detections, recall without people.
    """
    images = np.unique(np.asarray(image_ids, dtype=np.int64))
    _check(predicted, truth, skeleton, images)
    if not len(truth):
        return (0.0 if len(predicted) else np.nan), np.nan
    matches = _match(predicted, truth, skeleton, images)[1]
    level = int(np.argmin(abs(THRESHOLDS - 0.5)))
    hits, detected = matches.hit[0, level].sum(), (~matches.ignored[0, level]).sum()
    people = matches.people[0].sum()
    return (100 * float(hits / detected) if detected else np.nan), (100 * float(hits / people) if people else np.nan)


def _match(predicted: Poses, truth: Poses, skeleton: Skeleton, images: Ids) -> "tuple[COCOeval_faster, Matches]":
    evaluator = run_evaluator(to_coco(truth, skeleton, images), _results(predicted), skeleton.sigmas)
    return evaluator, read_matches(evaluator, images.tolist())


def _results(predicted: Poses) -> list[dict[str, Any]]:
    """COCO results list with `box_scores` as they are, without the rescoring of top-down networks."""
    flat = np.concatenate([predicted.keypoints, predicted.scores[..., None]], 2)
    rows = zip(
        predicted.image_ids.tolist(),
        [each.ravel().tolist() for each in flat],
        predicted.box_scores.tolist(),
        strict=True,
    )
    return [
        {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}
        for image, keypoints, score in rows
    ]


def _check(predicted: Poses, truth: Poses, skeleton: Skeleton, images: Ids) -> None:
    for name, people in (("predicted", predicted), ("true", truth)):
        if people.keypoints.shape[1] != len(skeleton):
            raise DataError(
                f"{name} people have {people.keypoints.shape[1]} keypoints; expected the skeleton's {len(skeleton)}."
            )
        unknown = np.setdiff1d(people.image_ids, images)
        if len(unknown):
            raise DataError(
                f"{name} people are in image {unknown[0]}, which is not among the {len(images)} images to score; "
                "expected the ids of all images that were searched."
            )
    broken = ~(np.isfinite(predicted.keypoints).all((1, 2)) & np.isfinite(predicted.box_scores))
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(predicted)} detected people have keypoints or scores that are NaN or infinite "
            f"(the first in image {predicted.image_ids[broken][0]}); the network's weights are broken."
        )


def _counts(predicted: Poses, truth: Poses, labeled: NDArray[np.bool_], images: int) -> dict[str, int]:
    return {
        "people": int(labeled.sum()),
        "keypoints": int((truth.visible[labeled] > 0).sum()),
        "images": images,
        "detected": len(predicted),
        "people_without_labels": int((~truth.crowd & ~labeled).sum()),
        "crowds": int(truth.crowd.sum()),
    }


def _notes(truth: Poses, labeled: NDArray[np.bool_], skeleton: Skeleton) -> list[str]:
    boxed = int(areas_of(truth[labeled])[1].sum())
    notes = [
        f"OKS sigmas: {skeleton.sigmas_source}",
        f"OKS areas: as given for {labeled.sum() - boxed} people, {AREA_SHARE} x box for {boxed}",
        f"OKS-AP counts the {MAX_PER_IMAGE} highest scored people of an image, as COCO does",
    ]
    if not labeled.all():
        crowds = int(truth.crowd.sum())
        notes.append(
            f"ignored regions: {len(truth) - labeled.sum() - crowds} people without a labeled keypoint, {crowds} crowds"
        )
    return notes
