"""Read a file of weights as named tensors. The file is untrusted: no code in it is ever run."""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from semipose.errors import DataError
from semipose.pose.skeleton import Skeleton

_TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
# Where training programs put the weights inside a checkpoint.
_NESTS = ("state_dict", "model_state_dict", "model", "network")
# MMPose writes these beside the weights: facts about its data set, and its log. None of them is ever made.
_FOREIGN = (
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "mmengine.logging.history_buffer.HistoryBuffer",
)


class _Nothing:
    """Stands for an object that is no tensor: takes whatever the file says about it, and keeps nothing."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file by name; `config` and `keypoints` come from the header of a file of ours."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    keypoints: tuple[str, ...]


def read_weights(path: str | Path) -> WeightFile:
    """Read a .safetensors file, or a .pth/.pt of tensors only. Raises DataError for anything else."""
    path = Path(path)
    if path.is_dir():
        raise DataError(
            f"{path} is a folder; expected a file of weights. From a run take checkpoints/best-NAME.safetensors."
        )
    if not path.is_file():
        raise DataError(f"there is no file {path}; expected weights as .safetensors or .pth.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in _TORCH_SUFFIXES:
        return WeightFile(path, _plain(path, _unnested(path, _torch_load(path))), {}, ())
    raise DataError(f"{path} is of no known kind of weights; expected .safetensors, or .pth of tensors only.")


def _read_safetensors(path: Path) -> WeightFile:
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, "safetensors", error) from error
    if "semipose" not in metadata:
        return WeightFile(path, tensors, {}, ())
    try:
        header = json.loads(metadata["semipose"])
        config, keypoints = dict(header["network"]), Skeleton.from_dict(header["skeleton"]).keypoints
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise _unreadable(path, "a network of ours: its header is damaged", error) from error
    return WeightFile(path, tensors, config, keypoints)


def _torch_load(path: Path) -> Any:
    stand_ins: list[Any] = [(_Nothing, name) for name in _FOREIGN]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        # Torch's own message suggests weights_only=False, which would run whatever the file brings.
        raise DataError(
            f"{path} holds {found[1] if found else 'something'}, which is no tensor: loading it could run code, so it "
            "was refused. Expected a state dict of tensors. Where you trust the file, load it in the program that "
            "wrote it and save the network alone, torch.save(model.state_dict(), 'weights.pth')."
        ) from error
    except Exception as error:  # a damaged file fails in any of a dozen ways
        raise _unreadable(path, "weights saved by torch", error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as {kind} ({error}). Is it whole? Copy it again.")


def _unnested(path: Path, found: Any) -> Mapping[Any, Any]:
    """Return the state dict inside a checkpoint such as {"epoch": 3, "state_dict": {...}}."""
    for _ in range(3):
        if not isinstance(found, Mapping):
            break
        inner = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            return found
        found = inner
    raise DataError(f"{path} holds a {type(found).__name__}; expected a state dict: tensors by name.")


def _plain(path: Path, found: Mapping[Any, Any]) -> dict[str, Tensor]:
    tensors = {str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise DataError(
                f"{path}: {name} is quantized, sparse or without values; expected dense tensors. "
                "Save the plain network."
            )
    return tensors
