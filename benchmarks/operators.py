"""Count of torch operators and blocking reads of a training step, without a GPU.

Tensors on torch's `meta` device have shapes but no values, so a step that runs there cannot have read a value. Calls
that would make the host wait for a GPU are counted as they pass the dispatcher.
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

# Operators that need the values before they return.
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
    """Counter of dispatcher calls while active: all in `count`, and in `blocking` the lines of blocking ones.

    Blocking calls are reads of values, and copies between CPU and device without `non_blocking`; copies to the
    CPU block even with it.
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
        substitute = _pretended(name, args, kwargs)
        return function(*args, **kwargs) if substitute is None else substitute[0]


def _waits(args: Any, kwargs: Any) -> bool:
    """Return whether the host waits for this copy."""
    source = args[1] if len(args) > 1 and isinstance(args[1], Tensor) else args[0]
    target = args[0].device if source is not args[0] else torch.device(kwargs.get("device") or source.device)
    if source.device.type == target.type:
        return False
    non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
    return target.type == "cpu" or not non_blocking


def _by_mask(args: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _pretended(name: str, args: Any, kwargs: Any) -> tuple[Any] | None:
    """Substitute for a result that the meta device cannot compute; None where the operator runs."""
    meta = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.is_meta), None)
    if meta is None:
        return None
    if name == "_local_scalar_dense":
        return (torch.zeros((), dtype=meta.dtype).item(),)
    if name == "_to_copy" and torch.device(kwargs.get("device") or "meta").type == "cpu":
        return (torch.zeros(meta.shape, dtype=kwargs.get("dtype") or meta.dtype),)
    if name == "copy_" and not args[0].is_meta:
        return (args[0],)
    # Multi-tensor steps work in place and have no meta implementation.
    return (None,) if name.startswith("_fused_") else None


def _caller() -> str:
    """File and line of semipose that led here; for the backward pass, of the call that started it."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/semipose/" in file:
            return f"{file.rsplit('/semipose/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@contextmanager
def on_meta() -> Iterator[torch.device]:
    """Run on the meta device, without what torch refuses there: autocast and fused optimizers."""
    adam, tensor = sys.modules["torch.optim.adam"], torch.tensor
    # Made on the CPU and then copied, as on every other device.
    copied = lambda values, dtype=None, device=None: tensor(values, dtype=dtype).to(device or "cpu")  # noqa: E731
    with (
        patch.object(torch, "tensor", copied),
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
        patch.object(adam, "_device_dtype_check_for_fused", lambda *_, **__: None),
        Operators(),
    ):
        yield torch.device("meta")


def one(trainer: Trainer) -> None:
    """Run one update from its batch to its averages, as `Trainer.run` does, without logging."""
    trainer.step(trainer.batches(trainer.update))
    trainer.update += 1


def counted(trainer: Trainer) -> Operators:
    """Count the calls of one update, after a first one has made its constants and moments."""
    one(trainer)
    with Operators() as seen:
        one(trainer)
    return seen
