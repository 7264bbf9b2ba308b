"""Two processes that train as one: the numbers of one process, agreement, and no end that leaves the other hanging."""

import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semipose.config.settings import Settings
from semipose.engine import ddp, setup
from semipose.engine.batches import refuse_uneven, split
from semipose.engine.trainer import Trainer
from semipose.errors import DataError, UsageError
from semipose.methods.method import Progress, Step
from semipose.system import processes
from semipose.system.tensor_file import load
from tests import ranks, training
from tests.people import batch


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.people(tmp_path_factory.mktemp("people"))


def train(people: Path, out: Path, **changes: Any) -> tuple[list[float], dict[str, str]]:
    """Train on a network without batch norm: the norms of the gradients before clipping, and what is left."""
    replace_file = os.replace

    def by_the_first(old: Path, new: Path) -> None:
        assert processes.is_first() or out not in Path(new).parents, new
        replace_file(old, new)

    with training.group_norm(), processes.group(training.CPU), pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", by_the_first)
        trainer = training.trainer(people, out, **changes)
        norms, bad = [], trainer._nonfinite

        def noted(loss: torch.Tensor) -> torch.Tensor:
            norms.append(
                float(
                    torch.nn.utils.get_total_norm([p.grad for p in trainer.method.parameters() if p.grad is not None])
                )
            )
            return bad(loss)

        trainer._nonfinite = noted
        trainer.run()
        return norms, training.digests(trainer)


def train_several(people: Path, out: Path, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: train(people, out / name, **changes) for name, changes in runs.items()}


@pytest.mark.slow
def test_losses_and_gradients_are_those_of_one_process_with_the_whole_batch_also_in_parts(
    people: Path, tmp_path: Path
) -> None:
    whole = {name: {"method": name, "clip": 1e-3} for name in ("supervised", "mean_teacher")}
    parts = {"parts": whole["mean_teacher"] | {"accumulate": 2}}
    first, second = ranks.together(train_several, people, tmp_path / "two", whole | parts)
    assert first == second
    one = train_several(people, tmp_path / "one", whole | parts)
    norms = {f"one/{name}": norms for name, (norms, _) in one.items()}
    norms |= {f"two/{name}": norms for name, (norms, _) in first.items()}
    for out in ("one/parts", "two/parts", "two/mean_teacher", "two/supervised"):
        alone = "one/supervised" if "supervised" in out else "one/mean_teacher"
        expected, found = training.losses(tmp_path / alone), training.losses(tmp_path / out)
        assert len(expected) == len(found) == 4
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, rel=1e-5, abs=1e-7), out
        assert norms[out] == pytest.approx(norms[alone], rel=1e-4), out
        assert min(norms[out]) > 1e-3  # so that clipping has something to do


def test_parts_of_a_batch_see_what_the_whole_sees() -> None:
    whole = batch(count=6)
    for stream in ("labeled", "unlabeled"):
        crops = getattr(whole, stream)
        pieces = [getattr(piece, stream) for piece in split(whole, 3)]
        for draw in (lambda c: c.weak().image, lambda c: c.strong(c.weak()).image):
            assert torch.equal(torch.cat([draw(piece) for piece in pieces]), draw(crops))
    labeled = [piece.labeled for piece in split(whole, 3)]
    assert torch.equal(torch.cat([piece.keypoints for piece in labeled]), whole.labeled.keypoints)


def agree() -> dict[str, Any]:
    with processes.group(training.CPU):
        rank = processes.rank()
        poll = processes.Poll()
        polled = [poll(rank * number) for number in (0, 15, 0, 0)]
        polled += [poll(2, now=True)]
        bad = torch.tensor(math.inf if rank else 1.0)
        method = torch.nn.BatchNorm2d(2)
        method.running_mean.fill_(rank)
        method.networks_wait = True
        return {
            "first": processes.from_first({"rank": rank, "list": [rank, "é"]}),
            "means": processes.means([float(rank), 2.0]),
            "polled": polled,
            "loss": float(ddp.average(method, bad)),
            "statistics": method.running_mean.tolist(),
        }


def test_small_things_are_agreed_on() -> None:
    found = ranks.together(agree)
    assert found[0] == found[1]
    assert found[0]["first"] == {"rank": 0, "list": [0, "é"]}
    assert found[0]["means"] == [0.5, 2.0]
    assert found[0]["polled"] == [0, 0, 15, 0, 2]
    assert found[0]["loss"] == math.inf
    assert found[0]["statistics"] == [0.5, 0.5]


def train_with(people: Path, out: Path, act: Callable[[Trainer], None]) -> Any:
    """Train after `act` has tampered with the trainer; returns the number of updates it knew of."""
    with processes.group(training.CPU):
        trainer = training.trainer(people, out, duration=1000, eval_every=1000)
        act(trainer)
        trainer.run()
    return trainer.update


