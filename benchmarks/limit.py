"""The limit of a training step: its networks' passes alone.

The same networks get the same batches in the same order and modes, as random tensors that already lie on the device in
channels_last; the gradient of each graded output is given, and the backward pass follows at once; then the fused
optimizer steps. Nothing else happens: no sampler, crops, views, targets, losses, averages or checks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semipose.engine.trainer import Trainer
from semipose.methods.method import Method
from semipose.networks.network import PoseNetwork


@dataclass(frozen=True)
class Pass:
    """One call of a network: its name in the method, the input's shape, and the modes it ran in."""

    network: str
    shape: tuple[int, ...]
    graded: bool
    training: bool
    autocast: bool


@contextmanager
def recorded(method: Method) -> Iterator[list[Pass]]:
    """The passes of all networks of `method` while active."""
    passes: list[Pass] = []

    def record(name: str, network: PoseNetwork, inputs: Any) -> None:
        shape, kind = tuple(inputs[0].shape), inputs[0].device.type
        autocast = kind != "meta" and torch.is_autocast_enabled(kind)
        passes.append(Pass(name, shape, torch.is_grad_enabled(), network.training, autocast))

    networks = {name: part for name, part in method.named_modules() if isinstance(part, PoseNetwork)}
    hooks = [
        network.register_forward_pre_hook(lambda part, inputs, name=name: record(name, part, inputs))
        for name, network in networks.items()
    ]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


class Limit:
    """The passes of one step of `trainer`, on a copy of its networks."""

    def __init__(self, trainer: Trainer) -> None:
        with recorded(trainer.method) as self.passes:
            trainer.step(trainer.batches(trainer.update))
        self.device, self.method = trainer.device, deepcopy(trainer.method)
        self.networks = {each.network: self.method.get_submodule(each.network) for each in self.passes}
        trained = [p for p in self.method.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
        self.images = [self._resident(each.shape) for each in self.passes]
        self.gradients: list[list[Tensor]] = [[] for _ in self.passes]
        self.step()

    def _resident(self, shape: tuple[int, ...]) -> Tensor:
        image = torch.rand(shape, device=self.device)
        return image.contiguous(memory_format=torch.channels_last)

    def step(self) -> None:
        """All passes, then the optimizer."""
        for each, image, gradients in zip(self.passes, self.images, self.gradients, strict=True):
            network = self.networks[each.network]
            network.train(each.training)
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=each.autocast),
                torch.set_grad_enabled(each.graded),
            ):
                maps = [field.maps for field in network(image).values()]
            if each.graded:
                # Made at the first step, as only then their shapes are known.
                gradients += [1e-4 * torch.randn_like(answer) for answer in maps[len(gradients) :]]
                torch.autograd.backward(maps, gradients)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
