"""One job of a comparison in a process of its own: a run trained to its end, and the poses that it is judged by.

    python -m semipose.comparison.job jobs/10pct-seed0-mean_teacher.json

The file says everything. A run that was interrupted is resumed; one that is done costs nothing.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semipose.config.settings import Settings
from semipose.data.people import People
from semipose.engine.setup import choose_precision, make_method, predictor
from semipose.errors import SemiposeError
from semipose.formats.load import load
from semipose.formats.video import Sampling
from semipose.inference.kind import kind_of
from semipose.metrics.truth import digest_of
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.pose.poses import Poses
from semipose.runs.run import Run
from semipose.system.device import choose_device
from semipose.system.files import read_json
from semipose.system.tensor_file import load as read_tensors
from semipose.system.tensor_file import read_record, save
from semipose.tasks.train import resume, train

# What `load` is told where only labels are of interest.
LABELS_ALONE: dict[str, Any] = {
    "split": None,
    "unlabeled": [],
    "detections": None,
    "video_stride": Sampling.stride,
    "video_change": Sampling.change,
}


def run_job(file: str | Path) -> None:
    """Do what is left of the job in `file`."""
    job = read_json(file)
    folder, settings = Path(job["run"]), Settings.from_record(job["settings"])
    if not (folder / "metrics.json").is_file():
        if (folder / "run.json").is_file():
            resume(folder)
        else:
            command = [sys.executable, "-m", "semipose.comparison.job", str(file)]
            data = load(**job["data"], whole_images=settings.kind.whole_images)
            train(data, settings=settings, method_settings=job["options"], out=folder, command=command)
    people = evaluation_people(job)
    if not is_done(job, digest_of(people.poses, Run(folder).skeleton)):
        _find(Run(folder), settings, people, predictions_file(job))


def evaluation_people(job: dict[str, Any]) -> People:
    """The people whom all runs of the comparison are judged by: val, or those of --test."""
    given = {"val": job["data"]["val"], "val_images": job["data"]["val_images"]} | job["judges"]
    whole_images = Settings.from_record(job["settings"]).kind.whole_images
    people = load(**job["data"] | given | LABELS_ALONE, whole_images=whole_images).val
    assert people is not None
    return people


def predictions_file(job: dict[str, Any]) -> Path:
    """Where the poses are kept that the run finds."""
    return Path(job["run"]) / f"found-{'test' if job['judges'] else 'val'}.safetensors"


def is_done(job: dict[str, Any], people: str) -> bool:
    """Whether the run has ended and its poses are those of `people`, a digest."""
    file = predictions_file(job)
    ended = (Path(job["run"]) / "metrics.json").is_file() and file.is_file()
    return ended and read_record(file)["people"] == people


def read_predictions(file: Path, truth: Poses) -> dict[str, Poses]:
    """Checkpoint ("best-teacher") -> its poses of the people `truth`, or of whom it found where they are."""
    tensors, record = read_tensors(file)
    found = {}
    for name in record["checkpoints"]:
        part = {
            key.removeprefix(f"{name}/"): value.numpy() for key, value in tensors.items() if key.startswith(f"{name}/")
        }
        people = truth if "image_ids" not in part else Poses.blank(*part["scores"].shape)
        found[name] = replace(people, visible=np.full(part["scores"].shape, 2, np.uint8), **part)
    return found


def _find(run: Run, settings: Settings, people: People, file: Path) -> None:
    """Write the poses of `people` as the best of each network and the last of the deployed one find them."""
    device = choose_device(settings.device)
    kind, deployed = kind_of(settings.network), run.checkpoint("best").stem
    names = sorted({*(f"best-{name}" for name in (run.metrics or {})["val"]), deployed.replace("best-", "last-")})
    store = kind.store(kind.store_rows(people), settings.input_size, device=device, workers=settings.workers)
    predict = predictor(store, settings, run.skeleton, choose_precision(settings, device))
    tensors: dict[str, torch.Tensor] = {}
    inference = 0
    try:
        for name in names:
            network = run.model(name).network
            found = predict(network.to(device))
            tensors |= {f"{name}/{part}": torch.from_numpy(getattr(found, part)) for part in kind.predicted_fields}
            if name == deployed:
                inference = len(network.members) if isinstance(network, Ensemble) else 1
    finally:
        store.close()
    networks = {"trained": _trained(run, settings), "inference": inference}
    digest = digest_of(people.poses, run.skeleton)
    save(file, tensors, {"checkpoints": names, "people": digest, "networks": networks})


def _trained(run: Run, settings: Settings) -> int:
    """How many networks of the method learn by gradient."""
    method = make_method(
        replace(settings, weights=None), run.config["method_settings"], run.skeleton, torch.device("cpu")
    )
    return sum(
        isinstance(module, PoseNetwork) and any(weight.requires_grad for weight in module.parameters())
        for module in method.modules()
    )


def main(file: str) -> int:
    """Do the job and return its exit code, as the command line does."""
    try:
        run_job(file)
        return 0
    except SemiposeError as error:
        print(f"semipose: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
