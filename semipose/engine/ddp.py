"""Several processes train as one: who takes part, what they agree on, and how they end together.

torchrun starts them; each computes an equal part of every batch. The first alone prints, evaluates and writes files.
Small things are agreed on between the CPUs (gloo), so that no GPU waits for them.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from semipose.errors import SemiposeError
from semipose.methods.method import Method
from semipose.system.processes import count


def parallel(method: Method) -> nn.Module:
    """`method`; with several processes, wrapped so that its backward pass averages the gradients over them."""
    if count() == 1:
        return method
    # torch 2.13 has renamed it, and warns of the old name.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Weights without a gradient are looked for only where there may be some: it costs time, and torch warns of it.
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": method.networks_wait}
    return DistributedDataParallel(method, **options)


def unsent(wrapped: nn.Module) -> AbstractContextManager[None]:
    """While it holds, gradients of `wrapped` (from `parallel`) only add up here; the next pass sends the sum."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


@runtime_checkable
class Counting(Protocol):
    """A module that counts what its batches hold, beside batch norm."""

    def running_statistics(self) -> list[Tensor]:
        """One-dimensional float buffers, linear in the batches."""
        ...


@torch.no_grad()
def average(method: Method, loss: Tensor) -> Tensor:
    """Average running statistics of `method` over the processes, in place; return the mean of `loss`.

    Those of modules with `running_statistics()`, and of batch norms in train mode: the others are averaged copies or
    frozen, and equal already. Without it, teachers that follow the statistics would drift apart. One process's `loss`
    that is not finite makes the mean so in all. Raises SemiposeError for a method that leaves weights without a
    gradient and does not say so: DistributedDataParallel has then not averaged the others either.
    """
    if count() == 1:
        return loss
    idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    if idle and not method.networks_wait:
        raise SemiposeError(
            f"{type(method).__name__}: {len(idle)} trained weights got no gradient in an update (e.g. {idle[0]}). For "
            "several processes its class must say that this happens: `networks_wait = True`."
        )
    norms = [module for module in method.modules() if isinstance(module, _BatchNorm) and module.training]
    statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
    for part in method.modules():
        if isinstance(part, Counting):
            statistics += part.running_statistics()
    flat = torch.cat([loss.detach().float().reshape(1), *statistics])
    dist.all_reduce(flat)
    mean, *parts = (flat / count()).split([1, *(len(value) for value in statistics)])
    if statistics:
        torch._foreach_copy_(statistics, parts)
    return mean.reshape(())
