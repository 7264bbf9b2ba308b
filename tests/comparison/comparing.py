"""Small comparisons on synthetic people, whose jobs run one after the other in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

import semipose as sp
from semipose.comparison import job
from semipose.runs.records import to_json
from semipose.synthetic.single import write_people

TINY: dict[str, Any] = {
    "network": "mobilenet_v1",
    "width": 0.125,
    "head_channels": 8,
    "input_size": "64x64",
    "batch_size": 4,
    "duration": 4,
    "eval_every": 2,
    "log_every": 1,
    "device": "cpu",
    "workers": 1,
}


class Here:
    """Takes the place of `launch.Local`; `started` lists the jobs that were started."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def __call__(self, file: Path, place: int) -> "Here.Done":
        self.started.append(file.stem)
        return Here.Done(file)

    class Done:
        """A job that has already ended."""

        def __init__(self, file: Path) -> None:
            try:
                self.how = "failed" if job.main(str(file)) else ""
            except RuntimeError as error:
                self.how = str(error)

        def ended(self) -> str | None:
            return self.how

        def stop(self) -> None:
            pass

        def kill(self) -> None:
            pass


def people(folder: Path, count: int, seed: int = 0) -> tuple[Path, Path]:
    """(labels, images) of synthetic people."""
    return write_people(folder, count, seed=seed, size=(72, 64), difficulty=0.2), folder / "images"


def compare(labels: Path, out: Path, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    """The result of a comparison in `out`, and the names of the jobs that ran for it."""
    here = Here()
    options = {"methods": "pose_dual", "label_amounts": "20%", "seeds": 1} | TINY | changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semipose.comparison.compare.Local", lambda *arguments: here)
        # Intervals and pictures of single runs take half of the time, and are not asked for here.
        patch.setattr("semipose.metrics.score.bootstrap", lambda *arguments, **options: {})
        patch.setattr("semipose.tasks.train.write_report", lambda run, **options: run.folder)
        result = sp.compare(labels, labels.parent / "images", out=out, **options)
    return json.loads(json.dumps(to_json(result))), here.started
