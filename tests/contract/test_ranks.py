"""What every method must keep when two processes train together, with phases in which a network waits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from semipose import methods
from semipose.engine.trainer import Trainer
from semipose.system import processes
from tests import ranks, training

BURN_IN = "tests.contract.burn_in:BurnIn"
ALL = [*methods.methods_for("mobilenet_v1"), "tests.contract.third_party:TwoViews", BURN_IN]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process is left with, by method; they start once for all."""
    folder = training.people(tmp_path_factory.mktemp("people"))
    return ranks.together(train_all, folder)


def train_all(folder: Path) -> dict[str, Any]:
    left: dict[str, Any] = {}
    with processes.group(training.CPU):
        for name in ALL:
            trainer = training.trainer(folder, folder / "out", method=name)
            training.steps(trainer, 2)
            left[f"{name} early"] = [bool(trainer.optimizer.state.get(p)) for p in trained(trainer).values()]
            training.steps(trainer, 2)
            left[name] = training.digests(trainer)
    return left


def trained(trainer: Trainer) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in trainer.method.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ALL)
def test_weights_statistics_teachers_and_moments_are_equal(name: str, found: list[dict[str, Any]]) -> None:
    first, second = found
    assert len(first[name]) > 100
    assert first[name] == second[name]


def test_a_network_without_a_gradient_is_left_alone(found: list[dict[str, Any]]) -> None:
    """Sending zeros instead would decay its weights and start its moments."""
    for left in found:
        moved = left[f"{BURN_IN} early"]
        assert any(moved)
        assert moved.index(False) == len(moved) // 2
        assert not any(moved[len(moved) // 2 :])
