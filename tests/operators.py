"""What a piece of code asks of the device: operators counted by torch's dispatcher, on any machine."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that make the host wait for a GPU, or whose results' shapes depend on values.
BLOCKING = {"_local_scalar_dense", "_linalg_check_errors", "nonzero", "masked_select", "_unique2", "equal", "bincount"}


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket._qualified_op_name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def operators(code: Callable[[], object]) -> Counter[str]:
    """How often `code` calls each operator, once constants are in place."""
    code()
    with _Counting() as counting, torch.no_grad():
        code()
    return counting.found
