"""CPU time of the loader per person, against decoding the image and warping it once.

    python -m benchmarks.loader --out benchmarks/results/loader.json

"Decode" is cv2.imread. "Limit" adds one cv2.warpAffine to 256x192 pixels: the least work of a loader that warps on the
CPU. "uncached" is `CropStore` with `cache="none"`, from rows to a batch of uint8 crops; an image of several people is
decoded once. "ram" and "disk" are epochs from these caches.

One thread per picture, files in the page cache, CPU time of all threads. All variants take turns in one process;
medians over rounds. SEMIPOSE_DATA names the folder of the data (default: ../shared/data).
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from semipose.crops.crop import DENSITY, MARGIN, read_image
from semipose.crops.store import CropStore
from semipose.formats.labels import load_labels
from semipose.system.files import write_json

SETS = {
    "lspet": "person_keypoints_train.json",
    "coco_mini": "person_keypoints_train.json",
    "coco_multi": "person_keypoints_train.json",
}
SIZE = (256, 192)
BATCH = 32


def main() -> None:
    """Measure every data set and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=512, help="largest number of people of each data set")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIPOSE_CACHE"] = folder
        rows = {name: measure(root / name, labels, args.people, args.rounds) for name, labels in SETS.items()}
    results = {"opencv": cv2.__version__, "input": list(SIZE), "rounds": args.rounds, "target": 0.8, "sets": rows}
    write_json(args.out, results)
    for name, row in rows.items():
        print(name, row)


def measure(folder: Path, labels: str, most: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per person on one data set, and the uncached loader's speed relative to the limit."""
    people = load_labels(folder / "annotations" / labels, folder / "images")
    people = people.select(np.sort(np.random.default_rng(0).permutation(len(people))[:most]))
    stores = {cache: CropStore(people, SIZE, cache, disk_limit=10**10) for cache in ("none", "ram", "disk")}
    files = [people.images.files[image] for image in people.image_index]
    warps = stores["none"].affines.numpy()[:, :2] / (DENSITY * MARGIN)
    ways: dict[str, Callable[[], None]] = {
        "decode": lambda: consume(files, lambda row: cv2.imread(files[row])),
        "limit": lambda: consume(files, lambda row: cv2.warpAffine(cv2.imread(files[row]), warps[row], SIZE[::-1])),
        "uncached": lambda: epoch(stores["none"]),
        "ram": lambda: epoch(stores["ram"]),
        "disk": lambda: epoch(stores["disk"]),
    }
    seconds = interleaved(ways, rounds)
    with patch("semipose.crops.decode.read_image", wraps=read_image) as read:
        epoch(stores["ram"])
        epoch(stores["disk"])
    for store in stores.values():
        store.close()
    each = {name: round(1e3 * median(values) / len(people), 3) for name, values in seconds.items()}
    ratios = [limit / ours for limit, ours in zip(seconds["limit"], seconds["uncached"], strict=True)]
    return {
        "people": len(people),
        "images": len(set(files)),
        "cpu_ms": each,
        "uncached_to_limit": round(median(ratios), 3),
        "decoded_in_cached_epochs": read.call_count,
    }


def consume(files: list[str], work: Callable[[int], object]) -> None:
    """Process every row."""
    for row in range(len(files)):
        work(row)


def epoch(store: CropStore) -> None:
    """Read all rows in a random order, with one batch always prefetched."""
    order = np.random.default_rng(1).permutation(len(store))
    waiting = store.ready(order[:BATCH])
    for start in range(BATCH, len(order), BATCH):
        coming = store.ready(order[start : start + BATCH])
        waiting()
        waiting = coming
    waiting()


def interleaved(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant in every round; a warm-up round is dropped."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            spent[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in spent.items()}


if __name__ == "__main__":
    main()
