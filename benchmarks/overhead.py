"""Accuracy of SSPCM against its supervised baseline on synthetic people, seen from overhead by a fisheye lens.

    python -m benchmarks.overhead --weights mobilenet_v1_075.safetensors

Keypoints, their order and sigmas are those of WEPDTOF-Pose; views are rotated by any angle. `--seed` determines the
pictures and all random numbers. All choices are made on val; test is scored once. An interrupted run is resumed.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from semipose.formats.labels import load_labels
from semipose.formats.load import load
from semipose.inference.model import Model
from semipose.metrics.intervals import difference
from semipose.metrics.score import Score, score
from semipose.runs.run import Run
from semipose.synthetic.single import write_demo
from semipose.system.files import write_json
from semipose.tasks.train import resume, train

PICTURES: dict[str, Any] = {
    "labeled": 100,
    "unlabeled": 1500,
    "val": 200,
    "test": 500,
    "size": (112, 112),
    "difficulty": 0.2,
    "overhead": True,
}
SETTINGS: dict[str, Any] = {
    "method": "sspcm",
    "network": "mobilenet_v1",
    "width": 0.75,
    "head_channels": 64,
    "input_size": "96x96",
    "batch_size": 16,
    "duration": 1200,
    "rotation": 180,
    "metric": "oks_ap",
}
METRICS = ("pck@0.1", "oks_ap", "oks_ap50")


def main() -> None:
    """Render the pictures, train or resume, and score on test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="weights of the backbone; default: random")
    parser.add_argument("--folder", type=Path, default=Path("runs/overhead"), help="folder of the pictures and the run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    args = parser.parse_args()
    start = time.perf_counter()
    files = write_demo(args.folder / "people", seed=args.seed, **PICTURES)
    assert files.test is not None
    assert files.test_images is not None
    folder = args.folder / "run"
    if (folder / "run.json").is_file():
        run = resume(folder)
    else:
        data = load(files.labels, files.images, files.unlabeled, files.val, files.val_images, seed=args.seed)
        run = train(data, out=folder, baseline=True, seed=args.seed, weights=args.weights, **SETTINGS)
    test = load_labels(files.test, files.test_images)
    metrics = run.metrics
    assert metrics is not None
    assert metrics.val is not None
    assert metrics.baseline is not None
    baseline, deployed = metrics.baseline, metrics.deployed.network

    def scored(of: Path, network: str, which: str = "best") -> Score:
        model = Model.load(of / "checkpoints" / f"{which}-{network}.safetensors")
        return score(model.predict_people(test), test.poses, model.skeleton)

    mine, other = scored(run.folder, deployed), scored(Run(run.folder / baseline.folder).folder, baseline.network)
    write_json(
        args.out,
        {
            "pictures": PICTURES,
            "settings": SETTINGS,
            "seed": args.seed,
            "initialization": f"ImageNet ({args.weights.name})" if args.weights else "random",
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "val": {
                name: {metric: round(scores.best.values[metric], 2) for metric in METRICS}
                for name, scores in metrics.val.items()
            },
            "test": {name: values(scored(run.folder, name)) for name in metrics.val},
            "test_last": values(scored(run.folder, deployed, "last")),
            "baseline": f"{baseline.folder}, {baseline.network}",
            "test_baseline": values(other),
            "against_baseline": {
                metric: {key: round(getattr(change, key), 2) for key in ("value", "low", "high")}
                | {"helped": change.helped}
                for metric in METRICS
                for change in [difference(mine, other, metric)]
            },
        },
    )


def values(score: Score) -> dict[str, float]:
    """Select the reported metrics."""
    return {name: round(score.values[name], 2) for name in METRICS}


if __name__ == "__main__":
    main()
