"""The phases of a run, each with a schedule of its own: planned in run.json, recorded in updates.json."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from semipose.config.settings import Settings
from semipose.errors import UsageError
from semipose.runs.run import Run
from semipose.system.files import read_json, write_json


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
    found = read_json(file)
    # Version 0.1 had a single phase and did not record its end.
    rows = found.get("phases") or [{"start": 0, "updates": found["updates"]}]
    return [Phase(**row) for row in rows]


def write_phases(folder: Path, phases: list[Phase]) -> None:
    """Write the phases that have begun."""
    write_json(folder / "updates.json", {"phases": [phase._asdict() for phase in phases]})


def durations(plan: dict[str, Any]) -> list[str]:
    """Return the duration of each phase, as planned in run.json."""
    return [plan["settings"]["duration"]["value"], *(phase["duration"] for phase in plan.get("longer", []))]


def extend(run: Run, duration: str) -> None:
    """Plan another phase for a finished run; its metrics so far are kept as metrics-1.json (2, 3, ...)."""
    settings = Settings.from_record(run.config["settings"]).chosen("flag", "", duration=duration)
    if run.metrics is None:
        raise UsageError(
            f"--duration {duration} is for a run that has finished, and {run.folder} has not: finish it with "
            f"`semipose resume {run.folder}` first."
        )
    done = len(durations(run.config))
    # First: without metrics.json a run counts as unfinished, and if killed here it just measures its scores again.
    os.replace(run.folder / "metrics.json", run.folder / f"metrics-{done}.json")
    phase = {"duration": str(settings.duration), "started": datetime.now(UTC).isoformat(timespec="seconds")}
    run.config["longer"] = [*run.config.get("longer", []), phase]
    write_json(run.folder / "run.json", run.config)
