"""Repeatability of `semipose demo` over several seeds, and other settings for comparison.

    python -m benchmarks.demo --seeds 0 1 2
    OMP_NUM_THREADS=2 python -m benchmarks.demo --seeds 0     # another number of threads rounds differently
    python -m benchmarks.demo --seeds 0 --labeled 30 --difficulty 0.2 0.6     # how labels and difficulty were chosen

Runs with another number of labels, difficulty or number of threads are rows of their own.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from semipose.runs.run import Run
from semipose.system.files import write_json
from semipose.tasks import demo as demo_module

FILE = Path(__file__).parent / "results" / "demo.json"
# Settings that identify a row.
KEYS = ("labeled", "difficulty", "threads", "seed")


def main() -> None:
    """Run the requested settings; each finished row is written at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--labeled", type=int, nargs="*", default=[demo_module.PICTURES["labeled"]])
    parser.add_argument("--difficulty", type=float, nargs="*", default=[demo_module.PICTURES["difficulty"]])
    parser.add_argument("--runs", type=Path, default=Path("runs/demo-benchmark"))
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    chosen = {name: demo_module.PICTURES[name] for name in ("labeled", "difficulty")}
    for labeled in args.labeled:
        for difficulty in args.difficulty:
            demo_module.PICTURES.update(labeled=labeled, difficulty=difficulty)
            for seed in args.seeds:
                folder = args.runs / f"{labeled}-{difficulty:g}-{torch.get_num_threads()}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                start = time.perf_counter()
                row = row_of(demo_module.demo(folder, seed))
                record(args.out, {**row, "seed": seed, "seconds": round(time.perf_counter() - start)}, chosen)


def row_of(run: Run) -> dict[str, Any]:
    """Settings, score of the baseline, score of the deployed network, and their difference."""
    metrics = run.metrics
    assert metrics is not None
    assert metrics.val is not None
    assert metrics.baseline is not None
    assert metrics.against_baseline is not None
    metric, name, difference = metrics.metric, metrics.deployed.network, metrics.against_baseline
    values = {net: round(scores.best.values[metric], 2) for net, scores in metrics.val.items()}
    change = {key: round(getattr(difference, key), 2) for key in ("value", "low", "high")}
    return {
        "labeled": demo_module.PICTURES["labeled"],
        "difficulty": demo_module.PICTURES["difficulty"],
        "threads": torch.get_num_threads(),
        "metric": metric,
        "deployed": values[name],
        "networks": values,
        "baseline": round(metrics.baseline.score.values[metric], 2),
        "baseline_kind": f"{metrics.baseline.folder}, {metrics.baseline.network}",
        "answer": {**change, "helped": difference.helped},
    }


def record(file: Path, row: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Add or replace a row; rows with the `chosen` labels and difficulty come first."""
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    rows = [old for old in rows if any(old[key] != row[key] for key in KEYS)] + [row]
    rows.sort(key=lambda old: (any(old[key] != value for key, value in chosen.items()), *(old[key] for key in KEYS)))
    settings = {**demo_module.SETTINGS, **{k: v for k, v in demo_module.PICTURES.items() if k not in chosen}}
    write_json(file, {"settings": settings, "chosen": chosen, "rows": rows})


if __name__ == "__main__":
    main()
