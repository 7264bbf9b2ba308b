"""Steps that went wrong: what they did to a network's buffers is taken back, and they are counted, on the device."""

import torch
from torch import Tensor, nn


class Health:
    """Judges every step of a method without reading anything back.

    The optimizer and the teachers skip a bad step by themselves. The forward pass has moved the batch norm statistics
    of networks in train mode by then: `remember` them before it, and `settle` puts them back where the step was bad.
    """

    def __init__(self, method: nn.Module) -> None:
        # Also a teacher in train mode, which follows the statistics of its own batches; one in eval mode does not.
        moving = [child for child in method.children() if child.training]
        # As bytes, so that one operation serves all types, and NaN is a value like any other.
        self._buffers = [buffer.flatten().view(torch.uint8) for child in moving for buffer in child.buffers()]
        self._sizes = [len(buffer) for buffer in self._buffers]
        device = next(method.parameters()).device
        # Bad steps up to now without a good one between them, and all of them.
        self.counts = (torch.zeros((), device=device), torch.zeros((), device=device))

    def remember(self) -> None:
        """Keep the buffers as they are before a step."""
        if self._buffers:
            self._before = torch.cat(self._buffers)

    def settle(self, bad: Tensor) -> None:
        """Count the step, and where `bad` is 1 (0 for a good one, on the device) put the buffers back."""
        if self._buffers:
            kept = torch.where(bad > 0, self._before, torch.cat(self._buffers))
            torch._foreach_copy_(self._buffers, list(kept.split(self._sizes)))
        streak, skipped = self.counts
        self.counts = (torch.addcmul(bad, bad, streak), skipped + bad)
