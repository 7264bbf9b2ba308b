"""The folder of a run before anything is in it, and its lock: one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semipose.errors import SemiposeError, UsageError, WriteError
from semipose.formats.load import Data
from semipose.system import processes
from semipose.system.files import is_leftover, locked, remove_leftovers, writing

LOCK = ".lock"


def free_folder(out: str | Path | None, data: Data, method: str) -> Path:
    """The folder `out`, or without it the next free one, runs/LABELS-METHOD-N, made at once."""
    if out is not None:
        return Path(out)
    stem = f"{Path(data.labeled.source).stem}-{method.rpartition(':')[2]}"
    number = 1
    while True:
        folder = Path("runs") / f"{stem}-{number}"
        with writing(folder):
            try:
                # Making it claims it: two runs that start at the same moment must not choose the same one.
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1


def refuse_nonempty(folder: Path) -> None:
    """Raise a UsageError when there is something in `folder` that training could overwrite."""
    if folder.is_dir() and any(path.name != LOCK and not is_leftover(path) for path in folder.iterdir()):
        raise UsageError(f"--out {folder}: the folder is not empty; choose another, or `semipose resume {folder}`")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`, and remove what a killed one did not finish writing there."""
    if not processes.is_first():
        yield
        return
    with locked(folder / LOCK, wait=False):
        remove_leftovers(folder)
        yield


@contextmanager
def undo_plan_on_error(folder: Path) -> Iterator[None]:
    """Take run.json back where an error shows that the run cannot begin, so that `folder` is free for another try."""
    try:
        yield
    except WriteError:
        raise  # may go on when there is room
    except SemiposeError:
        if processes.is_first() and not (folder / "updates.json").exists():
            (folder / "run.json").unlink(missing_ok=True)
        raise
