"""The loop: resume is exact after a kill, a non-finite step changes nothing, schedules, signals, logs."""

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from semipose.config.settings import Settings
from semipose.crops.sampler import Sampler
from semipose.engine.checkpoint import save_training
from semipose.engine.log import read_log
from semipose.engine.setup import Stores, make_trainer
from semipose.engine.trainer import Trainer, learning_rate
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats.load import Data
from semipose.methods.method import Method, Progress, Step
from semipose.metrics.score import Score
from semipose.system.tensor_file import load, read_record
from semipose.views.view import Batch
from tests import synthetic_people

SETTINGS = Settings.from_values(
    {
        "network": "mobilenet_v1",
        "width": 0.25,
        "head_channels": 8,
        "input_size": "64x64",
        "batch_size": 4,
        "duration": 6,
        "eval_every": 3,
        "log_every": 2,
        "device": "cpu",
    }
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    people = synthetic_people.people(tmp_path_factory.mktemp("drawn"), 12)
    data = Data(
        people.select(np.arange(4)), synthetic_people.unlabeled(people), people.select(np.arange(8, 12)), "given"
    )
    return Stores.read(data, SETTINGS, torch.device("cpu"))


def make(stores: Stores, folder: Path, settings: Settings = SETTINGS, **options: object) -> Trainer:
    skeleton = stores.labeled.people.skeleton
    return make_trainer(settings, options, skeleton, stores, folder)


def scored(trainer: Trainer, values: list[int]) -> Trainer:
    """Let the evaluations of the trainer find `values` in turn."""
    found = iter(values)
    trainer.evaluate = lambda network: Score({"pck@0.1": next(found)}, {}, {}, {}, [], None)  # type: ignore
    return trainer


def kill(trainer: Trainer, after: int) -> None:
    """End the training without warning after that many updates."""
    after_update, count = trainer.method.after_update, 0

    def dies(progress: Progress) -> None:
        nonlocal count
        count += 1
        after_update(progress)
        if count == after:
            raise MemoryError("killed")

    trainer.method.after_update = dies


def test_a_run_killed_between_checkpoints_ends_with_the_same_weights_and_log(stores: Stores, tmp_path: Path) -> None:
    whole = make(stores, tmp_path / "whole")
    whole.run()
    broken = make(stores, tmp_path / "broken")
    kill(broken, 5)  # two updates after the last checkpoint
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


def test_the_best_networks_are_those_the_checkpoint_names_also_where_going_on_differs(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine the updates after a kill come out differently: the files must not be of both lives."""
    settings = SETTINGS.chosen("flag", "", eval_every=1)
    killed = scored(make(stores, tmp_path, settings), [50, 50, 90, 90])
    monkeypatch.setattr("semipose.engine.trainer.save_training", dies_at_second(save_training))
    with pytest.raises(MemoryError):
        killed.run()
    monkeypatch.undo()
    assert (tmp_path / "checkpoints" / "next-teacher.safetensors").exists()
    resumed = scored(make(stores, tmp_path, settings), [10] * 10)
    resumed.run()
    best = read_record(tmp_path / "checkpoints" / "best-teacher.safetensors")
    assert (best["update"], best["values"]) == (1, {"pck@0.1": 50})
    assert resumed.best["teacher"]["update"] == 1
    assert not list((tmp_path / "checkpoints").glob("next-*"))


def dies_at_second(save: Callable[..., None]) -> Callable[..., None]:
    calls = []

    def saving(*arguments: object) -> None:
        calls.append(0)
        if len(calls) == 2:
            raise MemoryError("killed")
        save(*arguments)

    return saving


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
    assert read_record(trainer.checkpoint)["update"] == 1
    if error is SystemExit:
        assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def poison(method: Method, first: int = 0, last: int = 10**9) -> None:
    """Make the losses of updates `first` to `last` NaN, and what batch norm sees."""
    forward = method.forward

    def bad(batch: Batch, progress: Progress) -> Step:
        if not first <= progress.update <= last:
            return forward(batch, progress)
        method.networks()["student"](torch.full((2, 3, 64, 64), math.nan))
        step = forward(batch, progress)
        return replace(step, losses={name: loss * math.nan for name, loss in step.losses.items()})

    method.forward = bad


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    moments = {f"{n}/{k}": v.clone() for n, s in enumerate(trainer.optimizer.state.values()) for k, v in s.items()}
    return {name: value.clone() for name, value in trainer.method.state_dict().items()} | moments


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_step_that_is_not_finite_changes_nothing(stores: Stores, tmp_path: Path, clip: float) -> None:
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", clip=clip))
    trainer.step(trainer.batches(0))
    poison(trainer.method)
    before = state(trainer)
    trainer.step(trainer.batches(1))
    after = state(trainer)
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_streak_stops_the_run_with_the_images_of_its_first_update(stores: Stores, tmp_path: Path) -> None:
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", duration=100, eval_every=1000))
    poison(trainer.method, 2, 2)
    poison(trainer.method, 5)
    with pytest.raises(SemiposeError, match=r"from update 6 on.*Update 6 saw labeled images.*--lr") as stopped:
        trainer.run()
    row = next(row for row in read_log(tmp_path / "log.jsonl") if row["kind"] == "event")
    assert row["update"] == 26  # the first row of the log after 20 of them
    for stream in (trainer.batches.labeled, trainer.batches.unlabeled):
        assert stream is not None
        rows = Sampler(len(stream.store), 4, SETTINGS.seed, stream.name).rows(5)
        poses, files = stream.store.people.poses, stream.store.people.images.files
        expected = [{"image_id": int(poses.image_ids[r]), "file": str(files[poses.image_ids[r] - 1])} for r in rows]
        assert row["people"][stream.name] == expected
        assert all(f"{person['image_id']} ({person['file']})" in str(stopped.value) for person in expected)
    assert [r["skipped"] for r in read_log(tmp_path / "log.jsonl")[:4] if r["kind"] == "train"] == [0, 1, 2, 4]
    assert all(np.isfinite(v.numpy()).all() for v in trainer.method.state_dict().values() if v.ndim > 1)


def test_a_streak_is_counted_on_after_a_kill(stores: Stores, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", duration=100, eval_every=10)
    for after in (15, 1000):
        trainer = make(stores, tmp_path, settings)
        poison(trainer.method, 5)
        kill(trainer, after)
        with pytest.raises(MemoryError if after == 15 else SemiposeError):
            trainer.run()
    rows = read_log(tmp_path / "log.jsonl")
    assert (rows[-1]["kind"], rows[-1]["update"]) == ("event", 26)


@pytest.mark.slow
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
    trainer._nonfinite(torch.zeros(()))
    grads = [p.grad for p in trainer.method.parameters() if p.grad is not None]
    assert torch.nn.utils.get_total_norm(grads) <= 1.01e-3


def test_a_method_that_needs_unlabeled_images_refuses_to_run_without(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--unlabeled"):
        make(replace(stores, unlabeled=None), tmp_path)


def test_patience_ends_a_run_after_evaluations_without_a_better_one(stores: Stores, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", duration=40, eval_every=2, patience=2)
    # Teacher, student: the student's rise does not count, it is not what will be deployed.
    values = [10, 10, 20, 10, 20, 30, 15, 40, 99, 99]
    whole = scored(make(stores, tmp_path / "whole", settings), values)
    whole.run()
    killed = scored(make(stores, tmp_path / "broken", settings), values)
    kill(killed, 7)  # one update after the third evaluation
    with pytest.raises(MemoryError):
        killed.run()
    resumed = scored(make(stores, tmp_path / "broken", settings), values[6:])
    resumed.run()
    assert whole.update == resumed.update == 8
    assert read_record(tmp_path / "whole" / "checkpoints" / "last-teacher.safetensors")["update"] == 8
    assert read_record(tmp_path / "whole" / "checkpoints" / "best-student.safetensors")["update"] == 8
    row = read_log(tmp_path / "whole" / "log.jsonl")[-1]
    assert row["kind"] == "event"
    assert "stopped early: 2 evaluations without a better pck@0.1" in row["text"]


def test_a_method_is_told_which_updates_are_logged(stores: Stores, tmp_path: Path) -> None:
    trainer = make(stores, tmp_path)
    forward, told = trainer.method.forward, []

    def spy(batch: Batch, progress: Progress) -> Step:
        told.append(progress.logged)
        return forward(batch, progress)

    trainer.method.forward = spy
    trainer.run()
    assert told == [False, True, False, True, False, True]


def test_a_method_is_told_which_networks_are_better_than_ever(stores: Stores, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", duration=8, eval_every=2)
    trainer = scored(make(stores, tmp_path, settings), [10, 10, 20, 10, 20, 30, 15, 40])
    with patch.object(trainer.method, "after_evaluation") as told:
        trainer.run()
    assert [call.args for call in told.call_args_list] == [
        (["teacher", "student"],),
        (["teacher"],),
        (["student"],),
        (["student"],),
    ]


def test_a_stopped_run_does_not_train_on_when_it_is_taken_up_again(stores: Stores, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", duration=40, eval_every=1, patience=1)
    for _ in range(2):
        trainer = scored(make(stores, tmp_path, settings), [1] * 4)
        trainer.run()
        assert trainer.update == 2
    assert sum(row["kind"] == "event" for row in read_log(tmp_path / "log.jsonl")) == 1


def test_a_new_phase_has_its_own_schedule_and_goes_on_with_the_data(stores: Stores, tmp_path: Path) -> None:
    make(stores, tmp_path).run()
    longer = make(stores, tmp_path, SETTINGS.chosen("flag", "", duration=4, warmup=0.5, log_every=1))
    longer.start = 6
    seen: list[tuple[int, int]] = []
    batches = longer.batches
    forward = longer.method.forward

    def watched(batch: Batch, progress: Progress) -> Step:
        seen.append((progress.update, batch.labeled.random.update))
        return forward(batch, progress)

    longer.method.forward = watched
    longer.run()
    assert seen == [(0, 6), (1, 7), (2, 8), (3, 9)]
    assert batches is longer.batches
    rates = [row["lr"] for row in read_log(tmp_path / "log.jsonl") if row["kind"] == "train" and row["update"] > 6]
    assert rates == pytest.approx([1e-3 * x for x in (0.5, 0.853553, 0.5, 0.146447)], rel=1e-3)
    assert longer.update == 10
    assert read_record(longer.checkpoint)["update"] == 10


def test_a_worker_that_dies_is_one_clear_error(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(stores, tmp_path)

    def dies(rows: np.ndarray) -> Callable[[], torch.Tensor]:
        def wait() -> torch.Tensor:
            raise MemoryError("of the worker")

        return wait

    monkeypatch.setattr(stores.unlabeled, "ready", dies)
    with pytest.raises(DataError, match="a worker that decodes unlabeled images died: MemoryError: of the worker"):
        trainer.run()


def test_durations_become_updates(stores: Stores, tmp_path: Path) -> None:
    assert make(stores, tmp_path, SETTINGS.chosen("flag", "", duration="2ep")).updates == 6  # 12 unlabeled by 4
    trainer = make(stores, tmp_path, SETTINGS.chosen("flag", "", duration="5s"))
    assert 2 < trainer.updates < 2000


@pytest.mark.parametrize(
    ("schedule", "update", "expected"),
    [
        ("cosine", 500, 0.5),
        ("cosine", 999, 0.0),
        ("constant", 999, 1.0),
        ("step", 699, 1.0),
        ("step", 700, 0.1),
        ("step", 950, 0.01),
        ("constant", 0, 0.05),
        ("constant", 9, 0.5),
    ],
)
def test_learning_rates(schedule: str, update: int, expected: float) -> None:
    settings = Settings.from_values({"schedule": schedule, "lr": 1.0, "warmup": 0.02})
    assert learning_rate(settings, Progress(update, 1000)) == pytest.approx(expected, abs=1e-3)
