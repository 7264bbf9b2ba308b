"""Runs `semipose` in processes that are killed (SIGKILL) at chosen moments and resumed, until it is done.

    python -m tests.tasks.killing < scenarios.json

A scenario is `{"train": [arguments], "kills": [[moment, nth], ...]}`; its run folder follows `--out`. Each process dies
when the `nth` moment comes that contains the text `moment`: "step", "half of FILE" (of a safetensors file, written),
"half a row" (of the log), "before FILE" and "after FILE" (took the old one's place); or `["seconds", n]` after its
start. The last process lives. Prints the exit codes, a list per scenario; -9 is a killed one.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from semipose.cli.main import main
from semipose.engine.log import RunLog
from semipose.engine.trainer import Trainer
from semipose.report import crops  # noqa: F401
from semipose.system import tensor_file
from semipose.tasks import train  # noqa: F401 (loaded once, for all the processes to come)


def dies_at(moment: str, nth: int) -> Callable[..., bool]:
    """A function that is told every moment and says whether this is the one; it dies there unless told to `wait`."""
    left = nth

    def told(now: str, wait: bool = False) -> bool:
        nonlocal left
        left -= moment in now
        if left == 0 and moment in now:
            if wait:
                return True
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    return told


def watch(told: Callable[..., bool]) -> None:
    """Tell `told` of every moment at which this process could die."""
    step, replace, save_file, write = Trainer.step, os.replace, tensor_file.save_file, RunLog.write

    def stepping(self: Trainer, batch: Any) -> Any:
        told("step")
        return step(self, batch)

    def replacing(source: Any, target: Any, **options: Any) -> None:
        told(f"before {Path(target).name}")
        replace(source, target, **options)
        told(f"after {Path(target).name}")

    def saving(tensors: Any, path: Path, **options: Any) -> None:
        dies = told(f"half of {path.name}", wait=True)
        save_file(tensors, path, **options)
        if dies:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def writing(self: RunLog, kind: str, update: int, **values: Any) -> None:
        dies = told("half a row", wait=True)
        start = self.path.stat().st_size
        write(self, kind, update, **values)
        if dies:
            os.truncate(self.path, (start + self.path.stat().st_size) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.step, os.replace, tensor_file.save_file, RunLog.write = stepping, replacing, saving, writing  # type: ignore


def start(argv: list[str], moment: str = "", nth: float = 0) -> int:
    """Run `semipose ARGV` in a process that dies at that moment; returns its exit code, or minus the signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            if moment and moment != "seconds":
                watch(dies_at(moment, int(nth)))
            os._exit(main(argv))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(99)
    if moment == "seconds":
        time.sleep(nth)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def play(scenario: dict[str, Any]) -> list[int]:
    """The exit codes of a scenario's processes."""
    folder = scenario["train"][scenario["train"].index("--out") + 1]
    codes = []
    for kill in [*scenario["kills"], []]:
        begun = (Path(folder) / "run.json").is_file()
        codes.append(start(["resume", folder] if begun else ["train", *scenario["train"]], *kill))
    return codes


if __name__ == "__main__":
    # The first optimizer loads a second's worth of modules: once here, not in every process.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True)
    print(json.dumps([play(scenario) for scenario in json.load(sys.stdin)]))
