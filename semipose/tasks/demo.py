"""`semipose demo`: the main job on people drawn by the program; no data, no downloads."""

from pathlib import Path
from typing import Any

from rich.console import Console

from semipose.data.figures import write_demo
from semipose.data.load import load
from semipose.tasks.run import Run
from semipose.tasks.train import train

# Chosen by `python -m benchmarks.demo`, whose results over three seeds are in benchmarks/results/demo.json.
PICTURES: dict[str, Any] = {"labeled": 40, "unlabeled": 2000, "val": 300, "size": (112, 88), "difficulty": 0.5}
SETTINGS: dict[str, Any] = {
    "method": "mean_teacher", "network": "mobilenet_v1", "width": 0.5, "head_channels": 64, "input_size": "96x64",
    "batch_size": 16, "duration": 800,
}  # fmt: skip


def demo(out: str | Path, seed: int = 0) -> Run:
    """Draw few labeled and many unlabeled people, train on them with and without the unlabeled ones, and compare.

    `out` gets the pictures (people/) and the run (run/). The same `seed` gives the same pictures and the same run.
    """
    out = Path(out)
    Console(stderr=True).print(f"drawing {sum(PICTURES[k] for k in ('labeled', 'unlabeled', 'val'))} people ...")
    files = write_demo(out / "people", seed=seed, **PICTURES)
    data = load(files.labels, files.images, files.unlabeled, files.val, files.val_images, seed=seed)
    return train(data, out=out / "run", twin=True, seed=seed, **SETTINGS)
