"""Accuracy of detector-free networks on pictures of several people, from labels only to all labels.

    python -m benchmarks.multi_person --data crowds --network higher_hrnet --labels 20pct
    python -m benchmarks.multi_person --data coco_multi --network higher_hrnet --labels 20pct --rows S H H+I F

Rows:

- `S`: labels only, on the labeled part
- `H`: heatmap consistency only
- `T`: two stages of pseudo-labels
- `I`: pseudo people only
- `H+I`: heatmap consistency and pseudo people
- `F`: labels only, on all labels

`crowds` are pictures of synthetic people, 128 px with 8 keypoints. `coco_multi` are real pictures from the folder
SEMIPOSE_DATA (default: ../shared/data). All choices are made on val; test is scored once per row. Each finished row is
written to `--out` at once, and an interrupted row is resumed. Rows are compared with S where S has been trained.
"""

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import semipose
from semipose.data.splits import load_split
from semipose.formats.labels import load_labels
from semipose.formats.load import load
from semipose.metrics.intervals import difference
from semipose.metrics.multi_person import precision_and_recall
from semipose.metrics.score import Score
from semipose.runs.records import TrainRow
from semipose.runs.run import Run
from semipose.synthetic.crowd import write_crowds
from semipose.system.files import write_json
from semipose.tasks.evaluate import evaluate
from semipose.tasks.train import resume, train

METHOD = "instance_pseudo_label"
# row -> method, options, whether all labels are used
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "S": ("supervised", {}, False),
    "H": (METHOD, {"instances": 0.0}, False),
    "T": ("pseudo_label", {}, False),
    "I": (METHOD, {"heatmaps": 0.0}, False),
    "H+I": (METHOD, {}, False),
    "F": ("supervised", {}, True),
}
METRICS = ("oks_ap", "oks_ap50", "oks_ar", "oks_ap_easy", "oks_ap_medium", "oks_ap_hard")
# Synthetic pictures for training, val and test; smallest and largest number of people in each; difficulty.
COUNTS = {"train": 1500, "val": 150, "test": 600}
PEOPLE, DIFFICULTY = (2, 5), 0.2
# Unlabeled images on which pseudo people are scored, and their lowest score.
MAX_UNLABELED, MIN_SCORE = 300, 0.3


@dataclass(frozen=True)
class Profile:
    """Settings that all rows of a table share."""

    input_size: str
    duration: int
    batch_size: int = 8
    backbone: str = "mobilenet_v1"
    width: float = 0.75
    head_channels: int = 64
    lr: float = 1e-3
    adaptive: bool = False  # DEKR's convolution
    fine: bool = False  # HigherHRNet's maps of stride 2
    metric: str = "oks_ap"
    eval_every: int = 200


PROFILES = {
    "crowds": Profile("128x128", 1000, batch_size=16, lr=2e-3),
    "coco_multi": Profile("256x256", 1000),
}


class Files(NamedTuple):
    """Labels and images of each part."""

    train: Path
    val: Path
    test: Path
    images: dict[str, Path]
    split: Path


