"""The loop: resume is exact after a kill, a non-finite step changes nothing, schedules, signals, logs."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.data.load import Data
from semipose.engine.checkpoint import load
from semipose.engine.log import RunLog, read_log
from semipose.engine.settings import Settings
from semipose.engine.setup import Stores, make_trainer
from semipose.engine.trainer import Trainer, learning_rate
from semipose.errors import SemiposeError, UsageError
from semipose.methods.method import Method, Progress
from tests import drawn

SETTINGS = Settings.from_values(
    {"network": "mobilenet_v1", "width": 0.25, "head_channels": 8, "input_size": "64x64", "batch_size": 4,
     "duration": 6, "eval_every": 3, "log_every": 2, "device": "cpu"}
)  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    people = drawn.people(tmp_path_factory.mktemp("drawn"), 12)
    data = Data(people.select(np.arange(4)), drawn.unlabeled(people), people.select(np.arange(8, 12)), "given")
    return Stores.read(data, SETTINGS, torch.device("cpu"))


def make(stores: Stores, folder: Path, settings: Settings = SETTINGS, **options: object) -> Trainer:
    skeleton = stores.labeled.people.skeleton
    return make_trainer(settings, options, skeleton, stores, folder)


def test_a_run_killed_between_checkpoints_ends_with_the_same_weights_and_log(
    stores: Stores, tmp_path: Path
) -> None:
    whole = make(stores, tmp_path / "whole")
    whole.run()
    broken = make(stores, tmp_path / "broken")
    after_update, count = broken.method.after_update, 0

    def dies(progress: Progress) -> None:
        nonlocal count
        count += 1
        after_update(progress)
        if count == 5:  # two updates after the last checkpoint
            raise MemoryError("killed")

    broken.method.after_update = dies
    with pytest.raises(MemoryError):
        broken.run()
    resumed = make(stores, tmp_path / "broken")
    resumed.run()
    for name in ("last", "best-teacher", "last-student"):
        expected, record = load(tmp_path / "whole" / "checkpoints" / f"{name}.safetensors")
        found, found_record = load(tmp_path / "broken" / "checkpoints" / f"{name}.safetensors")
        assert record == found_record
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "broken")]
    told = [[(r["kind"], r["update"], r.get("losses"), r.get("networks")) for r in rows] for rows in logs]
    assert told[0] == told[1]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_between_two_updates(
    stores: Stores, tmp_path: Path, number: int, error: type[BaseException]
) -> None:
    trainer = make(stores, tmp_path)
    after_update = trainer.method.after_update

    def interrupted(progress: Progress) -> None:
        os.kill(os.getpid(), number)
        after_update(progress)

    trainer.method.after_update = interrupted
    with pytest.raises(error) as stopped:
        trainer.run()
    assert load(trainer.checkpoint)[1]["update"] == 1
    if error is SystemExit:
        assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def poison(method: Method) -> None:
    """Make every loss NaN without touching a weight."""
    forward = method.forward

    def bad(batch: object, progress: Progress) -> object:
        step = forward(batch, progress)
        return replace(step, losses={name: loss * math.nan for name, loss in step.losses.items()})

    method.forward = bad


def test_a_step_that_is_not_finite_changes_no_weight_moment_or_teacher(stores: Stores, tmp_path: Path) -> None:
    trainer = make(stores, tmp_path)
    trainer.step(trainer.batches(0))
    poison(trainer.method)
    statistics = ("running_mean", "running_var", "num_batches_tracked")

    def state() -> dict[str, torch.Tensor]:
        weights = {k: v.clone() for k, v in trainer.method.state_dict().items()
                   if k.startswith("teacher") or not k.endswith(statistics)}  # fmt: skip
        moments = {f"{n}/{k}": v.clone() for n, s in enumerate(trainer.optimizer.state.values()) for k, v in s.items()}
        return weights | moments

    before = state()
    trainer.step(trainer.batches(1))
    after = state()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_streak_of_them_stops_the_run_with_advice(stores: Stores, tmp_path: Path) -> None:
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", duration=100, eval_every=1000))
    poison(trainer.method)
    with pytest.raises(SemiposeError, match=r"not finite.*--lr"):
        trainer.run()
    assert any(row["kind"] == "event" for row in read_log(tmp_path / "log.jsonl"))
    assert all(np.isfinite(v.numpy()).all() for v in trainer.method.state_dict().values() if v.ndim > 1)


def test_bf16_trains_float32_weights_to_nearly_the_same_place(stores: Stores, tmp_path: Path) -> None:
    ends = []
    for precision in ("fp32", "bf16"):
        trainer = make(stores, tmp_path / precision, SETTINGS.chosen("flag", "", precision=precision))
        trainer.run()
        state = trainer.method.state_dict()
        assert all(value.dtype in (torch.float32, torch.int64) for value in state.values())
        ends.append(torch.cat([value.flatten() for name, value in state.items() if name.endswith("weight")]))
    apart = (ends[0] - ends[1]).norm() / ends[0].norm()
    assert 0 < apart < 0.1


def test_clipping_bounds_the_gradient(stores: Stores, tmp_path: Path) -> None:
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", clip=1e-3))
    step = trainer.method(trainer.batches(0), Progress(0, 6))
    torch.stack(list(step.losses.values())).sum().backward()
    trainer._bad(torch.zeros(()))
    grads = [p.grad for p in trainer.method.parameters() if p.grad is not None]
    assert torch.nn.utils.get_total_norm(grads) <= 1.01e-3


def test_a_method_that_needs_unlabeled_images_refuses_to_run_without(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--unlabeled"):
        make(replace(stores, unlabeled=None), tmp_path)


def test_durations_become_updates(stores: Stores, tmp_path: Path) -> None:
    assert make(stores, tmp_path, SETTINGS.chosen("flag", "", duration="2ep")).updates == 6  # 12 unlabeled by 4
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", duration="5s"))
    assert 2 < trainer.updates < 2000


@pytest.mark.parametrize(
    ("schedule", "update", "expected"),
    [("cosine", 500, 0.5), ("cosine", 999, 0.0), ("constant", 999, 1.0), ("step", 699, 1.0), ("step", 700, 0.1),
     ("step", 950, 0.01), ("constant", 0, 0.05), ("constant", 9, 0.5)],
)  # fmt: skip
def test_learning_rates(schedule: str, update: int, expected: float) -> None:
    settings = Settings.from_values({"schedule": schedule, "lr": 1.0, "warmup": 0.02})
    assert learning_rate(settings, Progress(update, 1000)) == pytest.approx(expected, abs=1e-3)


def test_a_log_cut_off_in_the_middle_of_a_row_is_read_up_to_it(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"kind": "train", "update": 1}\n{"kind": "train", "update": 2}\n{"kind": "tr')
    assert [row["update"] for row in read_log(file)] == [1, 2]
    RunLog(file, update=1).close()
    assert [json.loads(line)["update"] for line in file.read_text().splitlines()] == [1]
