"""Averaged copies of a network: teachers that follow a student's weights and batch norm statistics."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


# Decay of a long run, and the upper bound in shorter ones.
MAX_DECAY = 0.999


def ema_decay(updates: int, horizon: float = 0.02, max_decay: float = MAX_DECAY) -> float:
    """Return the decay whose memory is the share `horizon` of a run of `updates`, between 0 and `max_decay`.

    A fixed 0.999 lags behind its student in a short run and holds it back.

    >>> ema_decay(3000), ema_decay(1_000_000), ema_decay(10)
    (0.9833333333333333, 0.999, 0.0)
    """
    return min(max_decay, 1 - 1 / max(1.0, horizon * updates))


class Ema(nn.Module, Generic[Network]):
    """A frozen copy of `network` that follows it by exponential averaging; called like the network.

    Batch norm statistics are averaged with the same decay as the weights (EMAN, Cai et al., 2021). The copy uses them
    in eval mode, where it stays also after `.train()`. With `statistics` False parameters alone are averaged, as in
    public mean teachers. The copy is then in the mode it is set to; in train mode it keeps statistics of its own
    batches.

    The decay warms up as min(1 - 1 / (t + 1), decay). t is the number of updates so far, kept on the device and saved.
    `prepare` sets a `decay` of None to suit the length of the run.
    """

    updates: Tensor

    def __init__(self, network: Network, decay: float | None, statistics: bool = True) -> None:
        super().__init__()
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError(f"the decay is {decay}; expected 0 (a copy of the student) to 1 (the mean of all)")
        self.network = deepcopy(network).requires_grad_(False)
        self.statistics, self.given = statistics, decay is not None
        self.decay = MAX_DECAY if decay is None else decay
        self.train(network.training)
        device = next(network.parameters()).device
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=device))

    def prepare(self, updates: int) -> None:
        """Choose the decay by the length of the run, unless one was given."""
        if not self.given:
            self.decay = ema_decay(updates)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever `mode` is, unless the statistics are the copy's own."""
        return super().train(mode and not self.statistics)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """The network's output, without a graph."""
        return self.network(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module, gate: Tensor | None = None) -> None:
        """Move toward `student`, which has the network's structure, device and memory format.

        `gate` is one bool, 0.0 or 1.0 on the device. Where it is 0 nothing changes, not even the counter, even if the
        student holds NaN. Nothing is read back from the device.
        """
        pairs = list(zip(self._averaged(self.network), self._averaged(student), strict=True))
        if gate is not None:
            gate = gate.reshape(()).bool()
            # Select instead of multiplying by the gate: 0 * NaN is NaN.
            pairs = [(ours, torch.where(gate, theirs, ours)) for ours, theirs in pairs]
        weight = self.updates.add(1).reciprocal().clamp_min(1 - self.decay)
        values = [(ours, theirs, weight.to(ours.dtype)) for ours, theirs in pairs if ours.is_floating_point()]
        torch._foreach_lerp_(*map(list, zip(*values, strict=True)))
        for ours, theirs in pairs:
            # Integers, such as batch norm's count of batches.
            if not ours.is_floating_point():
                ours.copy_(theirs)
        self.updates.add_(1 if gate is None else gate)

    def _averaged(self, network: nn.Module) -> Iterator[Tensor]:
        """Parameters, and buffers unless they are the copy's own."""
        yield from network.parameters()
        if self.statistics:
            yield from network.buffers()
