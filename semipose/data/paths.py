"""Resolve file names from label files; only files inside the given folder are ever opened."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from semipose.errors import DataError

# Path syntax of both systems is refused on either: the labels may come from the other one.
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_PARENT = re.compile(r"(^|[/\\])\.\.($|[/\\])")


def image_folder(path: str | Path) -> str:
    """Return the absolute path of an existing folder; raises DataError if there is none."""
    folder = os.path.abspath(path)
    if not os.path.isdir(folder):
        found = "a file" if os.path.exists(folder) else "nothing"
        raise DataError(f"{path}: expected the folder of the images, found {found}. Check --images.")
    return folder


def cache_folder() -> Path:
    """Return the folder for files that can be made again: $SEMIPOSE_CACHE, else semipose in the user's cache."""
    if chosen := os.environ.get("SEMIPOSE_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "semipose"


def files_inside(folder: str, names: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """Return the absolute paths of `names` in `folder`, and by position the faults of those that must not be opened.

    Faults are absolute names, names with "..", links that lead out of the folder, and missing files. Each subfolder is
    listed once, which on network disks is much faster than a call per file.
    """
    root = os.path.realpath(folder)
    start = os.path.join(folder, "")
    files = [start + name for name in names]
    faults: dict[int, str] = {}
    groups: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if fault := _unsafe(name):
            faults[row] = fault
        else:
            groups[name.rpartition("/")[0]].append(row)
    for subfolder, rows in groups.items():
        _check_group(os.path.join(folder, subfolder), root, rows, files, faults)
    return files, faults


def leads_out(path: str, root: str) -> bool:
    """Whether `path`, after following links, is outside of `root` (a real path)."""
    return os.path.commonpath([os.path.realpath(path), root]) != root


def _unsafe(name: str) -> str | None:
    if not name or "\0" in name:
        return f"file_name {name!r} is not a file name"
    if _ABSOLUTE.match(name):
        return f"file_name {name!r} is an absolute path; expected one relative to the images folder"
    if ".." in name and _PARENT.search(name):
        return f"file_name {name!r} leads out of the images folder"
    return None


def _check_group(folder: str, root: str, rows: Iterable[int], files: Sequence[str], faults: dict[int, str]) -> None:
    known = _plain_files(folder) if not leads_out(folder, root) else None
    for row in rows:
        name = files[row].rpartition("/")[2]
        if known is None:
            faults[row] = f"{os.path.relpath(files[row], root)}: a link leads out of the images folder"
        elif name in known:
            continue
        # Not listed under this name, but present: a link, or a file system that ignores case or respells accents.
        elif not os.path.isfile(files[row]):
            faults[row] = f"file {name} is not in {folder}"
        elif leads_out(files[row], root):
            faults[row] = f"file {name} is a link that leads out of the images folder"


def _plain_files(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
