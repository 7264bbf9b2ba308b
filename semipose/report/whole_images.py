"""A detector-free network and images in, the report's pictures of whole images out."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import read_image
from semipose.data.people import People
from semipose.drawing import Noun, contact_sheet, draw, left_to_right, person_colors, scaled
from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.metrics.multi_person import precision_and_recall
from semipose.pose.poses import Poses
from semipose.report.html import Gallery, Picture

MAX_VAL_IMAGES = 100  # to choose the best and the worst from
MAX_UNLABELED_IMAGES = 60
IMAGES_PER_GROUP = 3
SIDE = 260  # px, the longer one of a picture


def val_image_gallery(model: Model, val: People, device: str) -> Gallery | None:
    """Best, median and worst images of val, each as labels beside detected people; None without labels."""
    labeled = np.bincount(val.image_index[val.labeled], minlength=len(val.images)) > 0
    if not labeled.any():
        return None
    try:
        people, detected = _detect_sample(model, val.within(labeled), MAX_VAL_IMAGES, device)
    except DataError as error:
        return Gallery(fault=str(error))
    quality = [_quality(detected, people, row, model) for row in range(len(people.images))]
    order = np.argsort([-each for each in quality], kind="stable")
    middle = max(0, (len(order) - IMAGES_PER_GROUP) // 2)
    groups = {
        "Best": order[:IMAGES_PER_GROUP],
        "Median": order[middle : middle + IMAGES_PER_GROUP],
        "Worst": order[::-1][:IMAGES_PER_GROUP],
    }
    plural = Noun.of(model.skeleton.name).plural
    intro = (
        f"Labels on the left, detected {plural} on the right; chosen from {len(people.images)} of {labeled.sum()} "
        f"images. Not drawn are {plural} with a score of 0.2 or less. The number is the F1 score (harmonic mean of "
        f"precision and recall) of detected {plural} at OKS 0.5, in percent."
    )
    pictures = {
        title: [_pair(people, detected, int(row), model, quality[row]) for row in rows]
        for title, rows in groups.items()
    }
    return Gallery(intro, pictures)


def unlabeled_image_gallery(model: Model, unlabeled: People, device: str) -> Gallery | None:
    """Detected people in a sample of unlabeled images, ordered by the most confident one of each image."""
    try:
        people, detected = _detect_sample(model, unlabeled, MAX_UNLABELED_IMAGES, device)
    except DataError as error:
        return Gallery(fault=str(error))
    best = np.zeros(len(people.images))
    np.maximum.at(best, np.searchsorted(people.images.ids, detected.image_ids), detected.box_scores)
    order = np.argsort(-best, kind="stable")
    groups = {
        "Most confident": order[:IMAGES_PER_GROUP],
        "Least confident": order[::-1][: min(IMAGES_PER_GROUP, max(0, len(order) - IMAGES_PER_GROUP))],
    }
    intro = f"Chosen from {len(people.images)} random images of {len(unlabeled.images)}."
    pictures = {
        title: [_single(people, detected, int(row), model, float(best[row])) for row in rows]
        for title, rows in groups.items()
    }
    return Gallery(intro, pictures)


def _detect_sample(model: Model, people: People, max_images: int, device: str, seed: int = 0) -> tuple[People, Poses]:
    """Draw up to `max_images` random images, number them from 1, and detect the people in them."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people.images))[:max_images])
    chosen = people.within(rows)
    chosen.images.ids[:] = np.arange(1, len(rows) + 1)
    chosen.poses.image_ids = chosen.images.ids[chosen.image_index]
    return chosen, model.predict_people(chosen, EvalOptions(device=device))


def _quality(detected: Poses, people: People, row: int, model: Model) -> float:
    """F1 score, in percent, of the people drawn in image `row`."""
    image = people.images.ids[row]
    predicted, truth = detected[detected.image_ids == image].confident(), people.poses[people.image_index == row]
    precision, recall = np.nan_to_num(precision_and_recall(predicted, truth, model.skeleton, [image]))
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def _pair(people: People, detected: Poses, row: int, model: Model, quality: float) -> Picture:
    truth = people.poses[(people.image_index == row) & people.labeled]
    pair = [
        _drawn(people, truth, row, model, faded=False),
        _drawn(people, _confident(detected, people, row), row, model),
    ]
    name = Path(people.images.files[row]).name
    alt = f"Labels and detections in {name}"
    return Picture.of(contact_sheet(pair, 2, gap=0), alt, f"{quality:.0f}  {name}")


def _single(people: People, detected: Poses, row: int, model: Model, best: float) -> Picture:
    name = Path(people.images.files[row]).name
    drawn = _drawn(people, _confident(detected, people, row), row, model)
    return Picture.of(drawn, f"Detections in {name}", f"{best:.2f}  {name}")


def _confident(detected: Poses, people: People, row: int) -> Poses:
    return detected[detected.image_ids == people.images.ids[row]].confident()


def _drawn(people: People, poses: Poses, row: int, model: Model, faded: bool = True) -> NDArray[np.uint8]:
    """Image `row` with `poses` in one color each, its longer side `SIDE` pixels; black where it cannot be read."""
    image = read_image(people.images.files[row])
    tile = scaled(np.zeros((SIDE, SIDE, 3), np.uint8) if image is None else image, SIDE)
    poses = left_to_right(tile.move(poses))
    return draw(tile.pixels, poses, model.skeleton, faded=faded, colors=person_colors(len(poses)))
