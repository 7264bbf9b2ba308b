"""Choice of the number of CPU threads for operations over many tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# Mean number of elements per tensor from which several threads are faster than one.
MIN_ELEMENTS = 100_000


@contextmanager
def threads_for(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Use one CPU thread within the block if `tensors` are small on average, else leave torch's threads alone.

    A multi-tensor step wakes the threads for each tensor. With sleeping threads (OMP_WAIT_POLICY=passive) that takes
    longer than the step itself: 258 ms on two threads and 109 on one for AdamW on HRNet-W32.
    """
    before = torch.get_num_threads()
    small = sum(tensor.numel() for tensor in tensors) < MIN_ELEMENTS * len(tensors)
    if before == 1 or not small or tensors[0].device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
