"""The phases of a run: stretches of training with a schedule each. run.json asks for them, updates.json counts them."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from semipose.config.settings import Settings
from semipose.errors import UsageError
from semipose.runs.run import Run
from semipose.system.files import read_json, write_json


class Phase(NamedTuple):
    """A stretch of training: where it begins, how long its schedule is, where it ended (None: under way).

    It begins after `start` updates of the run. Its `end` lies before `start + updates` when it was stopped early.
    """

    start: int
    updates: int
    end: int | None = None


def read_phases(folder: Path) -> list[Phase]:
    """The phases of the run in `folder` that have begun."""
    file = folder / "updates.json"
    if not file.is_file():
        return []
    found = read_json(file)
    # Version 0.1 knew a single one and did not say whether it had ended.
    rows = found.get("phases") or [{"start": 0, "updates": found["updates"]}]
    return [Phase(**row) for row in rows]


def write_phases(folder: Path, phases: list[Phase]) -> None:
    """Write the phases that have begun."""
    write_json(folder / "updates.json", {"phases": [phase._asdict() for phase in phases]})


def durations(plan: dict[str, Any]) -> list[str]:
    """How long each phase of run.json is to be, as it was asked for."""
    return [plan["settings"]["duration"]["value"], *(phase["duration"] for phase in plan.get("longer", []))]


def extend(run: Run, duration: str) -> None:
    """Plan another phase for a finished run; its numbers so far are kept as metrics-1.json (2, 3, ...)."""
    settings = Settings.from_record(run.config["settings"]).chosen("flag", "", duration=duration)
    if run.metrics is None:
        raise UsageError(
            f"--duration {duration} is for a run that has finished, and {run.folder} has not: finish it with "
            f"`semipose resume {run.folder}` first."
        )
    done = len(durations(run.config))
    # First: without its numbers a run counts as unfinished, and one that is killed here just measures them again.
    os.replace(run.folder / "metrics.json", run.folder / f"metrics-{done}.json")
    phase = {"duration": str(settings.duration), "started": datetime.now(UTC).isoformat(timespec="seconds")}
    run.config["longer"] = [*run.config.get("longer", []), phase]
    write_json(run.folder / "run.json", run.config)
