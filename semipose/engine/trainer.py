"""The training loop: batches in, a trained method and its run folder out, for any method."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semipose.config.settings import Settings
from semipose.engine import ddp
from semipose.engine.batches import Batches, joined, split
from semipose.engine.checkpoint import load_training, save_training
from semipose.engine.log import Clock, Live, RunLog
from semipose.engine.nonfinite import Health
from semipose.engine.optimizer import learning_rate, make_optimizer
from semipose.engine.signals import Stop
from semipose.errors import SemiposeError
from semipose.losses.heatmap import total
from semipose.methods.method import Method, Progress, Step
from semipose.metrics.metric import rank
from semipose.metrics.score import Score
from semipose.networks.network import PoseNetwork
from semipose.system import processes
from semipose.system.tensor_file import read_record, save
from semipose.views.view import Batch

# A run whose last updates were all non-finite will not recover.
_STREAK = 20
# What a crash may cost, where evaluations are further apart than this.
_SAVE_SECONDS = 600


@dataclass
class Trainer:
    """Train `method` for `updates` updates in `folder`.

    The order of one update: batch, forward, backward, optimizer, teachers. A non-finite loss or gradient changes no
    weight, optimizer moment or teacher. The fused optimizer reads a flag on the device, the CPU only when logging. Of
    several processes each trains on its part of the batches; only the first evaluates, prints and writes.

    - `evaluate`: scores one of the method's networks on val; None without validation.
    - `start`: the schedule begins after this many updates of the run, those of earlier phases.
    - `end`: the update of the run at which to stop although the schedule goes on.
    - `event`: what the log says when training goes on.
    """

    method: Method
    batches: Batches
    settings: Settings
    folder: Path
    updates: int
    device: torch.device
    precision: str
    evaluate: Callable[[PoseNetwork], Score] | None
    title: str = "train"
    start: int = 0
    end: int | None = None
    event: str = ""

    def __post_init__(self) -> None:
        self.method.prepare(self.updates)
        self.optimizer = make_optimizer(self.method, self.settings)
        self._wrapped = ddp.parallel(self.method)
        self.update = 0
        self.best: dict[str, dict[str, Any]] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.waited = 0  # evaluations since the best one
        self.health = Health(self.method)
        self._saved = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.folder / "checkpoints" / "last.safetensors"

    def run(self) -> None:
        """Train from where the folder's last checkpoint stands, or from the start, to the end."""
        if self.checkpoint.exists() or self.start:
            self._resume()
        self._promote()
        processes.refuse_unequal(f"{self.checkpoint}: update", self.update)
        self.log = RunLog(self.folder / "log.jsonl", self.update)
        if self.start and self.update == self.start:
            self.log.event(self.update, f"a new phase of {self.updates} updates: a warm-up and a schedule of its own")
        if self.event:
            self.log.event(self.update, self.event)
        self._stop_early()
        clock, poll = Clock(), processes.Poll()
        with Live(self.title, self.goal, self.update) as self.live, closing(self.log), Stop() as stop:
            while self.update < self.goal:
                self._one(clock)
                # A signal that only one process received stops all, after the same update.
                if number := poll(stop.received, now=self.update == self.goal):
                    self.save()
                    processes.wait()
                    stop.obey(number)
        self._finish()

    def _one(self, clock: Clock) -> None:
        """Do one update, and the logging, evaluation and saving that are due after it."""
        start = time.perf_counter()
        batch = self.batches(self.update)
        clock.waited(time.perf_counter() - start, self.batches.images)
        step, lr = self.step(batch)
        self.update += 1
        if self._logs(self.update):
            self._log(step, lr, clock)
        if self.update % self.eval_every == 0 or self.update == self.goal:
            self.method.after_evaluation(processes.from_first(self._evaluate()))
            self.save()
            self._promote()
            self._stop_early()
            clock.restart()
        elif time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()
        self.live.show(self.update)

    def step(self, batch: Batch) -> tuple[Step, float]:
        """Do one update of all networks, without reading anything back from the device."""
        progress = Progress(self.update - self.start, self.updates, logged=self._logs(self.update + 1))
        self.health.remember()
        lr = learning_rate(self.settings, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        *before, last = split(batch, self.settings.accumulate)
        with ddp.without_averaging(self._wrapped):
            passes = [self._backward(part, progress) for part in before]
        passes.append(self._backward(last, progress))
        step, loss = joined(passes)
        loss = ddp.average(self.method, loss)
        nonfinite = self._nonfinite(loss)
        self.optimizer.found_inf = nonfinite  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.health.settle(nonfinite)
        self.method.after_update(replace(progress, healthy=1 - nonfinite))
        return step, lr

    def _backward(self, part: Batch, progress: Progress) -> tuple[Step, Tensor]:
        """Do forward and backward pass of one part of the batch; its gradients are added to those of earlier parts."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            step: Step = self._wrapped(part, progress)
        loss = total(step.losses)
        loss.backward(torch.full_like(loss, 1 / self.settings.accumulate))
        return step, loss.detach()

    def _nonfinite(self, loss: Tensor) -> Tensor:
        """Return 1.0 if the loss or a gradient is not finite, else 0.0, on the device; also clip the gradients."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.settings.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip, norm)
        # NaN and infinity times 0 are NaN, which is not 0.
        return ((norm + loss) * 0 != 0).float()

    @property
    def goal(self) -> int:
        """The update of the run at which this training ends."""
        return self.start + self.updates if self.end is None else self.end

    @property
    def eval_every(self) -> int:
        """Updates between evaluations: as set, or 20 over the schedule."""
        return self.settings.eval_every or max(1, math.ceil(self.updates / 20))

    def _logs(self, update: int) -> bool:
        """Return whether numbers are read once `update` updates are done."""
        return update % self.settings.log_every == 0 or update == self.goal

    def _log(self, step: Step, lr: float, clock: Clock) -> None:
        """Read this update's numbers from the device, all at once, and log them."""
        values = {**step.losses, **{f"signal/{name}": value for name, value in step.signals.items()}}
        stacked = torch.stack([*(value.detach().float() for value in values.values()), *self.health.counts])
        read = processes.means(stacked.tolist())
        # json has no NaN; a null says "not finite".
        numbers = {name: value if math.isfinite(value) else None for name, value in zip(values, read, strict=False)}
        losses = {name: value for name, value in numbers.items() if not name.startswith("signal/")}
        signals = {name[7:]: value for name, value in numbers.items() if name.startswith("signal/")}
        streak, skipped = (round(value) for value in read[-2:])
        row = {"losses": losses, "signals": signals, "skipped": skipped, "lr": lr, **clock.rates()}
        self.log.write("train", self.update, **row)
        clock.restart()
        if streak >= _STREAK:
            self._give_up(streak)
        if None not in losses.values():
            self.live.show(self.update, row)

    def _give_up(self, streak: int) -> None:
        """Stop after `streak` non-finite updates in a row, naming the images of the first."""
        first = self.update - streak
        people = self.batches.people(first)
        text = f"{streak} updates in a row were not finite, from update {first + 1} on"
        self.log.write("event", self.update, text=text, people=people)
        shown = "; ".join(f"{name} images {listed(rows)}" for name, rows in people.items())
        raise SemiposeError(
            f"{self.folder}: {text}: a loss or gradient was NaN or infinite, so they changed nothing. Update "
            f"{first + 1} saw {shown} (log.jsonl names all). If these are sound, lower --lr (now "
            f"{self.settings.lr:g}) or set --clip 1, and start again."
        )

    def _evaluate(self) -> list[str]:
        """Score every network on val and save those that are better than before; return their names."""
        if self.evaluate is None:
            return []
        metric, logged, improved = self.settings.metric, {}, list[str]()
        for name, network in self.method.networks().items():
            score = self.evaluate(network)
            self.last[name] = {"update": self.update, "values": score.values}
            logged[name] = {"values": score.values}
            if name not in self.best or rank(score.values, metric) > rank(self.best[name]["values"], metric):
                self.best[name] = self.last[name]
                self._save_network("next", name, network)
                improved.append(name)
        deployed = self.settings.deploy or self.method.deployed
        self.waited = 0 if (deployed in improved if deployed else improved) else self.waited + 1
        self.log.write("eval", self.update, networks=logged)
        shown = " ".join(f"{name} {row['values'].get(metric, math.nan):.1f}" for name, row in logged.items())
        self.live.show(self.update, val=f"{metric} {shown}")
        return improved

    def _stop_early(self) -> None:
        """End the training after too many evaluations without a better one."""
        # Only the first process evaluates; the others wait for it here.
        self.waited = processes.from_first(self.waited)
        if self.settings.patience is not None and self.waited >= self.settings.patience and self.update < self.goal:
            text = f"stopped early: {self.waited} evaluations without a better {self.settings.metric}"
            self.log.event(self.update, text)
            self.end = self.update

    def save(self) -> None:
        """Write the checkpoint to resume from."""
        if not processes.is_first():
            return
        self.log.sync()
        record = {
            "update": self.update,
            "updates": self.updates,
            "best": self.best,
            "last": self.last,
            "waited": self.waited,
            "health": [int(count) for count in self.health.counts],
        }
        save_training(self.checkpoint, self.method, self.optimizer, record)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        record = load_training(self.checkpoint, self.method, self.optimizer)
        self.update, self.best, self.last = record["update"], record["best"], record["last"]
        # A new phase begins with new patience.
        self.waited = record.get("waited", 0) if self.update > self.start else 0
        for count, value in zip(self.health.counts, record.get("health", (0, 0)), strict=True):
            count.fill_(value)

    def _promote(self) -> None:
        """Rename new networks that the checkpoint names as best to `best-NAME`, and remove all others.

        Call only after the checkpoint is written. A run that is killed before goes on from the old checkpoint and needs
        its best networks.
        """
        if not processes.is_first():
            return
        for file in (self.folder / "checkpoints").glob("next-*.safetensors"):
            name = file.stem.removeprefix("next-")
            if self.best.get(name, {}).get("update") == read_record(file)["update"]:
                file.replace(file.with_stem(f"best-{name}"))
            else:
                file.unlink()

    def _finish(self) -> None:
        if not processes.is_first():
            return
        for name, network in self.method.networks().items():
            self._save_network("last", name, network)

    def _save_network(self, which: str, name: str, network: PoseNetwork) -> None:
        skeleton = self.method.skeleton
        record = {
            "network": network.config,
            "skeleton": skeleton.to_dict(),
            "input_size": list(self.settings.input_size),
            "update": self.update,
            "name": name,
            "values": self.last.get(name, {}).get("values", {}),
        }
        save(self.folder / "checkpoints" / f"{which}-{name}.safetensors", network.state_dict(), record)


def listed(rows: list[dict[str, Any]], limit: int = 4) -> str:
    """Return the ids and files of the first `limit` rows, and the number of the others."""
    shown = ", ".join(f"{row['image_id']} ({row['file']})" for row in rows[:limit])
    return shown + f" and {len(rows) - limit} more" * (len(rows) > limit)
