"""People found in whole images and true people in, one `Score` out: OKS-AP and AR with intervals, by name.

For networks that find everybody themselves: who was found is not who is there, and what was found too much counts.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semipose.errors import DataError
from semipose.metrics.average_precision import THRESHOLDS, Matches
from semipose.metrics.bootstrap import Interval, bootstrap
from semipose.metrics.crowding import EDGES, classes_of
from semipose.metrics.evidence import Evidence
from semipose.metrics.oks import read_matches, read_values, run_evaluator
from semipose.metrics.score import MOST_PER_IMAGE, Score
from semipose.metrics.truth import areas_of, digest_of, to_coco
from semipose.pose.poses import Poses
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
    edges: tuple[float, float] = EDGES,
    seed: int = 0,
    resamples: int = 1000,
) -> Score:
    """Score the people that were found in the images `image_ids` (I,), everything that was looked at.

    A person's score is `predicted.box_scores`; equal ones stay in the order of the images, then of their rows. Keys:
    the ten OKS values of `score`, and with `crowd_index` (I,), CrowdPose's index of each image, oks_ap_easy,
    oks_ap_medium and oks_ap_hard by `edges`; images of NaN are in none of them. As in COCO the 20 best of an image
    count, and whoever lies on a crowd or on a person without labels does not. There are no intervals without
    `resamples` or of a single image. Raises DataError where the people do not fit, and where nobody is labeled.
    """
    images, first = np.unique(np.asarray(image_ids, dtype=np.int64), return_index=True)
    _check(predicted, truth, skeleton, images)
    labeled = ~truth.crowd & (truth.visible > 0).any(1)
    if not labeled.any():
        raise DataError(f"none of the {len(truth)} people has a labeled keypoint; nothing can be scored")
    evaluator, matches = _matched(predicted, truth, skeleton, images)
    digest = digest_of(truth, skeleton, images.tolist())
    notes = _notes(truth, labeled, skeleton)
    subsets = {}
    if crowd_index is not None:
        index = np.broadcast_to(np.asarray(crowd_index, dtype=np.float64), np.shape(image_ids))
        classes = classes_of(index[first], edges)
        subsets = {f"oks_ap_{name}": of for name, of in classes.items() if of.any()}
        sizes = ", ".join(f"{of.sum()} {name}" for name, of in classes.items())
        notes.append(f"images by crowdIndex, parted at {edges[0]:g} and {edges[1]:g}: {sizes}")
    evidence = Evidence(digest, len(images), skeleton.keypoints, {}, matches, subsets)
    once = evidence.values(np.ones((1, len(images))))
    values = read_values(evaluator) | {name: float(once[name][0]) for name in subsets if not np.isnan(once[name][0])}
    spans: dict[str, Interval] = {}
    if resamples and len(images) > 1:
        spans = bootstrap(evidence.values, len(images), resamples=resamples, seed=seed, width=evidence.width)
        notes.append(f"intervals: 95 %, bootstrap over {len(images)} images, {resamples} resamples, seed {seed}")
    return Score(values, {}, spans, _counts(predicted, truth, labeled, len(images)), notes, evidence)


def people_found(predicted: Poses, truth: Poses, skeleton: Skeleton, image_ids: ArrayLike) -> tuple[float, float]:
    """Precision and recall in 0..100 of the people in the images `image_ids`, found where OKS is 0.5 or more.

    Who lies on a crowd or on a person without labels counts neither way, nor who is beyond the 20 best of an image.
    NaN where there is nobody to count: nobody found, or nobody there.
    """
    images = np.unique(np.asarray(image_ids, dtype=np.int64))
    _check(predicted, truth, skeleton, images)
    if not len(truth):
        return (0.0 if len(predicted) else np.nan), np.nan
    matches = _matched(predicted, truth, skeleton, images)[1]
    level = int(np.argmin(abs(THRESHOLDS - 0.5)))
    hits, found = matches.hit[0, level].sum(), (~matches.ignored[0, level]).sum()
    there = matches.people[0].sum()
    return (100 * float(hits / found) if found else np.nan), (100 * float(hits / there) if there else np.nan)


def _matched(predicted: Poses, truth: Poses, skeleton: Skeleton, images: Ids) -> "tuple[COCOeval_faster, Matches]":
    evaluator = run_evaluator(to_coco(truth, skeleton, images), _results(predicted), skeleton.sigmas)
    return evaluator, read_matches(evaluator, images.tolist())


def _results(predicted: Poses) -> list[dict[str, Any]]:
    """A COCO results list whose scores are the people's own, not rescored like those of people in given boxes."""
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
        strange = np.setdiff1d(people.image_ids, images)
        if len(strange):
            raise DataError(
                f"{name} people stand in image {strange[0]}, which is none of the {len(images)} images scored; "
                "expected all images that were looked at."
            )
    broken = ~(np.isfinite(predicted.keypoints).all((1, 2)) & np.isfinite(predicted.box_scores))
    if broken.any():
        raise DataError(
            f"{broken.sum()} of {len(predicted)} people found have keypoints or scores that are NaN or infinite (the "
            f"first in image {predicted.image_ids[broken][0]}); the network's weights are broken."
        )


def _counts(predicted: Poses, truth: Poses, labeled: NDArray[np.bool_], images: int) -> dict[str, int]:
    return {
        "people": int(labeled.sum()),
        "keypoints": int((truth.visible[labeled] > 0).sum()),
        "images": images,
        "found": len(predicted),
        "people_without_labels": int((~truth.crowd & ~labeled).sum()),
        "crowds": int(truth.crowd.sum()),
    }


def _notes(truth: Poses, labeled: NDArray[np.bool_], skeleton: Skeleton) -> list[str]:
    boxed = int(areas_of(truth[labeled])[1].sum())
    notes = [
        f"OKS sigmas: {skeleton.sigmas_source}",
        f"OKS areas: as given for {labeled.sum() - boxed} people, 0.53 x box for {boxed}",
        f"OKS-AP counts the {MOST_PER_IMAGE} best scored people found in an image, as COCO does",
    ]
    if not labeled.all():
        crowds = int(truth.crowd.sum())
        notes.append(
            f"ignored regions: {len(truth) - labeled.sum() - crowds} people without a labeled keypoint, {crowds} crowds"
        )
    return notes
