"""Short trainings of tiny networks on synthetic people, in one process or as one of several."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from semipose.config.settings import Settings
from semipose.engine.log import read_log
from semipose.engine.setup import Stores, make_trainer
from semipose.engine.trainer import Trainer
from semipose.formats.labels import load_labels
from semipose.formats.load import Data
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from tests import synthetic_people

CPU = torch.device("cpu")
SETTINGS = Settings.from_values(
    {
        "network": "mobilenet_v1",
        "width": 0.125,
        "head_channels": 8,
        "input_size": "64x64",
        "batch_size": 4,
        "duration": 4,
        "eval_every": 1000,
        "log_every": 1,
        "device": "cpu",
        "cache": "ram",
        "workers": 1,
    }
)


def people(folder: Path) -> Path:
    """Draw them into `folder` once, for all that train on them."""
    synthetic_people.people(folder, 12)
    return folder


def trainer(people: Path, out: Path, updates: int | None = None, **changes: Any) -> Trainer:
    """A trainer on the synthetic people in `people`; `changes` are settings."""
    settings = SETTINGS.chosen("flag", "", **changes)
    people_in_file = load_labels(people / "labels.json", people / "images")
    data = Data(
        people_in_file.select(np.arange(4)),
        synthetic_people.unlabeled(people_in_file),
        people_in_file.select(np.arange(8, 12)),
        "given",
    )
    stores = Stores.read(data, settings, CPU)
    return make_trainer(settings, {}, people_in_file.skeleton, stores, out, updates)


def steps(trainer: Trainer, count: int) -> None:
    """Train for `count` updates, without evaluating or saving."""
    for _ in range(count):
        trainer.step(trainer.batches(trainer.update))
        trainer.update += 1


def rows(out: Path) -> list[dict[str, Any]]:
    """The log's rows of training."""
    return [row for row in read_log(out / "log.jsonl") if row["kind"] == "train"]


def losses(out: Path) -> list[dict[str, float]]:
    """The losses of each update, from the run's log."""
    return [row["losses"] for row in rows(out)]


def digests(trainer: Trainer) -> dict[str, str]:
    """A hash of every weight, statistic, counter and moment, by name."""
    tensors = dict(trainer.method.state_dict())
    for number, state in enumerate(trainer.optimizer.state.values()):
        tensors |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    return {name: hashlib.blake2b(value.contiguous().numpy().tobytes()).hexdigest() for name, value in tensors.items()}


@contextmanager
def group_norm() -> Iterator[None]:
    """Networks are built with group norm, which does not look at the other samples of a batch."""

    def build(*arguments: Any, **options: Any) -> PoseNetwork:
        network = build_network(*arguments, **options)
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.GroupNorm(1, child.num_features))
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semipose.engine.setup.build_network", build)
        yield
