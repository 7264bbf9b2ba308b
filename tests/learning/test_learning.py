"""Does it learn? Every method, on a handful of synthetic people that it is then asked about again."""

from pathlib import Path

import pytest
import torch

from semipose import methods
from semipose.config.settings import Settings
from semipose.engine.setup import Stores, make_trainer
from semipose.formats.load import Data
from semipose.networks.network import PoseNetwork
from tests import synthetic_people

SETTINGS = Settings.from_values(
    {
        "network": "mobilenet_v1",
        "width": 0.25,
        "head_channels": 32,
        "input_size": "64x64",
        "batch_size": 12,
        "duration": 80,
        "eval_every": 1000,
        "device": "cpu",
        "lr": 5e-3,
        "rotation": 10,
        "scale": 0.1,
        "metric": "pck@0.2",
    }
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    people = synthetic_people.people(tmp_path_factory.mktemp("drawn"), 12)
    data = Data(people, synthetic_people.unlabeled(people), people, "the labeled people")
    return Stores.read(data, SETTINGS, torch.device("cpu"))


# The other methods are slow tests.
QUICK = ("supervised",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in methods.methods_for("mobilenet_v1")
    ],
)
def test_a_method_learns_the_people_it_is_shown(name: str, stores: Stores, tmp_path: Path) -> None:
    trainer = make_trainer(
        SETTINGS.chosen("flag", "", method=name), {}, stores.labeled.people.skeleton, stores, tmp_path
    )
    before = {net: value(trainer.evaluate, network) for net, network in trainer.method.networks().items()}
    trainer.run()
    after = {net: row["values"]["pck@0.2"] for net, row in trainer.last.items()}
    for net in before:
        assert after[net] > max(60, before[net] + 30), f"{net}: {before[net]:.1f} before, {after[net]:.1f} after"


def test_the_multi_scale_head_learns(stores: Stores, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", head="multi_scale", method="supervised")
    trainer = make_trainer(settings, {}, stores.labeled.people.skeleton, stores, tmp_path)
    trainer.run()
    assert {net: row["values"]["pck@0.2"] > 70 for net, row in trainer.last.items()} == {"raw": True, "ema": True}


def value(evaluate: object, network: PoseNetwork) -> float:
    return evaluate(network).values["pck@0.2"]
