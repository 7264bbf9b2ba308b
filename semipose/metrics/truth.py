"""Ground truth for the evaluator: areas, a COCO dict, and a digest that identifies people and labels."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semipose.metrics.pck import Floats
from semipose.pose.poses import AREA_SHARE, Poses
from semipose.pose.skeleton import Skeleton


def areas_of(people: Poses) -> tuple[Floats, NDArray[np.bool_]]:
    """Areas (N,) in square pixels, and a mask of those that are 0.53 x the box, by default or as given."""
    from_box = AREA_SHARE * people.boxes[:, 2].astype(np.float64) * people.boxes[:, 3]
    absent = ~(people.areas > 0)
    return np.where(absent, from_box, people.areas), absent | np.isclose(people.areas, from_box, rtol=1e-3)


def to_coco(people: Poses, skeleton: Skeleton, image_ids: ArrayLike | None = None) -> dict[str, Any]:
    """COCO dict of the people with one category, 1, and the images `image_ids` (default: those of the people)."""
    flat = np.concatenate([people.keypoints, people.visible[..., None]], axis=2).reshape(len(people), -1)
    columns = {
        "image_id": people.image_ids,
        "keypoints": flat,
        "bbox": people.boxes,
        "area": areas_of(people)[0],
        "iscrowd": people.crowd.astype(int),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    annotations = [
        {"id": number, "category_id": 1} | dict(zip(columns, row, strict=True))
        for number, row in enumerate(rows, start=1)
    ]
    images = [{"id": image} for image in np.unique(people.image_ids if image_ids is None else image_ids).tolist()]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": skeleton.name}]}


def digest_of(people: Poses, skeleton: Skeleton, *others: object) -> str:
    """Digest of people, labels, boxes, skeleton and `others`: equal only where all of these are equal."""
    digest = hashlib.sha256(repr((skeleton.keypoints, skeleton.sigmas, *others)).encode())
    labels = (people.keypoints, people.visible, people.boxes, people.areas, people.crowd)
    for array in (people.image_ids, people.ids, *labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
