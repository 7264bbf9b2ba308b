"""Does the demo's answer hold? `semipose demo` over several seeds, and other difficulties beside the chosen one.

    python -m benchmarks.demo --seeds 0 1 2
    python -m benchmarks.demo --seeds 0 --difficulty 0.2 0.8   # how the difficulty was chosen
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from semipose.files import write_json
from semipose.tasks import demo as demo_module
from semipose.tasks.run import Run

FILE = Path(__file__).parent / "results" / "demo.json"


def main() -> None:
    """Run what is asked for; each finished row is written at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--difficulty", type=float, nargs="*", default=[demo_module.PICTURES["difficulty"]])
    parser.add_argument("--runs", type=Path, default=Path("runs/demo-benchmark"))
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    for difficulty in args.difficulty:
        demo_module.PICTURES["difficulty"] = difficulty
        for seed in args.seeds:
            folder = args.runs / f"{difficulty:g}-{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            start = time.perf_counter()
            run = demo_module.demo(folder, seed)
            record(args.out, row_of(run, seed, difficulty, time.perf_counter() - start))


def row_of(run: Run, seed: int, difficulty: float, seconds: float) -> dict[str, Any]:
    """Twin, deployed network, their difference and the time."""
    metrics = run.metrics
    assert metrics is not None
    metric, name = metrics["metric"], metrics["deployed"]["network"]
    values = {net: round(rows["best"]["values"][metric], 2) for net, rows in metrics["val"].items()}
    answer = {key: round(metrics["answer"][key], 2) for key in ("value", "low", "high")}
    return {
        "seed": seed, "difficulty": difficulty, "metric": metric, "deployed": values[name], "networks": values,
        "twin": round(metrics["twin"]["score"]["values"][metric], 2),
        "twin_kind": f"{metrics['twin']['folder']}, {metrics['twin']['network']}",
        "answer": {**answer, "helped": metrics["answer"]["helped"]}, "seconds": round(seconds),
    }  # fmt: skip


def record(file: Path, row: dict[str, Any]) -> None:
    """Add or replace a row; the chosen difficulty's rows stand apart from the others."""
    results = json.loads(file.read_text()) if file.is_file() else {"rows": [], "others": []}
    chosen = row["difficulty"] == demo_module.DIFFICULTY
    rows = results["rows" if chosen else "others"]
    rows[:] = [old for old in rows if (old["seed"], old["difficulty"]) != (row["seed"], row["difficulty"])]
    rows.append(row)
    rows.sort(key=lambda old: (old["difficulty"], old["seed"]))
    settings = {**demo_module.SETTINGS, **{k: v for k, v in demo_module.PICTURES.items() if k != "difficulty"}}
    write_json(file, {"settings": settings, "difficulty": demo_module.DIFFICULTY, **results})


if __name__ == "__main__":
    main()
