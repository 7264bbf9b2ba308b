"""Forward hooks that modify feature maps on their way into modules of a network."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


@contextmanager
def changing(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Apply each module's change to the map, or list of maps, that it is called with, while the context is active."""

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
