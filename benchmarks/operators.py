"""Counting what a training step asks of torch: operators, and blocking reads. A GPU is not needed for either.

On torch's `meta` device tensors have shapes and no numbers, so a step that runs there cannot have looked at a number;
what would make a GPU's host wait is counted as it passes the dispatcher.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semipose.engine.trainer import Trainer

# What must know the numbers before it can go on.
READS = {
    "_local_scalar_dense",
    "nonzero",
    "nonzero_static",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "_linalg_check_errors",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
    "bincount",
    "allclose",
}
COPIES = {"_to_copy", "copy_"}


class Operators(TorchDispatchMode):
    """Counts dispatcher calls while active: all in `count`, and in `blocking` the lines of those that wait.

    Waiting are reads of numbers, and copies between the CPU and a device that do not ask for `non_blocking`, which
    those to the CPU do in vain.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.blocking: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        self.count += 1
        if name in READS or (name in COPIES and _waits(args, kwargs)) or (name == "index" and _by_mask(args)):
            self.blocking.append(f"{_caller()}: {name}")
        found = _pretended(name, args, kwargs)
        return function(*args, **kwargs) if found is None else found[0]


def _waits(args: Any, kwargs: Any) -> bool:
    """Whether a copy is one that the host waits for."""
    source = args[1] if len(args) > 1 and isinstance(args[1], Tensor) else args[0]
    target = args[0].device if source is not args[0] else torch.device(kwargs.get("device") or source.device)
    if source.device.type == target.type:
        return False
    non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
    return target.type == "cpu" or not non_blocking


def _by_mask(args: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _pretended(name: str, args: Any, kwargs: Any) -> tuple[Any] | None:
    """An answer in place of one that the meta device cannot give; None where the operator runs."""
    meta = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.is_meta), None)
    if meta is None:
        return None
    if name == "_local_scalar_dense":
        return (torch.zeros((), dtype=meta.dtype).item(),)
    if name == "_to_copy" and torch.device(kwargs.get("device") or "meta").type == "cpu":
        return (torch.zeros(meta.shape, dtype=kwargs.get("dtype") or meta.dtype),)
    if name == "copy_" and not args[0].is_meta:
        return (args[0],)
    # Multi-tensor steps work in place and have no meta version.
    return (None,) if name.startswith("_fused_") else None


def _caller() -> str:
    """File and line of ours that led here; of the backward pass, which has no line, the one that started it."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/semipose/" in file:
            return f"{file.rsplit('/semipose/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@contextmanager
def on_meta() -> Iterator[torch.device]:
    """The meta device, with the things that torch refuses there done without: autocast and fused optimizers."""
    adam, tensor = sys.modules["torch.optim.adam"], torch.tensor
    # Made on the CPU and then copied, as everywhere but on the meta device.
    copied = lambda values, dtype=None, device=None: tensor(values, dtype=dtype).to(device or "cpu")  # noqa: E731
    with (
        patch.object(torch, "tensor", copied),
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
        patch.object(adam, "_device_dtype_check_for_fused", lambda *_, **__: None),
        Operators(),
    ):
        yield torch.device("meta")


def one(trainer: Trainer) -> None:
    """An update from its batch to its averages, as `Trainer.run` makes them; nothing is logged."""
    trainer.step(trainer.batches(trainer.update))
    trainer.update += 1


def counted(trainer: Trainer) -> Operators:
    """What an update asks for, once the constants and moments that the first one makes are there."""
    one(trainer)
    with Operators() as seen:
        one(trainer)
    return seen
