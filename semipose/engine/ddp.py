"""Data-parallel training: average gradients and running statistics over the processes that torchrun starts.

Each process computes an equal part of every batch. The first alone prints, evaluates and writes files.
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
    """Return `method`; with several processes, wrapped so that its backward pass averages gradients over them."""
    if count() == 1:
        return method
    # torch 2.13 renamed this option and warns of the old name.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Searching for weights without a gradient costs time and torch warns of it, so only methods that need it get it.
    options: dict[str, Any] = {buffers: False, "find_unused_parameters": method.networks_wait}
    return DistributedDataParallel(method, **options)


def without_averaging(wrapped: nn.Module) -> AbstractContextManager[None]:
    """Let gradients of `wrapped` (from `parallel`) add up locally; the next pass averages the sum."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


@runtime_checkable
class HasRunningStatistics(Protocol):
    """A module with running statistics of its batches, besides batch norm."""

    def running_statistics(self) -> list[Tensor]:
        """Return one-dimensional float buffers, linear in the batches."""
        ...


@torch.no_grad()
def average(method: Method, loss: Tensor) -> Tensor:
    """Average running statistics of `method` over the processes, in place; return the mean of `loss`.

    Averaged are modules with `running_statistics()` and batch norms in train mode. All others are averaged copies or
    frozen, and equal already. Otherwise teachers that follow the statistics would drift apart. If the `loss` of one
    process is not finite, the mean is not finite in any. Raises SemiposeError if weights got no gradient and the method
    does not declare `networks_wait`: DistributedDataParallel has then not averaged the other gradients either.
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
        if isinstance(part, HasRunningStatistics):
            statistics += part.running_statistics()
    flat = torch.cat([loss.detach().float().reshape(1), *statistics])
    dist.all_reduce(flat)
    mean, *parts = (flat / count()).split([1, *(len(value) for value in statistics)])
    if statistics:
        torch._foreach_copy_(statistics, parts)
    return mean.reshape(())
