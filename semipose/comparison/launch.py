"""Jobs side by side: as processes of this machine, or through submitit on a cluster; some may crash, the rest go on."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from semipose.engine.signals import Stop
from semipose.errors import UsageError
from semipose.system.files import writing

POLL_SECONDS = 0.2


class Started(Protocol):
    """A job under way."""

    def ended(self) -> str | None:
        """None while it runs, "" when it ended well, else why it did not."""

    def stop(self) -> None:
        """Ask it to save and leave."""

    def kill(self) -> None:
        """End it at once."""


Launch = Callable[[Path, int], Started]
"""Starts the job of a file in place 0, 1, ... of those side by side."""


def run_all(files: Sequence[Path], launch: Launch, most: int, tell: Callable[[Path, str], None]) -> None:
    """Run the jobs of `files`, `most` at a time, and `tell` of each how it ended ("" is well).

    Ctrl-C and SIGTERM stop the jobs, which save, and then this; a second one ends all at once.
    """
    waiting, running = list(files), dict[int, tuple[Path, Started]]()
    with Stop() as stop:
        try:
            while (waiting and not stop.received) or running:
                for place in (place for place in range(most) if place not in running):
                    if waiting and not stop.received:
                        file = waiting.pop(0)
                        running[place] = file, launch(file, place)
                if stop.received:
                    _stop(running)
                    running.clear()
                    stop.obey(stop.received)
                ended = {place: how for place, (_, job) in running.items() if (how := job.ended()) is not None}
                for place, how in ended.items():
                    tell(running.pop(place)[0], how)
                if not ended:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            for _, job in running.values():
                job.kill()
            raise


def _stop(running: dict[int, tuple[Path, Started]]) -> None:
    for _, job in running.values():
        job.stop()
    while any(job.ended() is None for _, job in running.values()):
        time.sleep(POLL_SECONDS)


class Local:
    """Starts jobs as processes of this machine, each on a GPU of its own where there are several, else on its share
    of the CPU's threads. What a job prints goes to a log beside its file.
    """

    def __init__(self, jobs: int, device: str) -> None:
        self.gpus = gpus(device)
        self.threads = max(1, torch.get_num_threads() // jobs)

    def __call__(self, file: Path, place: int) -> "Process":
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        if len(self.gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        return Process(file, environment)


def gpus(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that jobs with `--device` can be divided among."""
    if device not in ("auto", "cuda"):
        return []
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = [str(number) for number in range(torch.cuda.device_count())]
    return there if shown is None else [name.strip() for name in shown.split(",")][: len(there)]


class Process:
    """A job as a process."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        self.log = file.with_suffix(".log")
        with writing(self.log), open(self.log, "a", encoding="utf-8") as log:
            # In a session of its own: Ctrl-C in a terminal goes to all processes of one, and a second signal means
            # haste to a run.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "semipose.comparison.job", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def ended(self) -> str | None:
        """As `Started` says; the reason is the last line of the log."""
        code = self.process.poll()
        if code is None or code == 0:
            return None if code is None else ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return f"{f'killed by signal {-code}' if code < 0 else f'exit code {code}'}: {said} ({self.log})"

    def stop(self) -> None:
        """Send the signal that saves."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Send the one that nobody hears."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()


class Cluster:
    """Starts jobs through submitit: on SLURM where it is, else as processes of this machine.

    `parameters` are submitit's, as "timeout_min=600" or "slurm_partition=gpu". A job that reaches its time limit or is
    preempted is queued again and goes on from its last checkpoint.
    """

    def __init__(self, folder: Path, parameters: Sequence[str]) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise UsageError("--launcher submitit needs the package submitit: pip install 'semipose[cluster]'.")
        import submitit

        values: dict[str, Any] = {"timeout_min": 24 * 60}
        for text in parameters:
            name, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"--cluster {text}: expected NAME=VALUE, such as timeout_min=600.")
            values[name] = int(value) if value.isdecimal() else value
        self.executor = submitit.AutoExecutor(folder / "submitit", cluster=values.pop("cluster", None))
        try:
            self.executor.update_parameters(**values)
        except (NameError, AssertionError, ValueError) as error:
            raise UsageError(f"--cluster: {error}") from error

    def __call__(self, file: Path, place: int) -> "Submitted":
        return Submitted(self.executor.submit(Task(file)))


class Task:
    """What submitit calls; `checkpoint` is how it asks for what is to be queued again."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> None:
        from semipose.comparison.job import run_job

        run_job(self.file)

    def checkpoint(self) -> Any:
        """The same once more: a job goes on from where its folder stands."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitted:
    """A job of submitit's."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> str | None:
        """As `Started` says; the reason is the last line of submitit's report."""
        if not self.job.done():
            return None
        error = self.job.exception()
        lines = [line.strip() for line in str(error or "").split("\n") if line.strip(" -")]
        told = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")
        return f"{told} ({self.job.paths.stderr})" if error else ""

    def stop(self) -> None:
        """Cancel it: SLURM sends the signal that saves."""
        self.job.cancel()

    def kill(self) -> None:
        """The same: there is no shorter way."""
        self.job.cancel(check=False)
