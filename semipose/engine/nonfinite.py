"""Undo the changes of non-finite steps to the networks' buffers, and count these steps, on the device."""

import torch
from torch import Tensor, nn


class Health:
    """Restore buffers after non-finite steps, without reading anything back from the device.

    Optimizer and teachers skip such a step by themselves, but the forward pass has already updated the batch norm
    statistics of networks in train mode. `remember` keeps them before the step, `settle` restores them after it.
    """

    def __init__(self, method: nn.Module) -> None:
        # A teacher in train mode has moving statistics too; one in eval mode has none.
        moving = [child for child in method.children() if child.training]
        # As bytes: one operation serves all types, and NaN compares like other values.
        self._buffers = [buffer.flatten().view(torch.uint8) for child in moving for buffer in child.buffers()]
        self._sizes = [len(buffer) for buffer in self._buffers]
        device = next(method.parameters()).device
        # Non-finite steps in a row up to now, and in all.
        self.counts = (torch.zeros((), device=device), torch.zeros((), device=device))

    def remember(self) -> None:
        """Copy the buffers before a step."""
        if self._buffers:
            self._before = torch.cat(self._buffers)

    def settle(self, nonfinite: Tensor) -> None:
        """Count the step, and restore the buffers if `nonfinite`, a scalar on the device, is 1 and not 0."""
        if self._buffers:
            kept = torch.where(nonfinite > 0, self._before, torch.cat(self._buffers))
            torch._foreach_copy_(self._buffers, list(kept.split(self._sizes)))
        streak, skipped = self.counts
        self.counts = (torch.addcmul(nonfinite, nonfinite, streak), skipped + nonfinite)
