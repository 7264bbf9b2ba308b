"""Activation checkpointing: a forward pass that is recomputed in the backward pass, to save memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from semipose.fields import Fields
from semipose.networks.network import PoseNetwork


def recomputed(network: PoseNetwork, image: Tensor) -> Fields:
    """Return `network(image)` with the same values and gradients, keeping only `image` for the backward pass.

    The second pass normalizes by the same batch statistics. It leaves the running statistics alone, which the first
    pass has updated already.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(network)

    # Networks draw no random numbers, so there is no state of generators to restore, which would cost a read.
    output: Fields = checkpoint(network, image, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return output


@contextmanager
def _frozen_statistics(network: PoseNetwork) -> Iterator[None]:
    """Stop batch norms in train mode from updating their running statistics, which stay part of the graph."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
