"""Lower limit of a training step: only the forward and backward passes of its networks.

The same networks get the same batches in the same order and modes, as random tensors that are already on the device in
channels_last. Each output that needs a gradient gets a given one, and its backward pass follows at once; then the fused
optimizer steps. The part of CID that predicts one person's map at a time is called separately, like a network. There is
no sampler, crop, view, target, loss, average or check.
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


@dataclass(frozen=True)
class Pass:
    """One call of a network: its name in the method, the shapes of its inputs, and its modes."""

    network: str
    shapes: tuple[tuple[int, ...], ...]
    graded: bool
    training: bool
    autocast: bool


@contextmanager
def recorded(method: Method) -> Iterator[list[Pass]]:
    """Record the passes of all networks of `method` while active."""
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
    """Passes of one step of `trainer`, on a copy of its networks."""

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
        """Random images; for CID's per-person part random features, which need gradients, and positions."""
        image = torch.rand(shape, device=self.device)
        if isinstance(self.networks[each.network], PersonHead):
            return image.requires_grad_(each.graded and shape[1:] != (2,))
        return image.contiguous(memory_format=torch.channels_last)

    def step(self) -> None:
        """Run all passes, then the optimizer."""
        for each, inputs, gradients in zip(self.passes, self.inputs, self.gradients, strict=True):
            network = self.networks[each.network]
            network.train(each.training)
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=each.autocast),
                torch.set_grad_enabled(each.graded),
            ):
                output = network(*inputs)
                maps = [output] if isinstance(output, Tensor) else [field.maps for field in output.values()]
                # The features of the per-person maps get a gradient as well.
                maps += [output.features, output.shared] if isinstance(output, InstanceFields) else []
            if each.graded:
                # Made at the first step, when their shapes are known.
                gradients += [1e-4 * torch.randn_like(output) for output in maps[len(gradients) :]]
                torch.autograd.backward(maps, gradients)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
