"""Log a run: json lines in its folder, and a progress line on the console."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from semipose.system import processes
from semipose.system.files import write_text, writing


class RunLog:
    """`log.jsonl` of a run folder; each row is written and flushed at once, by the first process alone."""

    def __init__(self, path: Path, update: int = 0) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = []
        if not processes.is_first():
            self._file = open(os.devnull, "w")  # noqa: SIM115 (closed by close)
            return
        # Rows beyond the checkpoint will be written again; without this a resumed log would hold them twice.
        self._rows = [row for row in read_log(path) if row["update"] <= update] if update else []
        write_text(path, "".join(json.dumps(row) + "\n" for row in self._rows))
        self._file = path.open("a", encoding="utf-8")

    def write(self, kind: str, update: int, **values: Any) -> None:
        """Add one row."""
        with writing(self.path):
            self._file.write(json.dumps({"kind": kind, "update": update, **values}) + "\n")
            self._file.flush()

    def event(self, update: int, text: str) -> None:
        """Add a row with a text, unless the log held the same row before it was resumed."""
        if {"kind": "event", "update": update, "text": text} not in self._rows:
            self.write("event", update, text=text)

    def sync(self) -> None:
        """Write all rows to the disk, so that no checkpoint is ahead of its log."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; errors of a full disk have been reported by then."""
        with suppress(OSError):
            self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return all complete rows of a log; a last row cut off by a crash is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Live:
    """A progress line on the console: losses, val, speed, share of time spent waiting for data, time left."""

    def __init__(self, title: str, updates: int, start: int = 0, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=not processes.is_first())
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[terms]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=False,
        )
        self._task = self._progress.add_task(title, total=updates, completed=start, terms="")
        self._terms, self._val = "", ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, update: int, row: dict[str, Any] | None = None, val: str | None = None) -> None:
        """Move the bar to `update`; `row` is a train row of the log, `val` the last evaluation in words."""
        if row is not None:
            losses = " ".join(f"{name} {value:.5f}" for name, value in row["losses"].items())
            skipped = f" · {row['skipped']} skipped" if row["skipped"] else ""
            self._terms = f"{losses} · {row['images_per_s']:.0f} img/s · data {row['data_wait']:.0%}{skipped}"
        if val is not None:
            self._val = f" · {val}"
            if not self.console.is_terminal:
                self.console.print(f"{update}: {self._terms}{self._val}", highlight=False, soft_wrap=True)
        self._progress.update(self._task, completed=update, terms=self._terms + self._val)


class Clock:
    """Measure the time of some updates, and the part of it spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start measuring again."""
        self._start, self._waited, self._images = time.perf_counter(), 0.0, 0
        self._busy = time.process_time()

    def waited(self, seconds: float, images: int) -> None:
        """Count one batch."""
        self._waited += seconds
        self._images += images

    def rates(self) -> dict[str, float]:
        """Return images per second, the share of time spent waiting, and the number of cores kept busy."""
        spent = max(1e-9, time.perf_counter() - self._start)
        cores = (time.process_time() - self._busy) / spent
        return {
            "images_per_s": round(self._images / spent, 2),
            "data_wait": round(self._waited / spent, 4),
            "cores": round(cores, 3),
        }
