"""Time to load a json of 150,000 people, against a bare typed parse of the same file.

    python -m benchmarks.json_speed --out benchmarks/results/json_speed.json

The json is made in a temporary folder from the keypoints of COCO train2017, with an empty file for every image. "Bare"
is one msgspec call with typed records whose keypoints and boxes are lists of numbers, without checks or arrays.
"Reading" is `semipose.formats.labels.load_labels`, with checks and arrays. CPU seconds; both take turns in
one process; medians over rounds. SEMIPOSE_DATA names the folder of the data (default: ../shared/data).
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from semipose.formats.coco_records import AnnotationRecord, Document, ImageRecord
from semipose.formats.labels import load_labels
from semipose.pose.skeleton import PRESETS
from semipose.system.files import write_json


class TypedAnnotation(msgspec.Struct, gc=False):
    """Fields of `AnnotationRecord`, with numbers instead of raw text."""

    id: int
    image_id: int
    category_id: int
    keypoints: list[float]
    bbox: list[float]
    area: float | None = None
    iscrowd: int | bool | None = 0


class TypedDocument(msgspec.Struct):
    """Parts of `Document`."""

    images: list[ImageRecord]
    annotations: list[TypedAnnotation]
    categories: list[dict[str, Any]] = []


def main() -> None:
    """Write the json, time both ways to read it, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        labels, people, images = write_labels(root / "eval" / "coco_train2017_keypoints.npz", Path(folder))
        ways = {
            "bare": lambda: msgspec.json.decode(labels.read_bytes(), type=TypedDocument),
            "unread_numbers": lambda: msgspec.json.decode(labels.read_bytes(), type=Document),
            "reading": lambda: load_labels(labels, labels.parent / "images"),
        }
        seconds = interleaved(ways, args.rounds)
        size = labels.stat().st_size
    results = {
        "people": people,
        "images": images,
        "json_mb": round(size / 1e6, 1),
        "rounds": args.rounds,
        "cpu_seconds": {name: round(value, 3) for name, value in seconds.items()},
        "reading_to_bare": round(seconds["reading"] / seconds["bare"], 3),
        "target": 1.5,
    }
    write_json(args.out, results)
    print(results)


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each variant; a warm-up round is dropped."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            gc.collect()
            start = time.process_time()
            result = way()
            spent[name].append(time.process_time() - start)
            del result
    return {name: median(values[1:]) for name, values in spent.items()}


def write_labels(source: Path, folder: Path) -> tuple[Path, int, int]:
    """Write a COCO json of the people in `source`, with empty images; return (file, people, images)."""
    stored = np.load(source)
    keypoints = np.concatenate([stored["xy"], stored["v"][..., None]], -1).reshape(-1, 51)
    ids, first = np.unique(stored["image_id"], return_index=True)
    names = [f"{number:012d}.jpg" for number in ids.tolist()]
    sizes = stored["image_wh"][first].tolist()
    images = [ImageRecord(int(number), name, *size) for number, name, size in zip(ids, names, sizes, strict=True)]
    areas = (stored["bbox"][:, 2:].astype(float).prod(1) * 0.53).round(2).tolist()
    rows = zip(stored["image_id"].tolist(), keypoints.tolist(), stored["bbox"].tolist(), areas, strict=True)
    people = [
        AnnotationRecord(number, image, 1, raw(points), raw(box), area)
        for number, (image, points, box, area) in enumerate(rows, 1)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(PRESETS["coco_17"].keypoints)}
    (folder / "images").mkdir()
    for name in names:
        (folder / "images" / name).touch()
    labels = folder / "labels.json"
    labels.write_bytes(msgspec.json.encode(Document(images, people, [category])))
    return labels, len(people), len(images)


def raw(values: object) -> msgspec.Raw:
    """Convert a list to the raw json text that a record holds."""
    return msgspec.Raw(msgspec.json.encode(values))


if __name__ == "__main__":
    main()
