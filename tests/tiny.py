"""Builders of tiny COCO projects: a json with sound defaults, and pictures beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np

NAMES = ["nose", "left_ear", "right_ear", "tail"]
POINTS = [20, 10, 2, 15, 12, 2, 25, 12, 1, 20, 30, 2]
Change = Callable[[dict[str, Any]], Any]


def picture(file: Path, size: tuple[int, int] = (48, 64), seed: int | None = None) -> Path:
    """A picture of `size` (H, W), another one for every file name or seed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    number = crc32(file.name.encode()) if seed is None else seed
    noise = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
    assert cv2.imwrite(str(file), noise)
    return file


def film(file: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A video of `frames` pictures that all differ, of `size` (H, W); its kind must be .avi."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 20, (size[1], size[0]))
    for number in range(frames):
        writer.write(np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8))
    writer.release()
    return file


def annotation(id: int, image_id: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": list(POINTS),
        "bbox": [10, 5, 20, 30],
        "area": 300.0,
        "iscrowd": 0,
    } | fields


def document(images: int = 3) -> dict[str, Any]:
    """One person in each of `images` pictures of 64 x 48."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(1, images + 1)],
        "annotations": [annotation(10 * i, i) for i in range(1, images + 1)],
        "categories": [{"id": 1, "name": "mouse", "keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3], [1, 4]]}],
    }


def project(folder: Path, change: Change | None = None, images: int = 3, **picture_options: Any) -> tuple[Path, Path]:
    """Write json and pictures; `change` edits the document first. Returns (json, pictures' folder)."""
    value = document(images)
    for image in value["images"]:
        picture(folder / "img" / image["file_name"], **picture_options)
    if change is not None:
        change(value)
    path = folder / "labels.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path, folder / "img"
