"""The loop: batches in, a trained method and its run folder out. Which method it is, it does not know."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semipose.engine.batches import Batches
from semipose.engine.checkpoint import load_training, save, save_training
from semipose.engine.log import Clock, Live, RunLog
from semipose.engine.settings import Settings
from semipose.engine.stop import Stop
from semipose.errors import SemiposeError
from semipose.methods.method import Method, Progress, Step
from semipose.metrics.score import Score
from semipose.networks.network import PoseNetwork
from semipose.views.view import Batch

# A run whose last updates were all non-finite will not recover.
_STREAK = 20
# What a crash may cost, where evaluations are further apart than this.
_SAVE_SECONDS = 600


@dataclass
class Trainer:
    """Trains `method` for `updates` updates in `folder`; `evaluate` scores one of its networks on val, if there is any.

    The order of one update: batch, forward, backward, optimizer, teachers. A non-finite loss or gradient changes no
    weight, optimizer moment or teacher: a flag on the device tells the fused optimizer, and is read only when logging.
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

    def __post_init__(self) -> None:
        self.method.prepare(self.updates)
        self.optimizer = make_optimizer(self.method, self.settings)
        self.update = 0
        self.best: dict[str, dict[str, Any]] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self._streak = torch.zeros((), device=self.device)
        self._saved = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        """The file to resume from."""
        return self.folder / "checkpoints" / "last.safetensors"

    def run(self) -> None:
        """Train from where the folder's last checkpoint stands, or from the start, to the end."""
        if self.checkpoint.exists():
            self._resume()
        self.log = RunLog(self.folder / "log.jsonl", self.update)
        clock = Clock()
        with Live(self.title, self.updates, self.update) as self.live, closing(self.log), Stop() as stop:
            while self.update < self.updates:
                self._one(clock)
                if stop.asked:
                    self.save()
                    stop.obey()
        self._finish()

    def _one(self, clock: Clock) -> None:
        """One update, and what is due after it."""
        start = time.perf_counter()
        batch = self.batches(self.update)
        clock.waited(time.perf_counter() - start, self.batches.images)
        step, lr = self.step(batch)
        self.update += 1
        if self.update % self.settings.log_every == 0 or self.update == self.updates:
            self._log(step, lr, clock)
        if self.update % self.eval_every == 0 or self.update == self.updates:
            self._evaluate()
            self.save()
            clock.restart()
        elif time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()
        self.live.show(self.update)

    def step(self, batch: Batch) -> tuple[Step, float]:
        """One update of all networks; nothing is read back from the device."""
        progress = Progress(self.update, self.updates)
        lr = learning_rate(self.settings, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            step: Step = self.method(batch, progress)
        loss = torch.stack(list(step.losses.values())).sum()
        loss.backward()
        bad = self._bad(loss)
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._streak = (self._streak + 1) * bad
        self.method.after_update(replace(progress, healthy=1 - bad))
        return step, lr

    def _bad(self, loss: Tensor) -> Tensor:
        """1.0 where the loss or a gradient is not finite, else 0.0; clips the gradients on the way."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.settings.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip, norm)
        return 1 - torch.isfinite(norm + loss.detach()).float()

    @property
    def eval_every(self) -> int:
        """Updates between evaluations: as set, or 20 over the run."""
        return self.settings.eval_every or max(1, math.ceil(self.updates / 20))

    def _log(self, step: Step, lr: float, clock: Clock) -> None:
        """Read this update's numbers from the device, in one go, and write them down."""
        values = {**step.losses, **{f"signal/{name}": value for name, value in step.signals.items()}}
        read = torch.stack([*(value.detach().float() for value in values.values()), self._streak]).tolist()
        # json has no NaN; a null says "not finite".
        numbers = {name: value if math.isfinite(value) else None for name, value in zip(values, read, strict=False)}
        losses = {name: value for name, value in numbers.items() if not name.startswith("signal/")}
        signals = {name[7:]: value for name, value in numbers.items() if name.startswith("signal/")}
        row = {"losses": losses, "signals": signals, "lr": lr, **clock.rates()}
        self.log.write("train", self.update, **row)
        clock.restart()
        if read[-1] >= _STREAK:
            self.log.write("event", self.update, text=f"{read[-1]:.0f} updates in a row were not finite")
            raise SemiposeError(
                f"{self.folder}: the last {read[-1]:.0f} updates had a loss or gradient that is not finite; the "
                f"weights are those before them. Lower --lr (now {self.settings.lr:g}) or set --clip 1 and start again."
            )
        if None not in losses.values():
            self.live.show(self.update, row)

    def _evaluate(self) -> None:
        """Score every network on val; remember and save the best of each."""
        if self.evaluate is None:
            return
        metric, told = self.settings.metric, {}
        for name, network in self.method.networks().items():
            score = self.evaluate(network)
            self.last[name] = {"update": self.update, "values": score.values}
            told[name] = {"values": score.values}
            if name not in self.best or better(score.values, self.best[name]["values"], metric):
                self.best[name] = self.last[name]
                self._save_network("best", name, network)
        self.log.write("eval", self.update, networks=told)
        words = " ".join(f"{name} {row['values'].get(metric, math.nan):.1f}" for name, row in told.items())
        self.live.show(self.update, val=f"{metric} {words}")

    def save(self) -> None:
        """Write the checkpoint to resume from."""
        record = {"update": self.update, "updates": self.updates, "best": self.best, "last": self.last}
        save_training(self.checkpoint, self.method, self.optimizer, record)
        self._saved = time.monotonic()

    def _resume(self) -> None:
        record = load_training(self.checkpoint, self.method, self.optimizer)
        self.update, self.best, self.last = record["update"], record["best"], record["last"]

    def _finish(self) -> None:
        for name, network in self.method.networks().items():
            self._save_network("last", name, network)

    def _save_network(self, which: str, name: str, network: PoseNetwork) -> None:
        skeleton = self.method.skeleton
        record = {
            "network": network.config, "skeleton": skeleton.to_dict(), "input_size": list(self.settings.input_size),
            "update": self.update, "name": name, "values": self.last.get(name, {}).get("values", {}),
        }  # fmt: skip
        save(self.folder / "checkpoints" / f"{which}-{name}.safetensors", network.state_dict(), record)


def better(new: dict[str, float], old: dict[str, float], metric: str) -> bool:
    """`new` is the better of two scores; of pixel errors the lower one."""
    sign = -1 if metric == "pixel_error" else 1
    return sign * new.get(metric, -math.inf * sign) > sign * old.get(metric, -math.inf * sign)


def make_optimizer(method: Method, settings: Settings) -> torch.optim.AdamW:
    """AdamW over all trained parameters; biases and batch norms do not decay."""
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(settings: Settings, progress: Progress) -> float:
    """The learning rate of an update: a straight warm-up, then cosine to 0, or x0.1 at 70 % and 90 %, or constant."""
    rise = min(1.0, (progress.update + 1) / max(1.0, settings.warmup * progress.updates))
    fraction = progress.fraction
    if settings.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * fraction))
    elif settings.schedule == "step":
        fall = 0.1 ** ((fraction >= 0.7) + (fraction >= 0.9))
    else:
        fall = 1.0
    return settings.lr * rise * fall
