"""The report's pictures of whole images: who was found beside who is there, and whom unlabeled images show."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import read_image
from semipose.data.people import People
from semipose.drawing import contact_sheet, draw, left_to_right, person_colors, scaled
from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.metrics.multi_person import people_found
from semipose.pose.poses import Poses
from semipose.report.html import picture, text

MOST_VAL = 100  # images of val looked at for the best and the worst
MOST_UNLABELED = 60
SHOWN = 3
SIDE = 260  # px, the longer one of a picture


def val_pictures(model: Model, val: People, device: str) -> str:
    """Best, median and worst images of val, each as labels beside people found."""
    there = np.bincount(val.image_index[val.labeled], minlength=len(val.images)) > 0
    if not there.any():
        return ""
    try:
        people, found = _look(model, val.within(there), MOST_VAL, device)
    except DataError as error:
        return f'<p class="muted">No pictures: {text(error)}</p>'
    quality = [_quality(found, people, row, model) for row in range(len(people.images))]
    order = np.argsort([-each for each in quality], kind="stable")
    middle = max(0, (len(order) - SHOWN) // 2)
    groups = {"Best": order[:SHOWN], "Median": order[middle : middle + SHOWN], "Worst": order[::-1][:SHOWN]}
    body = (
        f'<p class="small">Labels on the left, people found on the right, of {len(people.images)} of '
        f"{there.sum()} images looked at; people scored 0.2 or less are not drawn. The number is the harmonic "
        "mean of precision and recall of people at OKS 0.5.</p>"
    )
    for name, rows in groups.items():
        tiles = [_pair(people, found, int(row), model, quality[row]) for row in rows]
        body += f'<h3>{name}</h3><div class="tiles">{"".join(tiles)}</div>'
    return body


def unlabeled_pictures(model: Model, unlabeled: People, device: str) -> str:
    """Whom some unlabeled images show, by the surest person in them."""
    try:
        people, found = _look(model, unlabeled, MOST_UNLABELED, device)
    except DataError as error:
        return f'<p class="muted">No pictures: {text(error)}</p>'
    best = np.zeros(len(people.images))
    np.maximum.at(best, np.searchsorted(people.images.ids, found.image_ids), found.box_scores)
    order = np.argsort(-best, kind="stable")
    groups = {"Surest": order[:SHOWN], "Least sure": order[::-1][: min(SHOWN, max(0, len(order) - SHOWN))]}
    body = f'<p class="small">{len(people.images)} random images of {len(unlabeled.images)} were looked at.</p>'
    for name, rows in groups.items():
        tiles = [_single(people, found, int(row), model, float(best[row])) for row in rows]
        body += f'<h3>{name}</h3><div class="tiles">{"".join(tiles)}</div>' if tiles else ""
    return body


def _look(model: Model, people: People, most: int, device: str, seed: int = 0) -> tuple[People, Poses]:
    """Up to `most` random images, with ids from 1, and whom the network finds in them."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(people.images))[:most])
    chosen = people.within(rows)
    chosen.images.ids[:] = np.arange(1, len(rows) + 1)
    chosen.poses.image_ids = chosen.images.ids[chosen.image_index]
    return chosen, model.predict_people(chosen, EvalOptions(device=device))


def _quality(found: Poses, people: People, row: int, model: Model) -> float:
    """Harmonic mean in 0..100 of precision and recall of the people who are drawn in image `row`."""
    image = people.images.ids[row]
    here, there = found[found.image_ids == image].confident(), people.poses[people.image_index == row]
    precision, recall = np.nan_to_num(people_found(here, there, model.skeleton, [image]))
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def _pair(people: People, found: Poses, row: int, model: Model, quality: float) -> str:
    truth = people.poses[(people.image_index == row) & people.labeled]
    pair = [
        _drawn(people, truth, row, model, faded=False),
        _drawn(people, _of(found, people, row).confident(), row, model),
    ]
    name = Path(people.images.files[row]).name
    return picture(contact_sheet(pair, 2, gap=0), f"Labels and people found in {name}", f"{quality:.0f}  {name}")


def _single(people: People, found: Poses, row: int, model: Model, best: float) -> str:
    name = Path(people.images.files[row]).name
    return picture(
        _drawn(people, _of(found, people, row).confident(), row, model),
        f"People found in {name}",
        f"{best:.2f}  {name}",
    )


def _of(found: Poses, people: People, row: int) -> Poses:
    return found[found.image_ids == people.images.ids[row]]


def _drawn(people: People, poses: Poses, row: int, model: Model, faded: bool = True) -> NDArray[np.uint8]:
    """Image `row` with `poses` on it, a color each, its longer side SIDE pixels; black where it is gone."""
    image = read_image(people.images.files[row])
    tile = scaled(np.zeros((SIDE, SIDE, 3), np.uint8) if image is None else image, SIDE)
    poses = left_to_right(tile.move(poses))
    return draw(tile.pixels, poses, model.skeleton, faded=faded, colors=person_colors(len(poses)))
