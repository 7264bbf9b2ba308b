"""How many of a CPU's threads a step over many tensors is worth."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# Numbers in a tensor, on average, from which on several threads pay.
WORTH_WAKING = 100_000


@contextmanager
def threads_for(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Within, torch's CPU threads are one where `tensors` are small, and as many as before where they are not.

    A multi-tensor step wakes the threads for each tensor. Where they sleep between (OMP_WAIT_POLICY=passive) that takes
    longer than the step: HRNet-W32's AdamW 258 ms on two threads and 109 on one.
    """
    before = torch.get_num_threads()
    small = sum(tensor.numel() for tensor in tensors) < WORTH_WAKING * len(tensors)
    if before == 1 or not small or tensors[0].device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
