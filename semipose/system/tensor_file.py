"""Checkpoint files: tensors and a json record in safetensors, written atomically, read without pickle."""

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
    # safetensors needs contiguous tensors, and channels_last weights are not; their values do not change.
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={_KEY: json.dumps(record)})
        except SafetensorError as error:  # e.g. a full disk
            raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the record of a file written by `save`."""
    with _reading(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _record(file)  # noqa: SIM118 (not a dict)


def read_record(path: str | Path) -> dict[str, Any]:
    """Read the record only, which is fast."""
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
        raise DataError(
            f"{path} is not a checkpoint of semipose: its header has no readable {_KEY!r} entry. "
            "To start from other weights, pass them to training with --weights."
        ) from error


def _record(file: Any) -> dict[str, Any]:
    return json.loads((file.metadata() or {})[_KEY])
