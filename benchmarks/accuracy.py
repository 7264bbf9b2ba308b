"""Accuracy of the methods against labels only, on real pictures, under one protocol.

    python -m benchmarks.accuracy --data lspet --profile small
    python -m benchmarks.accuracy --data lspet --profile full --rows baseline_weak baseline_strong pose_dual
    python -m benchmarks.accuracy --data lspet --updates 1200 --rows baseline_weak pose_mum pose_mum-no_eman

Rows:

- `bound`: supervised on all training labels
- `baseline_weak`, `baseline_strong`: labels only, with both kinds of augmentation
- `labels_levels`: labels only, with auxiliary heads
- one row for each method, and for each ablation METHOD-CHANGE

All choices are made on val. Test is scored once per row, for the best and the last checkpoint of every network. Each
finished row is written to `--out` at once, and an interrupted row is resumed. SEMIPOSE_DATA names the folder of the
data (default: ../shared/data).
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import semipose
from semipose import methods
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.formats.labels import load_labels
from semipose.formats.load import load
from semipose.inference.model import Model
from semipose.inference.top_down import predict_people
from semipose.metrics.intervals import difference
from semipose.metrics.score import Score, score
from semipose.runs.records import EvalRow
from semipose.runs.run import Run
from semipose.system.files import write_json
from semipose.tasks.train import resume, train


@dataclass(frozen=True)
class Profile:
    """Settings that all rows of a table share."""

    input_size: str
    duration: int
    network: str = "mobilenet_v1"
    width: float = 0.75
    head_channels: int = 64
    batch_size: int = 16
    lr: float = 1e-3
    labels: str = "10pct"
    metric: str = "pck@0.1"
    weights: str | None = "mobilenet_v1_075.safetensors"


# "small" is for two CPU cores, "full" for a GPU.
SIZES = {"lspet": "256x256", "coco_people": "256x192"}
PROFILES = {
    "small": {
        "lspet": Profile("96x96", 2400),
        "coco_people": Profile("128x96", 2000),
    },
    "full": {data: Profile(size, 5000, head_channels=256, batch_size=64) for data, size in SIZES.items()},
    "full-resnet18": {
        data: Profile(size, 5000, "resnet18", 1.0, 256, 64, weights=None) for data, size in SIZES.items()
    },
}
BASELINES = ("baseline_weak", "baseline_strong")
# row -> method, options, whether all labels are used
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "bound": ("supervised", {}, True),
    "baseline_weak": ("supervised", {"augmentation": "weak"}, False),
    "baseline_strong": ("supervised", {"augmentation": "strong"}, False),
    "labels_levels": ("supervised", {"augmentation": "weak", "levels": (0.1, 0.3)}, False),
    "mean_teacher": ("mean_teacher", {}, False),
    "pose_cons": ("pose_cons", {}, False),
    "pose_dual": ("pose_dual", {}, False),
    "pseudo_label": ("pseudo_label", {}, False),
    "sspcm": ("sspcm", {}, False),
    "pose_mum": ("pose_mum", {}, False),
    "teacher_reviewer_student": ("teacher_reviewer_student", {}, False),
    "multi_augs": ("multi_augs", {}, False),
    "mean_teacher_levels": ("mean_teacher_levels", {}, False),
}
# Teacher-Reviewer-Student without each of its three parts.
PLAIN = {"reviewer": "none", "levels": (0.0, 0.0), "mixes": 0}
# Ablations: each row changes one part. Run by name, shown in a table of their own.
ABLATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "pose_cons-no_ramp": ("pose_cons", {"ramp": 0.0}, False),
    "pose_cons-as_published": ("pose_cons", {"ramp": 0.0, "batch_statistics": True}, False),
    "pose_cons-background": ("pose_cons", {"outside": "background"}, False),
    "pose_cons-no_cutouts": ("pose_cons", {"cutouts": 0}, False),
    "mean_teacher-no_average": ("mean_teacher", {"decay": 0.0}, False),
    "pose_dual-no_ramp": ("pose_dual", {"ramp": 0.0}, False),
    "mean_teacher-no_ramp": ("mean_teacher", {"ramp": 0.0}, False),
    "pose_mum-input": ("pose_mum", {"mix_layers": 0.0}, False),
    "pose_mum-layers": ("pose_mum", {"mix_input": 0.0}, False),
    "pose_mum-no_eman": ("pose_mum", {"eman": False}, False),
    "pose_mum-unmix_heatmap": ("pose_mum", {"unmix": "heatmap"}, False),
    "teacher_reviewer_student-none": ("teacher_reviewer_student", PLAIN, False),
    "teacher_reviewer_student-reviewer": ("teacher_reviewer_student", PLAIN | {"reviewer": "average"}, False),
    "teacher_reviewer_student-levels": ("teacher_reviewer_student", PLAIN | {"levels": (0.1, 0.3)}, False),
    "teacher_reviewer_student-keypoint_mix": ("teacher_reviewer_student", PLAIN | {"mixes": 2}, False),
    "teacher_reviewer_student-snapshot": ("teacher_reviewer_student", {"reviewer": "snapshot"}, False),
    "teacher_reviewer_student-best": ("teacher_reviewer_student", {"reviewer": "best"}, False),
    "teacher_reviewer_student-agreed": ("teacher_reviewer_student", {"fusion": "agreed"}, False),
    "teacher_reviewer_student-average_teacher": ("teacher_reviewer_student", {"teacher": "average"}, False),
    "mean_teacher_levels-no_levels": ("mean_teacher_levels", {"levels": (0.0, 0.0)}, False),
}
COMPARED = ("pck@0.1", "pck@0.2", "oks_ap")
# Not a published method: also compared with the published one that is best on val, and with `labels_levels`.
OWN, HEADS_ALONE = "mean_teacher_levels", "labels_levels"


def main() -> None:
    """Run the requested rows that are not yet in the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["lspet", "coco_people"], required=True)
    parser.add_argument("--profile", choices=list(PROFILES), default="small")
    parser.add_argument("--rows", nargs="*", choices=[*ROWS, *ABLATIONS], default=list(ROWS))
    parser.add_argument("--labels", choices=["1pct", "5pct", "10pct", "20pct", "50pct"], default="10pct")
    parser.add_argument("--seed", type=int, default=0, help="random seed of split and training")
    parser.add_argument(
        "--updates", type=int, help="updates instead of the profile's, for ablations; saved in a file of their own"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"), help="parent of the run folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    profile = replace(PROFILES[args.profile][args.data], labels=args.labels)
    share = "" if args.labels == Profile.labels else f"-{args.labels}"
    name = f"{args.data}-{args.profile}{share}-seed{args.seed}"
    kind = "accuracy"
    if args.updates is not None:
        profile, kind, name = replace(profile, duration=args.updates), "ablations", f"{name}-{args.updates}_updates"
    file, base = args.out / f"{kind}-{name}.json", args.runs / name
    for name in args.rows:
        run, seconds = run_row(name, profile, root, args.data, base / name, args.seed)
        record(file, profile, args.data, args.seed, {name: describe(run, seconds)})
        compare(file, base, root / args.data, profile)


def run_row(name: str, profile: Profile, root: Path, data: str, folder: Path, seed: int) -> tuple[Run, float]:
    """Train or resume one row; return the run and the seconds spent in this call."""
    start = time.perf_counter()
    if (folder / "metrics.json").is_file():
        return Run(folder), 0.0
    if (folder / "run.json").is_file():
        return resume(folder), time.perf_counter() - start
    method, options, all_labels = (ROWS | ABLATIONS)[name]
    annotations, images = root / data / "annotations", root / data / "images"
    split = None if all_labels else root / data / "splits" / f"semi_{profile.labels}_seed{seed}.json"
    people = load(
        annotations / "person_keypoints_train.json",
        images,
        split=split,
        val=annotations / "person_keypoints_val.json",
    )
    run = train(
        people,
        method=method,
        method_settings=options,
        out=folder,
        seed=seed,
        network=profile.network,
        width=profile.width,
        head_channels=profile.head_channels,
        input_size=profile.input_size,
        duration=profile.duration,
        batch_size=profile.batch_size,
        lr=profile.lr,
        metric=profile.metric,
        weights=root / "weights" / profile.weights if profile.weights else None,
    )
    return run, time.perf_counter() - start


def describe(run: Run, seconds: float) -> dict[str, Any]:
    """Describe a row for the results, without test scores."""
    metrics, record = run.metrics, run.record
    assert metrics is not None
    assert metrics.val is not None
    unlabeled = record.data.unlabeled if methods.load(record.method).uses_unlabeled else None
    return {
        "method": record.method,
        "options": record.method_settings,
        "labeled": record.data.labeled.people,
        "unlabeled": unlabeled.people if unlabeled else 0,
        "deployed": metrics.deployed.network,
        "update": metrics.deployed.update,
        "rule": metrics.deployed.rule,
        "seconds": round(seconds),
        "val": {
            net: {"best": short(scores.best.values), "last": short(scores.last.values)}
            for net, scores in metrics.val.items()
        },
        "curve": [
            [row.update, {net: round(each.values["pck@0.1"], 2) for net, each in row.networks.items()}]
            for row in run.log()
            if isinstance(row, EvalRow)
        ],
    }


def compare(file: Path, base: Path, data: Path, profile: Profile) -> None:
    """Score missing rows on test, and compare every method with the baseline that is best on val."""
    results = json.loads(file.read_text())
    rows = results["rows"]
    people = load_labels(data / "annotations" / "person_keypoints_test.json", data / "images")
    height, width = (int(side) for side in profile.input_size.split("x"))
    store = CropStore(people, (height, width))
    baselines = {
        (name, net): row["val"][net]["best"][profile.metric]
        for name, row in rows.items()
        if name in BASELINES
        for net in row["val"]
    }
    baseline, net = (
        max(baselines, key=lambda key: baselines[key]) if all(name in rows for name in BASELINES) else (None, None)
    )
    chosen = {"row": baseline, "network": net, "rule": f"best on val by {profile.metric}"}
    if results.get("baseline") != chosen:
        for row in rows.values():
            row.pop("against_baseline", None)
    fresh = {name for name, row in rows.items() if "test" not in row}
    compared = {
        name
        for name, row in rows.items()
        if baseline and "against_baseline" not in row and name not in (*BASELINES, "bound")
    }
    rivals = {"against_best": best_published(rows, profile.metric), "against_heads_alone": HEADS_ALONE}
    rivals = {
        key: name
        for key, name in rivals.items()
        if OWN in rows and name in rows and rows[OWN].get(key, {}).get("row") != name
    }
    if rivals:
        compared |= {OWN, *rivals.values()}
    needed = fresh | compared | ({baseline} if baseline and compared else set())
    scores = {name: score_test(base / name, store, people) for name in rows if name in needed}
    for name in fresh:
        rows[name]["test"] = {
            net: {which: values(s) for which, s in each.items()} for net, each in scores[name].items()
        }
    if baseline and net:
        results["baseline"] = chosen
        for name in compared:
            mine = scores[name][rows[name]["deployed"]]["best"]
            rows[name]["against_baseline"] = differences(mine, scores[baseline][net]["best"])
    for key, name in rivals.items():
        mine, other = (scores[each][rows[each]["deployed"]]["best"] for each in (OWN, name))
        rows[OWN][key] = {"row": name, **differences(mine, other)}
    write_json(file, results)


def best_published(rows: dict[str, Any], metric: str) -> str | None:
    """Name of the published method, with default options, that is best on val."""
    known = [name for name in rows if name in ROWS and name not in (*BASELINES, "bound", OWN, HEADS_ALONE)]
    return max(known, key=lambda name: rows[name]["val"][rows[name]["deployed"]]["best"][metric], default=None)


def differences(mine: Score, other: Score) -> dict[str, Any]:
    """Paired differences in favor of `mine`, with intervals, for each compared metric."""
    return {
        metric: {key: round(getattr(change, key), 2) for key in ("value", "low", "high")} | {"helped": change.helped}
        for metric in COMPARED
        for change in [difference(mine, other, metric)]
    }


def score_test(folder: Path, store: CropStore, people: People) -> dict[str, dict[str, Score]]:
    """Score the best and the last checkpoint of each network on the test people."""
    scores: dict[str, dict[str, Score]] = {}
    for best in sorted((folder / "checkpoints").glob("best-*.safetensors")):
        name = best.stem.removeprefix("best-")
        scores[name] = {}
        for which in ("best", "last"):
            model = Model.load(best.with_stem(f"{which}-{name}"))
            predicted = predict_people(model.network, store, model.skeleton)
            scores[name][which] = score(predicted, people.poses, model.skeleton)
    return scores


def record(file: Path, profile: Profile, data: str, seed: int, rows: dict[str, Any]) -> None:
    """Add rows to the results file; existing rows keep their measured time."""
    results = json.loads(file.read_text()) if file.is_file() else {}
    old = results.get("rows", {})
    for name, row in rows.items():
        if row["seconds"] == 0 and name in old:
            row["seconds"] = old[name]["seconds"]
    write_json(
        file,
        {
            "data": data,
            "seed": seed,
            "profile": asdict(profile),
            "semipose": semipose.__version__,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            "protocol": "given boxes, no flip test, DARK decoding; everything chosen on val, test scored for the "
            "chosen and the last checkpoint; intervals: 95 %, bootstrap over test images; one seed; seconds are wall "
            "time, whatever else the machine was doing",
            "initialization": f"ImageNet ({profile.weights}), head random" if profile.weights else "random",
            "rows": {**old, **rows},
            **{key: results[key] for key in ("baseline",) if key in results},
        },
    )


def short(metrics: dict[str, float]) -> dict[str, float]:
    """Select the metrics that tables show."""
    return {key: round(metrics[key], 2) for key in (*COMPARED, "pixel_error", "oks_ar") if key in metrics}


def values(result: Score) -> dict[str, Any]:
    """Round the metrics of a test score, with their intervals."""
    spans = {key: [round(v, 2) for v in span] for key, span in result.intervals.items() if key in COMPARED}
    return {**short(result.values), "intervals": spans, "people": result.counts["people"]}


if __name__ == "__main__":
    main()
