"""A network's pass whose inner results are not kept but computed again on the way back: time for memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from semipose.fields import Fields
from semipose.networks.network import PoseNetwork


def recomputed(network: PoseNetwork, image: Tensor) -> Fields:
    """`network(image)` with the same values and gradients; only `image` is kept for the backward pass.

    The second pass normalizes by the same batch statistics, and leaves the running ones alone, which the first has
    moved already.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still(network)

    # Networks draw no random numbers, so there is no state of generators to restore, which would cost a read.
    found: Fields = checkpoint(network, image, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return found


@contextmanager
def _still(network: PoseNetwork) -> Iterator[None]:
    """Batch norms in train mode leave their running statistics as they are; they must still be passed on and saved."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
