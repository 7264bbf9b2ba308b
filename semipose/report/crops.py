"""A network and people in, the report's pictures of single people out: predictions beside labels, pseudo-labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import read_image
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.drawing import Noun, contact_sheet, draw, person_tile
from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.report.html import Gallery, Picture
from semipose.system.device import choose_device

MAX_VAL = 200  # validation people to choose the best and the worst from
MAX_UNLABELED = 120
CROPS_PER_GROUP = 3
TILE = 176  # px


@dataclass(frozen=True)
class Predicted:
    """A sample of `total` people, and predictions for them."""

    people: People
    poses: Poses
    total: int


def predict_sample(model: Model, people: People, max_people: int, device: str = "auto", seed: int = 0) -> Predicted:
    """Predict up to `max_people` random rows of `people`, without those whose image cannot be read."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people))[:max_people])
    store = CropStore(people.select(rows), model.input_size, device=choose_device(device), strict=False)
    poses = model.predict_store(store)
    return Predicted(store.people, poses, len(people))


def val_people_gallery(model: Model, val: People, device: str) -> Gallery | None:
    """Best, median and worst predictions on val, each beside its labels; None without labels."""
    labeled = val.select((val.poses.visible > 0).any(1) & ~val.poses.crowd)
    if len(labeled) == 0:
        return None
    try:
        sample = predict_sample(model, labeled, MAX_VAL, device)
    except DataError as error:
        return Gallery(fault=str(error))
    errors = person_errors(sample.poses, sample.people.poses)
    order = np.argsort(errors, kind="stable")
    middle = max(0, (len(order) - CROPS_PER_GROUP) // 2)
    groups = {
        "Best": order[:CROPS_PER_GROUP],
        "Median": order[middle : middle + CROPS_PER_GROUP],
        "Worst": order[::-1][: 2 * CROPS_PER_GROUP],
    }
    noun = Noun.of(model.skeleton.name)
    intro = (
        f"Labels on the left, predictions on the right; chosen from {len(sample.people)} of {sample.total} labeled "
        f"{noun.plural}. Less confident predictions are fainter."
    )
    pictures = {
        title: [_pair(sample, int(row), model.skeleton, float(errors[row])) for row in rows]
        for title, rows in groups.items()
    }
    return Gallery(intro, pictures, noun.singular)


def unlabeled_people_gallery(model: Model, unlabeled: People, device: str) -> Gallery | None:
    """Most and least confident predictions for a sample of unlabeled people."""
    if len(unlabeled) == 0:
        return None
    try:
        sample = predict_sample(model, unlabeled, MAX_UNLABELED, device)
    except DataError as error:
        return Gallery(fault=str(error))
    confidence = sample.poses.scores.mean(1)
    order = np.argsort(-confidence, kind="stable")
    count = 2 * CROPS_PER_GROUP
    groups = {
        "Most confident": order[:count],
        "Least confident": order[::-1][: min(count, max(0, len(order) - count))],
    }
    noun = Noun.of(model.skeleton.name)
    intro = f"Chosen from {len(sample.people)} random {noun.plural} of {sample.total}."
    pictures = {
        title: [_single(sample, int(row), model.skeleton, float(confidence[row])) for row in rows]
        for title, rows in groups.items()
    }
    return Gallery(intro, pictures, noun.singular, narrow=True)


def person_errors(predicted: Poses, truth: Poses) -> NDArray[np.float64]:
    """Mean distance (N,) over each person's labeled keypoints, in percent of the box's longer side."""
    distance = np.linalg.norm(predicted.keypoints.astype(np.float64) - truth.keypoints, axis=-1)
    labeled = truth.visible > 0
    mean = np.where(labeled, distance, 0).sum(1) / np.maximum(1, labeled.sum(1))
    return 100 * mean / np.maximum(1e-6, truth.boxes[:, 2:].max(1))


def image_of(sample: Predicted, row: int) -> NDArray[np.uint8]:
    """Image (H, W, 3) RGB of a person; black where it cannot be read."""
    image = read_image(sample.people.images.files[sample.people.image_index[row]])
    return np.zeros((TILE, TILE, 3), np.uint8) if image is None else image


def file_name_of(sample: Predicted, row: int) -> str:
    """File name of a person's image."""
    return Path(sample.people.images.files[sample.people.image_index[row]]).name


def _pair(sample: Predicted, row: int, skeleton: Skeleton, error: float) -> Picture:
    truth, predicted = sample.people.poses[[row]], sample.poses[[row]]
    tile = person_tile(image_of(sample, row), truth.boxes[0], TILE)
    pair = [
        draw(tile.pixels, tile.move(truth), skeleton, faded=False),
        draw(tile.pixels, tile.move(predicted), skeleton),
    ]
    name = file_name_of(sample, row)
    return Picture.of(
        contact_sheet(pair, 2, gap=0),
        f"Labels and prediction on {name}",
        f"mean error {error:.1f} % of the box, {name}",
    )


def _single(sample: Predicted, row: int, skeleton: Skeleton, confidence: float) -> Picture:
    pose = sample.poses[[row]]
    tile = person_tile(image_of(sample, row), pose.boxes[0], TILE)
    name = file_name_of(sample, row)
    drawn = draw(tile.pixels, tile.move(pose), skeleton)
    return Picture.of(drawn, f"Prediction on {name}", f"{confidence:.2f}  {name}")
