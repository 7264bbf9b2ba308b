"""Maps changed on their way into parts of a network, which knows nothing of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


@contextmanager
def changing(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """While it holds, each module gets what its change makes of the map that it is called with, or of a list's maps."""

    def hook(change: Change) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        return lambda _, inputs: (*(_changed(value, change) for value in inputs[:1]), *inputs[1:])

    hooks = [module.register_forward_pre_hook(hook(change)) for module, change in changes.items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _changed(value: Any, change: Change) -> Any:
    if isinstance(value, list):
        return [_changed(part, change) for part in value]
    return change(value) if isinstance(value, Tensor) else value
