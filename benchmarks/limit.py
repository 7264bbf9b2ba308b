"""The limit of a training step: its networks' passes alone.

The same networks get the same batches in the same order and modes, as random tensors that already lie on the device in
channels_last; the gradient of each graded output is given, and the backward pass follows at once; then the fused
optimizer steps. The part of CID that draws one person at a time is called apart, as a network. Nothing else happens: no
sampler, crops, views, targets, losses, averages or checks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semipose.engine.trainer import Trainer
from semipose.fields import InstanceFields
from semipose.methods.method import Method
from semipose.networks.cid import PersonHead
from semipose.networks.levels import MultiLevel
from semipose.networks.network import PoseNetwork
from semipose.system.threads import threads_for


@dataclass(frozen=True)
class Pass:
    """One call of a network: its name in the method, the inputs' shapes, and the modes it ran in."""

    network: str
    shapes: tuple[tuple[int, ...], ...]
    graded: bool
    training: bool
    autocast: bool


@contextmanager
def recorded(method: Method) -> Iterator[list[Pass]]:
    """The passes of all networks of `method` while active."""
    passes: list[Pass] = []

    def record(name: str, network: nn.Module, inputs: Any) -> None:
        shapes, kind = tuple(tuple(each.shape) for each in inputs), inputs[0].device.type
        autocast = kind != "meta" and torch.is_autocast_enabled(kind)
        passes.append(Pass(name, shapes, torch.is_grad_enabled(), network.training, autocast))

    networks = {
        name: part for name, part in method.named_modules() if isinstance(part, PoseNetwork | MultiLevel | PersonHead)
    }
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
        self.trained = [p for p in self.method.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6, fused=True)
        self.inputs = [[self._resident(shape, each) for shape in each.shapes] for each in self.passes]
        self.gradients: list[list[Tensor]] = [[] for _ in self.passes]
        self.step()

    def _resident(self, shape: tuple[int, ...], each: Pass) -> Tensor:
        """Random images, or what a person is drawn from: features that themselves are learned, and places."""
        image = torch.rand(shape, device=self.device)
        if isinstance(self.networks[each.network], PersonHead):
            return image.requires_grad_(each.graded and shape[1:] != (2,))
        return image.contiguous(memory_format=torch.channels_last)

    def step(self) -> None:
        """All passes, then the optimizer."""
        for each, inputs, gradients in zip(self.passes, self.inputs, self.gradients, strict=True):
            network = self.networks[each.network]
            network.train(each.training)
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=each.autocast),
                torch.set_grad_enabled(each.graded),
            ):
                answer = network(*inputs)
                maps = [answer] if isinstance(answer, Tensor) else [field.maps for field in answer.values()]
                # What people are drawn from gets a gradient from there.
                maps += [answer.features, answer.shared] if isinstance(answer, InstanceFields) else []
            if each.graded:
                # Made at the first step, as only then their shapes are known.
                gradients += [1e-4 * torch.randn_like(answer) for answer in maps[len(gradients) :]]
                torch.autograd.backward(maps, gradients)
        with threads_for(self.trained):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
