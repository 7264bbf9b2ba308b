"""COCO's object keypoint similarity (OKS), and AP and AR over it, computed by faster-coco-eval.

AP and AR are percentages, 0..100; a value that no person counts for is absent. Sigmas (K,) are COCO's, and so is the
default of an area: 0.53 x the box.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semipose.errors import DataError
from semipose.metrics.average_precision import AREAS, METRICS, THRESHOLDS, Matches, match_image
from semipose.metrics.pck import Floats, distances
from semipose.pose.poses import AREA_SHARE

if TYPE_CHECKING:
    from faster_coco_eval import COCOeval_faster


def oks(predicted: ArrayLike, truth: ArrayLike, visible: ArrayLike, sigmas: ArrayLike, areas: ArrayLike) -> Floats:
    """Similarity (N,) of each prediction with its own person: 1 is perfect, 0 far off; NaN without labels.

    `predicted`, `truth` (N, K, 2) in image pixels; `visible` (N, K); `sigmas` (K,); `areas` (N,) in square pixels.
    """
    apart, labeled = distances(predicted, truth, visible), np.asarray(visible) > 0
    variance = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    area = np.asarray(areas, dtype=np.float64)[:, None] + np.spacing(1)
    similarity = np.exp(-(np.where(labeled, apart, 0) ** 2) / variance / area / 2)
    with np.errstate(invalid="ignore"):
        return np.asarray((similarity * labeled).sum(1) / labeled.sum(1))


def evaluate(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> dict[str, float]:
    """Return COCO's ten keypoint values of `results` (a COCO results list) on `ground_truth` (a COCO dict).

    Keys oks_ap, oks_ap50, oks_ap75, oks_apm, oks_apl, oks_ar, oks_ar50, oks_ar75, oks_arm, oks_arl. A missing area is
    taken as 0.53 x the box, a missing num_keypoints is counted. Leaves the arguments unchanged. Raises DataError.
    """
    return read_values(run_evaluator(ground_truth, results, sigmas))


def run_evaluator(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> "COCOeval_faster":
    """Run the evaluator silently; `read_values` and `read_matches` read its results."""
    # Imported here because it imports cv2, which is slow and not needed for PCK.
    from faster_coco_eval import COCO, COCOeval_faster

    people = [_complete(annotation, number, len(sigmas)) for number, annotation in _numbered(ground_truth)]
    images = [dict(image) for image in ground_truth["images"]]
    image_ids = {image["id"] for image in images}
    detections = [_checked_result(result, row, image_ids, len(sigmas)) for row, result in enumerate(results)]
    categories = [dict(category) for category in ground_truth["categories"]]
    truth = COCO({"images": images, "annotations": people, "categories": categories}, print_function=_silent)
    evaluator = COCOeval_faster(
        truth, truth.loadRes(detections), "keypoints", print_function=_silent, kpt_oks_sigmas=list(sigmas)
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


def read_values(evaluator: "COCOeval_faster") -> dict[str, float]:
    """Return the ten values in 0..100 under the names of METRICS, without those of areas that no person has."""
    # The evaluator's order is AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL; -1 means that no person counted.
    stats = zip(METRICS, evaluator.stats, strict=True)
    return {name: 100 * float(value) for name, value in stats if value > -1}


def read_matches(evaluator: "COCOeval_faster", image_ids: Sequence[int]) -> Matches:
    """Match detections with people in each of `image_ids` by the evaluator's similarities; one category only."""
    category = evaluator.params.catIds[0]
    ranges = np.asarray(evaluator.params.areaRng, dtype=np.float64)[:, :, None]
    keep = evaluator.params.maxDets[-1]
    scores, rows, hits, skips = [], [], [], []
    counted = np.zeros((len(AREAS), len(image_ids)), dtype=np.int64)
    for row, image_id in enumerate(image_ids):
        people = evaluator.gt_dataset.get(image_id, category)
        crowd = _column(people, lambda person: person["iscrowd"]).astype(bool)
        ignored = _outside(people, ranges) | _column(people, lambda person: person["ignore"]).astype(bool)
        counted[:, row] = (~ignored).sum(1)
        results = evaluator.dt_dataset.get(image_id, category)
        detected = sorted(results, key=lambda result: -result["score"])[:keep]
        outside = _outside(detected, ranges)
        hit = np.zeros((len(AREAS), len(THRESHOLDS), len(detected)), dtype=bool)
        skipped = np.broadcast_to(outside[:, None], hit.shape)
        if people and detected:
            similarity = np.asarray(evaluator.ious[image_id, category])
            hit, skipped = match_image(similarity, outside, ignored, crowd)
        scores.append(_column(detected, lambda result: result["score"]))
        rows.append(np.full(len(detected), row))
        hits.append(hit)
        skips.append(skipped)
    # Stable, as in COCO: detections with equal scores stay in the order of their images.
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit, skipped = np.concatenate(hits, axis=2)[..., order], np.concatenate(skips, axis=2)[..., order]
    return Matches(np.concatenate(rows)[order], hit, skipped, counted)


def _silent(*_: object) -> None:
    """Replace the library's printing."""


def _column(records: Iterable[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]) -> Floats:
    return np.array([value(record) for record in records], dtype=np.float64)


def _outside(records: Sequence[Mapping[str, Any]], ranges: Floats) -> NDArray[np.bool_]:
    """Mask (A, n) of records whose area is outside the range; `ranges` (A, 2, 1) in square pixels."""
    area = _column(records, lambda record: record["area"])
    return np.asarray((area < ranges[:, 0]) | (area > ranges[:, 1]))


def _numbered(ground_truth: Mapping[str, Any]) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Number the annotations from 1: COCO's evaluators treat a person with id 0 as unmatched."""
    for section in ("images", "annotations", "categories"):
        if section not in ground_truth:
            raise DataError(
                f"the ground truth has no {section!r}; expected a COCO dict with images, annotations, categories."
            )
    return enumerate(ground_truth["annotations"], start=1)


def _complete(annotation: Mapping[str, Any], number: int, keypoints: int) -> dict[str, Any]:
    flat = annotation.get("keypoints")
    if flat is None or len(flat) != 3 * keypoints:
        raise DataError(
            f"annotation {annotation.get('id')}: {0 if flat is None else len(flat)} keypoint numbers, expected "
            f"{3 * keypoints} (x, y, visible) for {keypoints} sigmas. Pass the sigmas of this skeleton."
        )
    filled = {"iscrowd": 0, "num_keypoints": sum(v > 0 for v in flat[2::3])}
    record = filled | dict(annotation) | {"id": number}
    if "area" not in record:
        record["area"] = AREA_SHARE * record["bbox"][2] * record["bbox"][3]
    return record


def _checked_result(result: Mapping[str, Any], row: int, image_ids: set[int], keypoints: int) -> dict[str, Any]:
    where = f"result {row} (image {result.get('image_id')})"
    if result.get("image_id") not in image_ids:
        raise DataError(
            f"{where}: the ground truth has no such image. Evaluate against the json it was predicted from."
        )
    missing = [key for key in ("category_id", "keypoints", "score") if key not in result]
    if missing:
        raise DataError(
            f"{where}: {', '.join(missing)} missing; a COCO keypoint result needs category_id, keypoints and score."
        )
    if len(result["keypoints"]) != 3 * keypoints:
        raise DataError(
            f"{where}: {len(result['keypoints'])} keypoint numbers, expected {3 * keypoints} (x, y, score); "
            "it belongs to another skeleton."
        )
    return dict(result)