def main() -> None:
    """Run the requested rows that are not yet in the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(PROFILES), required=True)
    parser.add_argument("--network", choices=["higher_hrnet", "dekr", "cid"], default="higher_hrnet")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--labels", choices=["5pct", "20pct", "50pct"], default="20pct")
    parser.add_argument("--seed", type=int, default=0, help="random seed of split, pictures and training")
    parser.add_argument("--runs", type=Path, default=Path("runs/multi_person"), help="parent of the run folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    name = f"{args.data}-{args.network}-{args.labels}-seed{args.seed}"
    make = crowds if args.data == "crowds" else real
    files = make(args.runs / f"crowds-seed{args.seed}", root, args.labels, args.seed)
    file, profile = args.out / f"multi_person-{name}.json", PROFILES[args.data]
    weights = root / "weights" / "mobilenet_v1_075.safetensors"
    for row in args.rows:
        if row not in recorded(file):
            run, seconds = run_row(row, profile, files, args.network, weights, folder(args, row), args.seed)
            result = describe(run, files, seconds) | scored(row, folder(args, row), folder(args, "S"), files)
            record(file, profile, args, row, result)


def folder(args: argparse.Namespace, row: str) -> Path:
    """Run folder of a row; with all labels it is the same for every share of labels."""
    share = "all" if ROWS[row][2] else args.labels
    return args.runs / f"{args.data}-{args.network}-{share}-seed{args.seed}" / row


def crowds(base: Path, root: Path, labels: str, seed: int) -> Files:
    """Pictures of synthetic people, made once; the first ones are labeled, so that the parts are nested."""
    found = {}
    for number, (part, count) in enumerate(COUNTS.items()):
        place = base / part
        done = sorted(place.glob("*.json"))
        found[part] = (
            done[0]
            if done
            else write_crowds(
                place, count, seed=seed, first_index=number * 1_000_000, people=PEOPLE, difficulty=DIFFICULTY
            )
        )
    ids = load_labels(found["train"], base / "train" / "images", include_ignored=True).images.ids.tolist()
    first = round(len(ids) * int(labels.removesuffix("pct")) / 100)
    split = base / f"semi_{labels}.json"
    write_json(split, {"labeled": ids[:first], "unlabeled": ids[first:]})
    images = {part: base / part / "images" for part in COUNTS}
    return Files(found["train"], found["val"], found["test"], images, split)


def real(base: Path, root: Path, labels: str, seed: int) -> Files:
    """COCO photos with several people."""
    place = root / "coco_multi"
    train, val, test = (place / "annotations" / f"person_keypoints_{part}.json" for part in COUNTS)
    split = place / "splits" / f"semi_{labels}_seed{seed}.json"
    return Files(train, val, test, dict.fromkeys(COUNTS, place / "images"), split)


def run_row(
    name: str, profile: Profile, files: Files, network: str, weights: Path, place: Path, seed: int
) -> tuple[Run, float]:
    """Train or resume one row; return the run and the seconds spent in this call."""
    start = time.perf_counter()
    if (place / "metrics.json").is_file():
        return Run(place), 0.0
    if (place / "run.json").is_file():
        return resume(place), time.perf_counter() - start
    method, options, all_labels = ROWS[name]
    data = load(
        files.train,
        files.images["train"],
        split=None if all_labels else files.split,
        val=files.val,
        val_images=files.images["val"],
        seed=seed,
        whole_images=True,
    )
    settings = asdict(profile)
    for name, of in (("adaptive", "dekr"), ("fine", "higher_hrnet")):
        if network != of:
            del settings[name]
    run = train(
        data,
        method=method,
        method_settings=options,
        out=place,
        seed=seed,
        network=network,
        weights=weights,
        **settings,
    )
    return run, time.perf_counter() - start


def describe(run: Run, files: Files, seconds: float) -> dict[str, Any]:
    """Describe a row for the results, without test scores."""
    metrics, record = run.metrics, run.record
    assert metrics is not None
    assert metrics.val is not None
    rows = [row for row in run.log() if isinstance(row, TrainRow)]
    logged = [value for row in rows if (value := row.signals.get("threshold")) is not None]
    return {
        "method": record.method,
        "options": record.method_settings,
        "deployed": metrics.deployed.network,
        "update": metrics.deployed.update,
        "seconds": round(seconds),
        "val": {
            net: {"best": short(scores.best.values), "last": short(scores.last.values)}
            for net, scores in metrics.val.items()
        },
        "pseudo_people": pseudo_people(run, files),
        "thresholds": [round(each, 3) for each in logged[::5]],
    }


def pseudo_people(run: Run, files: Files) -> dict[str, float | None]:
    """Precision and recall of confident predictions on unlabeled images, by their hidden labels.

    Precision is None without confident predictions.
    """
    everybody = load_labels(files.train, files.images["train"], include_ignored=True)
    hidden = np.isin(everybody.images.ids, load_split(files.split).unlabeled)
    people = everybody.within(np.flatnonzero(hidden)[:MAX_UNLABELED])
    predicted = run.model().predict_people(people)
    precision, recall = precision_and_recall(
        predicted[predicted.box_scores >= MIN_SCORE], people.poses, run.skeleton, people.images.ids
    )
    shown = None if math.isnan(precision) else round(precision, 1)
    return {"least_score": MIN_SCORE, "precision": shown, "recall": round(recall, 1)}


def scored(name: str, place: Path, supervised: Path, files: Files) -> dict[str, Any]:
    """Test scores of a row, and its difference to the `supervised` one, which is trained first."""
    mine = score_test(place, files)
    row: dict[str, Any] = {"test": {which: values(each) for which, each in mine.items()}}
    if name not in ("S", "F") and (supervised / "metrics.json").is_file():
        other = evaluate(Run(supervised), files.test, files.images["test"], which="best")
        differences = {metric: difference(mine["best"], other, metric) for metric in METRICS if metric in other.values}
        row["against_S"] = {
            metric: {key: round(getattr(each, key), 2) for key in ("value", "low", "high")} | {"helped": each.helped}
            for metric, each in differences.items()
        }
    return row


def score_test(place: Path, files: Files) -> dict[str, Score]:
    """Score the best and the last checkpoint of the deployed network on the test images."""
    run = Run(place)
    return {which: evaluate(run, files.test, files.images["test"], which=which) for which in ("best", "last")}


def recorded(file: Path) -> dict[str, dict[str, Any]]:
    """Rows that are already in the results."""
    rows: dict[str, dict[str, Any]] = json.loads(file.read_text())["rows"] if file.is_file() else {}
    return rows


def record(file: Path, profile: Profile, args: argparse.Namespace, name: str, row: dict[str, Any]) -> None:
    """Add a row to the results file."""
    rows = {**recorded(file), name: row}
    pictures = {**COUNTS, "people": PEOPLE, "difficulty": DIFFICULTY} if args.data == "crowds" else None
    write_json(
        file,
        {
            "data": args.data,
            "network": args.network,
            "labels": args.labels,
            "seed": args.seed,
            "profile": asdict(profile),
            "pictures": pictures,
            "semipose": semipose.__version__,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "protocol": "own detections, whole images letterboxed, no flip test; everything chosen on val, test scored "
            "for the chosen and the last checkpoint of the deployed network; intervals: 95 %, bootstrap over test "
            "images; one seed; seconds are wall time, whatever else the machine was doing",
            "initialization": "ImageNet backbone (mobilenet_v1_075.safetensors), head random",
            "rows": {row: rows[row] for row in ROWS if row in rows},
        },
    )


def short(metrics: dict[str, float]) -> dict[str, float]:
    """Select the metrics that tables show."""
    return {key: round(metrics[key], 2) for key in METRICS if key in metrics}


def values(score: Score) -> dict[str, Any]:
    """Round the metrics of a test score, with their intervals."""
    spans = {key: [round(v, 2) for v in span] for key, span in score.intervals.items() if key in METRICS}
    return {**short(score.values), "intervals": spans}


if __name__ == "__main__":
    main()
