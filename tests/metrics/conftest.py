"""People made by the program, and COCO jsons made of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS

SIGMAS = PRESETS["coco_17"].sigmas


def made_people(
    people: int = 60,
    *,
    images: int = 40,
    noise: float = 5.0,
    seed: int = 0,
    keypoints: int = 17,
    truth_seed: int = 7,
) -> tuple[Poses, Poses]:
    """Predicted and true people; `seed` moves the prediction only, `noise` in pixels per axis, boxes 50 to
    300 px.
    """
    there, chance = np.random.default_rng(truth_seed), np.random.default_rng(seed)
    sides = there.uniform(50, 300, (people, 2))
    corners = there.uniform(0, 400, (people, 2))
    points = corners[:, None] + there.uniform(0, 1, (people, keypoints, 2)) * sides[:, None]
    image = np.sort(np.concatenate([np.arange(images), there.integers(0, images, people - images)]))
    truth = Poses.blank(people, keypoints)
    truth.keypoints, truth.boxes = (
        points.astype(np.float32),
        np.concatenate([corners, sides], 1).astype(np.float32),
    )
    truth.visible = there.choice([0, 1, 2], (people, keypoints), p=[0.2, 0.2, 0.6]).astype(np.uint8)
    truth.image_ids, truth.ids = 100 + 3 * image, 1000 + np.arange(people)
    truth.areas = (0.7 * sides[:, 0] * sides[:, 1]).astype(np.float32)
    predicted = truth[np.arange(people)]
    predicted.keypoints = (points + noise * chance.normal(size=points.shape)).astype(np.float32)
    predicted.scores = chance.uniform(0, 1, (people, keypoints)).astype(np.float32)
    return predicted, truth


def made_coco(seed: int, *, keypoints: int = 17, images: int = 6, most: int = 5) -> tuple[dict[str, Any], list[Any]]:
    """A crowded COCO json and results with everything that is awkward: crowds, people without points, equal
    scores, equal similarities (coarse coordinates), duplicates, images without people or without results.
    """
    chance = np.random.default_rng(seed)
    people, results = [], []
    for image in range(1, images + 1):
        for _ in range(chance.integers(0, most)):
            visible = chance.choice([0, 1, 2], keypoints, p=[0.3, 0.2, 0.5]) * (chance.random() > 0.2)
            side = chance.choice([20.0, 60.0, 150.0])
            corner = chance.integers(0, 4, 2) * 20.0
            points = corner + np.round(chance.uniform(0, 1, (keypoints, 2)) * side)
            flat = np.concatenate([points * (visible > 0)[:, None], visible[:, None]], 1).ravel().tolist()
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "keypoints": flat,
                    "iscrowd": int(chance.random() < 0.15),
                    "num_keypoints": int((visible > 0).sum()),
                    "bbox": [*corner.tolist(), side, side],
                    "area": 0.8 * side * side,
                }
            )
            for _ in range(chance.integers(0, 3)):
                noise = side * chance.choice([0, 0.03, 0.06, 0.1, 0.3])
                moved = points + np.round(chance.normal(size=points.shape) * noise)
                flat = np.concatenate([moved, np.ones((keypoints, 1))], 1).ravel().tolist()
                score = float(chance.choice([0.2, 0.5, 0.5, 0.9]))
                results.append({"image_id": image, "category_id": 1, "keypoints": flat, "score": score})
    names = [f"point_{k}" for k in range(keypoints)]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    return {
        "images": [{"id": n + 1} for n in range(images)],
        "annotations": people,
        "categories": [category],
    }, results


@pytest.fixture
def people() -> Callable[..., tuple[Poses, Poses]]:
    return made_people


@pytest.fixture
def coco() -> Callable[..., tuple[dict[str, Any], list[Any]]]:
    return made_coco
