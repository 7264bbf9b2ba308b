"""One job of a comparison in its own process: a job file in, a trained run and its predictions out.

    python -m semipose.comparison.job jobs/10pct-seed0-mean_teacher.json

An interrupted run is resumed; a finished one is left alone.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semipose.comparison.records import JobRecord
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
from semipose.runs.records import read_json_as
from semipose.runs.run import Run
from semipose.system.device import choose_device
from semipose.system.tensor_file import load as read_tensors
from semipose.system.tensor_file import read_record, save
from semipose.tasks.train import resume, train

# Arguments of `load` that leave out unlabeled data.
LABELED_ONLY: dict[str, Any] = {
    "split": None,
    "unlabeled": [],
    "detections": None,
    "video_stride": Sampling.stride,
    "video_change": Sampling.change,
}


def run_job(file: str | Path) -> None:
    """Train the run of the job in `file` and predict the people it is scored on, as far as that is not done."""
    job = read_json_as(Path(file), JobRecord)
    folder, settings = Path(job.run), job.training
    if not (folder / "metrics.json").is_file():
        if (folder / "run.json").is_file():
            resume(folder)
        else:
            command = [sys.executable, "-m", "semipose.comparison.job", str(file)]
            data = load(**job.data, whole_images=settings.kind.whole_images)
            train(data, settings=settings, method_settings=job.options, out=folder, command=command)
    people = evaluation_people(job)
    if not is_done(job, digest_of(people.poses, Run(folder).skeleton)):
        _predict(Run(folder), settings, people, predictions_file(job))


def evaluation_people(job: JobRecord) -> People:
    """People that all runs of the comparison are scored on: those of --test, else val."""
    val = {"val": job.data["val"], "val_images": job.data["val_images"]} | job.test
    people = load(**job.data | val | LABELED_ONLY, whole_images=job.training.kind.whole_images).val
    assert people is not None
    return people


def predictions_file(job: JobRecord) -> Path:
    """File of the run's predictions."""
    return Path(job.run) / f"found-{job.scored_on}.safetensors"


def is_done(job: JobRecord, people: str) -> bool:
    """Whether the run has ended and its predictions are of the people with the digest `people`."""
    file = predictions_file(job)
    ended = (Path(job.run) / "metrics.json").is_file() and file.is_file()
    return ended and read_record(file)["people"] == people


def read_predictions(file: Path, truth: Poses) -> dict[str, Poses]:
    """Poses by checkpoint ("best-teacher"): those of the people `truth`, or of detected people."""
    tensors, record = read_tensors(file)
    predictions = {}
    for name in record["checkpoints"]:
        part = {
            key.removeprefix(f"{name}/"): value.numpy() for key, value in tensors.items() if key.startswith(f"{name}/")
        }
        people = truth if "image_ids" not in part else Poses.blank(*part["scores"].shape)
        predictions[name] = replace(people, visible=np.full(part["scores"].shape, 2, np.uint8), **part)
    return predictions


def _predict(run: Run, settings: Settings, people: People, file: Path) -> None:
    """Write predictions for `people` by the best checkpoint of each network and the last of the deployed one."""
    device = choose_device(settings.device)
    kind, deployed = kind_of(settings.network), run.checkpoint("best").stem
    scored = run.metrics.val if run.metrics else None
    names = sorted({*(f"best-{name}" for name in scored or ()), deployed.replace("best-", "last-")})
    store = kind.store(kind.store_rows(people), settings.input_size, device=device, workers=settings.workers)
    predict = predictor(store, settings, run.skeleton, choose_precision(settings, device))
    tensors: dict[str, torch.Tensor] = {}
    inference = 0
    try:
        for name in names:
            network = run.model(name).network
            poses = predict(network.to(device))
            tensors |= {f"{name}/{part}": torch.from_numpy(getattr(poses, part)) for part in kind.predicted_fields}
            if name == deployed:
                inference = len(network.members) if isinstance(network, Ensemble) else 1
    finally:
        store.close()
    networks = {"trained": _trained(run, settings), "inference": inference}
    digest = digest_of(people.poses, run.skeleton)
    save(file, tensors, {"checkpoints": names, "people": digest, "networks": networks})


def _trained(run: Run, settings: Settings) -> int:
    """Number of networks of the method that learn by gradient."""
    method = make_method(replace(settings, weights=None), run.record.method_settings, run.skeleton, torch.device("cpu"))
    return sum(
        isinstance(module, PoseNetwork) and any(weight.requires_grad for weight in module.parameters())
        for module in method.modules()
    )


def main(file: str) -> int:
    """Run the job in `file` and return the exit code of the process."""
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
