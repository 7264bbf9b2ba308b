"""Job files in, jobs run in parallel: as processes of this machine, or through submitit on a cluster.

A job that crashes does not stop the others.
"""

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
    """A running job."""

    def ended(self) -> str | None:
        """None while it runs, "" when it succeeded, else the reason of its failure."""

    def stop(self) -> None:
        """Signal it to save and exit."""

    def kill(self) -> None:
        """End it at once."""


Launch = Callable[[Path, int], Started]
"""Starts the job of a file in slot 0, 1, ... of the parallel ones."""


def run_all(files: Sequence[Path], launch: Launch, max_jobs: int, on_end: Callable[[Path, str], None]) -> None:
    """Run the jobs of `files`, `max_jobs` in parallel; call `on_end` with each file and its fault ("" for success).

    Ctrl-C and SIGTERM stop the jobs, which save, and then this function. A second signal kills all jobs at once.
    """
    waiting, running = list(files), dict[int, tuple[Path, Started]]()
    with Stop() as stop:
        try:
            while (waiting and not stop.received) or running:
                for slot in (slot for slot in range(max_jobs) if slot not in running):
                    if waiting and not stop.received:
                        file = waiting.pop(0)
                        running[slot] = file, launch(file, slot)
                if stop.received:
                    _stop(running)
                    running.clear()
                    stop.obey(stop.received)
                ended = {slot: fault for slot, (_, job) in running.items() if (fault := job.ended()) is not None}
                for slot, fault in ended.items():
                    on_end(running.pop(slot)[0], fault)
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
    """Starts jobs as processes of this machine.

    Each gets its own GPU where there are several, and its share of the CPU's threads. Its output goes to a log beside
    its file.
    """

    def __init__(self, jobs: int, device: str) -> None:
        self.gpus = gpus(device)
        self.threads = max(1, torch.get_num_threads() // jobs)

    def __call__(self, file: Path, slot: int) -> "Process":
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        if len(self.gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return Process(file, environment)


def gpus(device: str) -> list[str]:
    """Names of the GPUs, as in CUDA_VISIBLE_DEVICES, that jobs with `--device` can use; none for a numbered device."""
    if device not in ("auto", "cuda"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return numbers if visible is None else [name.strip() for name in visible.split(",")][: len(numbers)]


class Process:
    """A job as a process of this machine."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        self.log = file.with_suffix(".log")
        with writing(self.log), open(self.log, "a", encoding="utf-8") as log:
            # In its own session: Ctrl-C in a terminal signals all processes of a session, and a run that gets a second
            # signal exits without saving.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "semipose.comparison.job", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def ended(self) -> str | None:
        """See `Started`; the reason is the last line of the log."""
        code = self.process.poll()
        if code is None or code == 0:
            return None if code is None else ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        return f"{f'killed by signal {-code}' if code < 0 else f'exit code {code}'}: {last} ({self.log})"

    def stop(self) -> None:
        """Send SIGINT, after which the job saves and exits."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        with suppress(OSError):
            self.process.kill()
        self.process.wait()


class Cluster:
    """Starts jobs through submitit: on SLURM where it is installed, else as processes of this machine.

    `parameters` are submitit's, such as "timeout_min=600" or "slurm_partition=gpu". A job that reaches its time limit
    or is preempted is queued again and resumes from its last checkpoint.
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

    def __call__(self, file: Path, slot: int) -> "Submitted":
        return Submitted(self.executor.submit(Task(file)))


class Task:
    """A picklable function for submitit, which calls `checkpoint` to get the job to queue again."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> None:
        from semipose.comparison.job import run_job

        run_job(self.file)

    def checkpoint(self) -> Any:
        """Return the same job: it resumes from the files in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitted:
    """A job submitted through submitit."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def ended(self) -> str | None:
        """See `Started`; the reason is the last line of submitit's report."""
        if not self.job.done():
            return None
        error = self.job.exception()
        lines = [line.strip() for line in str(error or "").split("\n") if line.strip(" -")]
        reason = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")
        return f"{reason} ({self.job.paths.stderr})" if error else ""

    def stop(self) -> None:
        """Cancel the job: SLURM sends the signal after which it saves."""
        self.job.cancel()

    def kill(self) -> None:
        """Cancel the job, because SLURM has no faster way."""
        self.job.cancel(check=False)
