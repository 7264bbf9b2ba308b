"""Atomic writing: a file is either the old one or the whole new one, also after a crash; and locks on folders."""

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
except ImportError:  # Windows: there two processes may do the same work twice.
    fcntl = None  # type: ignore[assignment]


# What `replacing` and safetensors call a file that they have not finished.
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp|\.tmp[A-Za-z0-9]{6}")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into a WriteError that says what to do."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}. Files written before are whole; make room there, "
            "or choose a folder that can be written to."
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes `path`'s place, else it is removed.

    Raises WriteError where the disk is full or the folder read-only; the old file is then as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            # Some writers make a file of their own, which nobody else may read.
            temporary.chmod(mode)
            # Without fsync a power cut may leave the new name pointing at an empty file.
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder` and below it; only its lock's holder may."""
    for path in folder.rglob(".*tmp*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether `path` is a file that its writer never finished."""
    return _TEMPORARY.fullmatch(path.name) is not None and path.is_file()


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of file `path`, made if missing; it ends with the process, however that ends.

    Others wait, or without `wait` get a SemiposeError that names the holder.
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
                raise SemiposeError(f"{path.parent} is in use by {holder}; wait until it ends, or stop it.") from None
            except OSError:
                pass  # some network file systems have no locks, and training there must still be possible
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
    """The json object in `path`. Raises DataError for anything else."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not json ({error}); expected the file that training wrote.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: a json {type(value).__name__}; expected an object.")
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as json, atomically; paths become text. NaN and infinity, no json, are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, default=os.fspath) + "\n")
