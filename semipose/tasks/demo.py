"""`semipose demo`: train on synthetic people; needs no data and no downloads."""

from pathlib import Path
from typing import Any

from rich.console import Console

from semipose.errors import UsageError
from semipose.formats.load import load
from semipose.runs.run import Run
from semipose.synthetic.single import write_demo
from semipose.tasks.train import resume, train

# Chosen with `python -m benchmarks.demo`; its scores over several seeds are in benchmarks/results/demo.json.
DIFFICULTY = 0.2
PICTURES: dict[str, Any] = {
    "labeled": 15,
    "unlabeled": 1500,
    "val": 300,
    "size": (128, 96),
    "difficulty": DIFFICULTY,
}
SETTINGS: dict[str, Any] = {
    "method": "mean_teacher",
    "network": "resnet18",
    "width": 0.25,
    "head_channels": 64,
    "input_size": "128x96",
    "batch_size": 16,
    "duration": 1000,
    "eval_every": 100,
    "lr": 2e-3,
}


def demo(out: str | Path, seed: int = 0) -> Run:
    """Draw few labeled and many unlabeled people, train with and without the unlabeled ones, and compare.

    Writes the pictures (people/) and the run (run/) to `out`, or resumes the demo there. The same `seed` gives the same
    pictures and, on the same machine, the same run. Raises UsageError if `out` holds a demo of another seed.
    """
    folder = Path(out) / "run"
    if (folder / "run.json").is_file():
        found = Run(folder).settings.seed
        if found != seed:
            raise UsageError(f"--out {out} holds a demo of seed {found}, not {seed}; give another folder.")
        return resume(folder)
    count = sum(PICTURES[part] for part in ("labeled", "unlabeled", "val"))
    Console(stderr=True).print(f"drawing {count} people ...")
    files = write_demo(Path(out) / "people", seed=seed, **PICTURES)
    data = load(files.labels, files.images, files.unlabeled, files.val, files.val_images, seed=seed)
    return train(data, out=folder, baseline=True, seed=seed, **SETTINGS)
