"""Tensors and a json record in one safetensors file: written atomically, read without pickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semipose.errors import DataError
from semipose.system.files import replacing

_KEY = "semipose"


def save(path: str | Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write `tensors` and the json-able `record` to `path`; a crash leaves the old file or the new one."""
    # safetensors wants plain layout, and a channels_last weight is not; its values stay bit for bit.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, metadata={_KEY: json.dumps(record)})
        except SafetensorError as error:  # a full disk, in the library's words
            raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a file written by `save`."""
    with _reading(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _record(file)  # noqa: SIM118 (not a dict)


def read_record(path: str | Path) -> dict[str, Any]:
    """The record alone, which is quick."""
    with _reading(path) as file:
        return _record(file)


@contextmanager
def _reading(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as a checkpoint: {error}") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path} was not written by semipose: its header has no readable {_KEY!r} entry.") from error


def _record(file: Any) -> dict[str, Any]:
    return json.loads((file.metadata() or {})[_KEY])
