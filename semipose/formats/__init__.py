"""Read labels, unlabeled images and videos from files; return `People` with their image files.

A label format is one file here: `coco.py` holds `class Coco(LabelFormat)` and is format "coco". A new format adds one
such file and no other change; `label_format.py` says what it has to provide. `find_format` chooses the format of a
file, and only formats open label files. May use `data`, `pose`, `system`, `geometry` and `errors`.
"""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from semipose.data.make_split import group_images
from semipose.data.paths import image_folder
from semipose.data.people import ListedImage
from semipose.errors import DataError, SemiposeError
from semipose.formats.categories import read_skeleton_file
from semipose.formats.label_format import LabelFormat, LabelTable, ReadOptions

__all__ = ["DEFAULT", "available", "find_format", "list_images", "read_as_coco", "read_groups", "read_table"]

T = TypeVar("T")
DEFAULT = "coco"
"""Tried last, and used for label files that no format recognizes: its errors then say what was expected."""


@cache
def available() -> tuple[str, ...]:
    """Return the names of the label formats, sorted; no format is imported."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in names if _class_name(name) is not None)


@cache
def load_format(name: str) -> LabelFormat:
    """Import format `name` and return its reader."""
    module = importlib.import_module(f"{__name__}.{name}")
    found: LabelFormat = getattr(module, _class_name(name) or "")()
    return found


def find_format(path: str | Path) -> LabelFormat | None:
    """Return the format that recognizes `path`, or None if none does."""
    names = sorted(available(), key=lambda name: (name == DEFAULT, name))
    return next((one for one in map(load_format, names) if _recognizes(one, Path(path))), None)


def read_table(options: ReadOptions) -> LabelTable:
    """Read the labels at `options.path` in whichever format they are in.

    Raises DataError that names every faulty entry.
    """
    return _reading(options.path, lambda reader: reader.read(options))


def list_images(path: str | Path) -> list[ListedImage]:
    """List the images that the labels at `path` name, without reading any label. Raises DataError."""
    return _reading(path, lambda reader: reader.list_images(Path(path)))


def read_as_coco(path: str | Path, images_dir: str | Path, skeleton_file: str | Path | None = None) -> dict[str, Any]:
    """Read the labels at `path` as the content of a COCO json, to write parts of them. Raises DataError."""
    override = read_skeleton_file(skeleton_file)
    options = ReadOptions(Path(path), image_folder(images_dir), override, "auto", include_ignored=True)
    return _reading(path, lambda reader: reader.to_coco(options))


def read_groups(path: str | Path, by: str) -> dict[int, str]:
    """Map image ids of the labels at `path` to groups; `by` is an image field or a pattern, see `group_images`."""
    return group_images(list_images(path), by, str(path))


def _recognizes(reader: LabelFormat, path: Path) -> bool:
    # Formats may look into files, which may be missing, unreadable or binary.
    with suppress(OSError, ValueError):
        return reader.recognizes(path)
    return False


def _class_name(name: str) -> str | None:
    """The class that makes module `name` a format: `deep_lab_cut.py` defines `class DeepLabCut(LabelFormat)`."""
    spec = importlib.util.find_spec(f"{__name__}.{name}")
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    expected = "".join(word.capitalize() for word in name.split("_"))
    source = Path(spec.origin).read_text(encoding="utf-8")
    return expected if re.search(rf"^class {expected}\(LabelFormat\):", source, re.MULTILINE) else None


def _reading(path: str | Path, use: Callable[[LabelFormat], T]) -> T:
    """Call `use` with the format of `path`; whatever goes wrong in it becomes a DataError."""
    reader = find_format(path) or load_format(DEFAULT)
    try:
        return use(reader)
    except SemiposeError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); expected {reader.expected}.") from error
    except Exception as error:
        # Malformed files make parsers fail in many ways; none of them is worth a traceback to the user.
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); expected {reader.expected}.") from error
