"""The phases of a run, each with a schedule of its own: planned in run.json, recorded in updates.json."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from semipose.errors import UsageError
from semipose.runs.records import PhaseRequest, UpdatesRecord, read_json_as, to_json
from semipose.runs.run import Run
from semipose.system.files import write_json


class Phase(NamedTuple):
    """A phase of training: it begins after `start` updates of the run, and its schedule has `updates` updates.

    `end` is None until it has ended; it is below `start + updates` if the phase was stopped early.
    """

    start: int
    updates: int
    end: int | None = None


def read_phases(folder: Path) -> list[Phase]:
    """Return the phases of the run in `folder` that have begun."""
    file = folder / "updates.json"
    if not file.is_file():
        return []
    return [Phase(row.start, row.updates, row.end) for row in read_json_as(file, UpdatesRecord).phases]


def write_phases(folder: Path, phases: list[Phase]) -> None:
    """Write the phases that have begun."""
    write_json(folder / "updates.json", {"phases": [phase._asdict() for phase in phases]})


def extend(run: Run, duration: str) -> None:
    """Plan another phase for a finished run; its numbers so far are kept as metrics-1.json (2, 3, ...)."""
    settings = run.settings.chosen("flag", "", duration=duration)
    if run.metrics is None:
        raise UsageError(
            f"--duration {duration} is for a run that has finished, and {run.folder} has not: finish it with "
            f"`semipose resume {run.folder}` first."
        )
    done = len(run.record.durations)
    # First: without its numbers a run counts as unfinished, and one that is killed here just measures them again.
    os.replace(run.folder / "metrics.json", run.folder / f"metrics-{done}.json")
    phase = PhaseRequest(str(settings.duration), datetime.now(UTC).isoformat(timespec="seconds"))
    run.record.longer = [*run.record.longer, phase]
    write_json(run.folder / "run.json", to_json(run.record))
