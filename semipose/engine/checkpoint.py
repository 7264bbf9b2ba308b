"""Save training states to safetensors files and load them: atomic, no pickle, the record in the file's header."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semipose.errors import DataError
from semipose.system.tensor_file import load, save

_METHOD, _OPTIMIZER = "method.", "optimizer."


def save_training(
    path: str | Path, method: nn.Module, optimizer: torch.optim.Optimizer, record: dict[str, Any]
) -> None:
    """Write everything needed to resume: all networks of the method, its counters and the optimizer's moments."""
    tensors = {_METHOD + name: tensor for name, tensor in method.state_dict().items()}
    for parameter, name in _names(method, optimizer).items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{name}/{key}"] = value
    save(path, tensors, record)


def load_training(path: str | Path, method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a state written by `save_training` into `method` and `optimizer`; return its record."""
    tensors, record = load(path)
    _load_method_state(path, tensors, method)
    for parameter, name in _names(method, optimizer).items():
        prefix = f"{_OPTIMIZER}{name}/"
        moments = {key[len(prefix) :]: tensors[key] for key in tensors if key.startswith(prefix)}
        optimizer.state[parameter] = {key: _as_moment(value, parameter) for key, value in moments.items()}
    return record


def load_method(path: str | Path, method: nn.Module) -> None:
    """Load the method's part of a state written by `save_training`: all its networks and counters."""
    _load_method_state(path, load(path)[0], method)


def _load_method_state(path: str | Path, tensors: dict[str, Tensor], method: nn.Module) -> None:
    state = {name[len(_METHOD) :]: tensor for name, tensor in tensors.items() if name.startswith(_METHOD)}
    expected = method.state_dict().keys()
    if state.keys() != expected:
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise DataError(
            f"{path} does not fit this method: {len(missing)} tensors missing (e.g. {missing[:1]}), {len(unknown)} "
            f"unknown (e.g. {unknown[:1]}). Resume with the version and settings that the run was started with."
        )
    method.load_state_dict(state)


def _names(method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, str]:
    """Return the name of each optimized parameter."""
    optimized = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    return {parameter: name for name, parameter in method.named_parameters() if parameter in optimized}


def _as_moment(value: Tensor, parameter: Tensor) -> Tensor:
    """Move `value` to the parameter's device; a moment, which has its shape, also gets its memory layout."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
