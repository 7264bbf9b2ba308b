"""Atomic writing, so that a crash leaves the old file or the complete new one; and locks on folders."""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from semipose.errors import DataError, SemiposeError, WriteError

try:
    import fcntl
except ImportError:  # Windows has no locks here: two processes may do the same work twice.
    fcntl = None  # type: ignore[assignment]

# Names of unfinished files of `replacing` and of safetensors.
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp|\.tmp[A-Za-z0-9]{6}")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into a WriteError with a remedy."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}. Files written before are complete. Free disk space, "
            "or choose a folder with write permission."
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds, and is removed when it fails.

    Raises WriteError where the disk is full or the folder read-only; the old file is then unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            # Some writers create a new file that other users cannot read.
            temporary.chmod(mode)
            # Without fsync a power failure may leave an empty file under the new name.
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of killed processes from `folder` and below. Call only with its lock held."""
    for path in folder.rglob(".*tmp*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Return whether `path` is an unfinished file."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock on the file `path`, created if missing; the lock ends with the process, even a killed one.

    While another process holds it, wait, or raise a SemiposeError that names the holder if `wait` is False.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below, which ends the lock)
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise SemiposeError(f"{path.parent} is in use by {holder}. Wait until it ends, or stop it.") from None
            except OSError:
                pass  # Some network file systems have no locks; training there must still be possible.
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a json object from `path`. Raises DataError for anything else."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid json ({error}); expected the file that training wrote.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a json {type(value).__name__}; expected an object.")
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as json, atomically. Paths become text; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=os.fspath) + "\n")
