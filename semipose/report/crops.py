"""The report's pictures: predictions beside labels, and what the network says about unlabeled people."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import read_image
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.drawing import SIDE_COLORS, contact_sheet, draw, person_tile
from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.report.html import picture, text
from semipose.system.device import choose_device

MOST_VAL = 200  # people of val looked at for the best and the worst
MOST_UNLABELED = 120
SHOWN = 3
TILE = 176  # px


@dataclass(frozen=True)
class Predicted:
    """Some of the people, and what the deployed network says about them."""

    people: People
    poses: Poses
    of: int  # how many there are in all


def predict_sample(model: Model, people: People, most: int, device: str = "auto", seed: int = 0) -> Predicted:
    """Predict up to `most` random rows of `people`; those whose image is gone are left out."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people))[:most])
    store = CropStore(people.select(rows), model.input_size, device=choose_device(device), strict=False)
    poses = model.predict_store(store)
    return Predicted(store.people, poses, len(people))


def val_pictures(model: Model, val: People, device: str) -> str:
    """Best, median and worst of val, each as labels beside prediction."""
    labeled = val.select((val.poses.visible > 0).any(1) & ~val.poses.crowd)
    if len(labeled) == 0:
        return ""
    try:
        looked = predict_sample(model, labeled, MOST_VAL, device)
    except DataError as error:
        return f'<p class="muted">No pictures: {text(error)}</p>'
    errors = person_errors(looked.poses, looked.people.poses)
    order = np.argsort(errors, kind="stable")
    middle = max(0, (len(order) - SHOWN) // 2)
    groups = {"Best": order[:SHOWN], "Median": order[middle : middle + SHOWN], "Worst": order[::-1][: 2 * SHOWN]}
    body = (
        f'<p class="small">Labels on the left, prediction on the right, of {len(looked.people)} of {looked.of} '
        f"people looked at. {legend()} A prediction is the fainter, the less sure the network is.</p>"
    )
    for name, rows in groups.items():
        tiles = [_pair(looked, int(row), model.skeleton, float(errors[row])) for row in rows]
        body += f'<h3>{name}</h3><div class="tiles">{"".join(tiles)}</div>'
    return body


def unlabeled_pictures(model: Model, unlabeled: People, device: str) -> str:
    """The surest and the least sure of some unlabeled people."""
    if len(unlabeled) == 0:
        return ""
    try:
        looked = predict_sample(model, unlabeled, MOST_UNLABELED, device)
    except DataError as error:
        return f'<p class="muted">No pictures: {text(error)}</p>'
    confidence = looked.poses.scores.mean(1)
    order = np.argsort(-confidence, kind="stable")
    share = 2 * SHOWN
    groups = {"Surest": order[:share], "Least sure": order[::-1][: min(share, max(0, len(order) - share))]}
    body = f'<p class="small">{len(looked.people)} random people of {looked.of} were looked at. {legend()}</p>'
    for name, rows in groups.items():
        tiles = [_single(looked, int(row), model.skeleton, float(confidence[row])) for row in rows]
        body += f'<h3>{name}</h3><div class="tiles narrow">{"".join(tiles)}</div>' if tiles else ""
    return body


def person_errors(predicted: Poses, truth: Poses) -> NDArray[np.float64]:
    """Each person's mean distance over labeled keypoints (N,), in percent of the box's longer side."""
    distance = np.linalg.norm(predicted.keypoints.astype(np.float64) - truth.keypoints, axis=-1)
    labeled = truth.visible > 0
    mean = np.where(labeled, distance, 0).sum(1) / np.maximum(1, labeled.sum(1))
    return 100 * mean / np.maximum(1e-6, truth.boxes[:, 2:].max(1))


def legend() -> str:
    """The sides' colors in words and dots."""
    keys = (
        f'<span class="key" style="background:rgb{color}"></span>{side}'
        for side, color in SIDE_COLORS.items()
        if side != "center"
    )
    return f"Colors are the person's own sides:{''.join(keys)}."


def image_of(looked: Predicted, row: int) -> NDArray[np.uint8]:
    """The picture (H, W, 3) RGB that a person is in; black where it is gone."""
    image = read_image(looked.people.images.files[looked.people.image_index[row]])
    return np.zeros((TILE, TILE, 3), np.uint8) if image is None else image


def name_of(looked: Predicted, row: int) -> str:
    """The name of that picture's file."""
    return Path(looked.people.images.files[looked.people.image_index[row]]).name


def _pair(looked: Predicted, row: int, skeleton: Skeleton, error: float) -> str:
    truth, predicted = looked.people.poses[[row]], looked.poses[[row]]
    tile = person_tile(image_of(looked, row), truth.boxes[0], TILE)
    pair = [
        draw(tile.pixels, tile.move(truth), skeleton, faded=False),
        draw(tile.pixels, tile.move(predicted), skeleton),
    ]
    name = name_of(looked, row)
    return picture(
        contact_sheet(pair, 2, gap=0),
        f"Labels and prediction on {name}",
        f"mean error {error:.1f} % of the box, {name}",
    )


def _single(looked: Predicted, row: int, skeleton: Skeleton, confidence: float) -> str:
    pose = looked.poses[[row]]
    tile = person_tile(image_of(looked, row), pose.boxes[0], TILE)
    name = name_of(looked, row)
    return picture(draw(tile.pixels, tile.move(pose), skeleton), f"Prediction on {name}", f"{confidence:.2f}  {name}")