def at_third_update(trainer: Trainer, act: Callable[[], None]) -> None:
    after_update = trainer.method.after_update

    def acting(progress: Progress) -> None:
        after_update(progress)
        if progress.update == 2 and processes.rank() == 1:
            act()

    trainer.method.after_update = acting


def fail() -> None:
    raise DataError("frame.jpg could be decoded when the run started and cannot now")


def second_fails(trainer: Trainer) -> None:
    at_third_update(trainer, fail)


def second_is_killed(trainer: Trainer) -> None:
    at_third_update(trainer, lambda: os.kill(os.getpid(), signal.SIGKILL))


def second_hears_a_signal(trainer: Trainer) -> None:
    at_third_update(trainer, lambda: os.kill(os.getpid(), signal.SIGTERM))


def test_an_error_in_one_process_ends_all_and_is_told_once(people: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    first, second = ranks.together(train_with, people, tmp_path, second_fails)
    assert first == "SystemExit: 1"
    assert second.startswith("DataError: frame.jpg")
    assert second.endswith("(process 1 of 2)")
    assert time.monotonic() - start < 30


def test_when_one_process_is_killed_the_other_says_so(people: Path, tmp_path: Path) -> None:
    first, second = ranks.together(train_with, people, tmp_path, second_is_killed)
    assert second == f"exit code {-signal.SIGKILL}"
    assert first.startswith("SemiposeError: another process of this run ended without an error message")
    assert "semipose resume" in first


def test_a_signal_to_one_process_stops_all_after_the_same_update_and_one_goes_on_alone(
    people: Path, tmp_path: Path
) -> None:
    assert ranks.together(train_with, people, tmp_path, second_hears_a_signal) == ["SystemExit: 143"] * 2
    trainer = training.trainer(people, tmp_path, 8)
    stopped = load(trainer.checkpoint)[1]["update"]
    assert stopped in (3, 4)
    trainer.run()
    assert [row["update"] for row in training.rows(tmp_path)] == list(range(1, 9))


def silent_burn_in(people: Path, out: Path) -> None:
    with processes.group(training.CPU), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.contract.burn_in.BurnIn.networks_wait", False)
        training.steps(training.trainer(people, out, method="tests.contract.burn_in:BurnIn"), 1)


def test_a_method_must_say_that_its_networks_wait(people: Path, tmp_path: Path) -> None:
    told = [text for text in ranks.together(silent_burn_in, people, tmp_path) if text != "SystemExit: 1"]
    assert told  # by both, where the first is gone before the second could ask whether it had been told
    assert all("networks_wait = True" in text for text in told)


def inf_in_the_second(people: Path, out: Path) -> list[dict[str, str]]:
    """A loss that is infinite in one process only, with finite gradients."""
    with processes.group(training.CPU):
        trainer = training.trainer(people, out)
        forward = trainer.method.forward
        training.steps(trainer, 1)
        before = training.digests(trainer)

        def bad(*arguments: Any) -> Step:
            step = forward(*arguments)
            return replace(step, losses=step.losses | {"bad": torch.tensor(math.inf if processes.rank() else 0.0)})

        trainer.method.forward = bad
        training.steps(trainer, 1)
        return [before, training.digests(trainer)]


def test_a_loss_that_is_infinite_in_one_process_changes_nothing_in_any(people: Path, tmp_path: Path) -> None:
    first, second = ranks.together(inf_in_the_second, people, tmp_path)
    assert first == second
    assert first[0] == first[1]


def train_without_patience(people: Path, out: Path) -> int:
    with processes.group(training.CPU):
        trainer = training.trainer(people, out, duration=50, lr=1e-9, eval_every=1, patience=1)
        trainer.run()
        return trainer.update


def test_all_stop_early_when_the_first_who_alone_evaluates_does(people: Path, tmp_path: Path) -> None:
    first, second = ranks.together(train_without_patience, people, tmp_path)
    assert first == second < 50


def updates_of_an_hour(people: Path, out: Path) -> int:
    with pytest.MonkeyPatch.context() as patch, processes.group(training.CPU):
        patch.setattr(setup, "_seconds_per_update", lambda trainer: 1.0 + processes.rank())
        return training.trainer(people, out, duration="1h").updates


def test_a_duration_in_hours_is_the_first_ones_number_of_updates(people: Path, tmp_path: Path) -> None:
    assert ranks.together(updates_of_an_hour, people, tmp_path) == [3600, 3600]


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"batch_size": 6}, 4, r"--batch-size 6 .* 4 process\(es\) x --accumulate 1; the nearest that does is 8"),
        ({"batch_size": 1}, 2, "the nearest that does is 2"),
        ({"batch_size": 8, "accumulate": 3}, 2, "the nearest that does is 6"),
        ({"batch_size": 8, "unlabeled_batch_size": 9}, 2, "--unlabeled-batch-size 9"),
    ],
)
def test_batches_that_do_not_divide_are_refused(changes: dict[str, int], processes: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_uneven(Settings.from_values(changes), processes)
    refuse_uneven(Settings.from_values({"batch_size": 24, "accumulate": 3}), 4)
