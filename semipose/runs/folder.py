"""Claim a run folder and lock it against other processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semipose.errors import SemiposeError, UsageError, WriteError
from semipose.formats.load import Data
from semipose.system import processes
from semipose.system.files import is_leftover, locked, remove_leftovers, writing

LOCK = ".lock"


def free_folder(out: str | Path | None, data: Data, method: str) -> Path:
    """Return the folder `out`, or make the next free one, runs/LABELS-METHOD-N."""
    if out is not None:
        return Path(out)
    stem = f"{Path(data.labeled.source).stem}-{method.rpartition(':')[2]}"
    number = 1
    while True:
        folder = Path("runs") / f"{stem}-{number}"
        with writing(folder):
            try:
                # Making the folder claims it: two runs that start at the same moment must not choose the same one.
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1


def refuse_nonempty(folder: Path) -> None:
    """Raise a UsageError if `folder` holds files that training could overwrite."""
    if folder.is_dir() and any(path.name != LOCK and not is_leftover(path) for path in folder.iterdir()):
        raise UsageError(f"--out {folder}: the folder is not empty; choose another, or `semipose resume {folder}`")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` against other runs, and remove the partly written files of a killed run."""
    if not processes.is_first():
        yield
        return
    with locked(folder / LOCK, wait=False):
        remove_leftovers(folder)
        yield


@contextmanager
def undo_plan_on_error(folder: Path) -> Iterator[None]:
    """Remove run.json if an error prevents the run from starting, so that `folder` is free for another try."""
    try:
        yield
    except WriteError:
        raise  # the run can be resumed once there is space on the disk
    except SemiposeError:
        if processes.is_first() and not (folder / "updates.json").exists():
            (folder / "run.json").unlink(missing_ok=True)
        raise
