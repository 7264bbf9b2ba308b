"""Averaged copies of a network: teachers that follow a student's weights and batch norm statistics."""

from copy import deepcopy
from itertools import chain
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from semipose.system.threads import threads_for

Network = TypeVar("Network", bound=nn.Module)


# The decay of a long run.
LONGEST = 0.999


def ema_decay(updates: int, horizon: float = 0.02, most: float = LONGEST) -> float:
    """Decay whose memory is the share `horizon` of a run of `updates`, up to `most`, never below 0.

    A fixed 0.999 lags behind its student in a short run and holds it back.

    >>> ema_decay(3000), ema_decay(1_000_000), ema_decay(10)
    (0.9833333333333333, 0.999, 0.0)
    """
    return min(most, 1 - 1 / max(1.0, horizon * updates))


class Ema(nn.Module, Generic[Network]):
    """A frozen copy of `network` that follows it by exponential averaging; called like the network.

    Batch norm statistics are averaged with the same decay as the weights and used as they are (EMAN, Cai et
    al., 2021): the copy is in eval mode for good, also after `.train()`. The decay warms up as
    min(1 - 1 / (t + 1), decay) with t the number of updates so far, which is kept on the device and saved.
    A `decay` of None is set by `prepare` to suit the length of the run. With `statistics` False parameters alone are
    averaged, as in public mean teachers: the copy is in the mode it is set to, and in train mode it uses its own
    batches' statistics and follows them.
    """

    updates: Tensor

    def __init__(self, network: Network, decay: float | None, statistics: bool = True) -> None:
        super().__init__()
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError(f"the decay is {decay}; expected 0 (a copy of the student) to 1 (the mean of all)")
        self.network = deepcopy(network).requires_grad_(False)
        self.statistics, self.given = statistics, decay is not None
        self.decay = LONGEST if decay is None else decay
        self.train(network.training)
        device = next(network.parameters()).device
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=device))

    def prepare(self, updates: int) -> None:
        """Told the length of the run: a decay that was not given is set from it."""
        if not self.given:
            self.decay = ema_decay(updates)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever `mode` is, unless the statistics are the copy's own."""
        return super().train(mode and not self.statistics)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the network answers, without a graph."""
        return self.network(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module, gate: Tensor | None = None) -> None:
        """Move towards `student`, which has the network's structure, device and memory format.

        `gate`, one bool, 0.0 or 1.0 on the device: where it is 0 nothing changes, not even the counter, also when the
        student holds NaN. Nothing is read back from the device.
        """
        opened = closed = None
        if gate is not None:
            gate = gate if gate.ndim == 0 else gate.reshape(())
            opened, closed = gate.long(), 1 - gate.float()
        weight = self.updates.add(1).reciprocal().clamp_min(1 - self.decay)
        ours, theirs = (_by_dtype(network, self.statistics) for network in (self.network, student))
        for dtype, tensors in ours.items():
            if dtype.is_floating_point:
                _average(tensors, theirs[dtype], weight, closed, copy=self.decay == 0)
            else:
                _copy(tensors, theirs[dtype], opened)
        self.updates.add_(1 if opened is None else opened)


def _by_dtype(network: nn.Module, buffers: bool) -> dict[torch.dtype, list[Tensor]]:
    """Parameters, and `buffers` where wanted, grouped because a multi-tensor operation takes one type."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in chain(network.parameters(), network.buffers() if buffers else ()):
        groups.setdefault(tensor.dtype, []).append(tensor)
    return groups


def _average(teacher: list[Tensor], student: list[Tensor], weight: Tensor, closed: Tensor | None, copy: bool) -> None:
    """teacher <- teacher - weight (teacher - student), unless closed; with `copy`, where weight is 1, exactly."""
    if copy:
        # a - (a - b) is not b in floating point, 0 - (0 - b) is.
        torch._foreach_mul_(teacher, torch.zeros_like(weight) if closed is None else closed)
    # It goes by memory, whatever the order of the numbers in it.
    student = [
        one if one.stride() == other.stride() else torch.empty_like(other).copy_(one)
        for one, other in zip(student, teacher, strict=True)
    ]
    # One pass over both. The fused step is the one multi-tensor operation that a flag on the device can switch off;
    # multiplying by a gate of 0 would not do: 0 * NaN is NaN. Its "gradient" is the student's negative, and the decay
    # of weights adds the teacher's own.
    with threads_for(teacher):
        torch._fused_sgd_(
            teacher,
            student,
            [],
            weight_decay=1.0,
            momentum=0.0,
            lr=weight,
            dampening=0.0,
            nesterov=False,
            maximize=True,
            is_first_step=False,
            grad_scale=None,
            found_inf=closed,
        )


def _copy(teacher: list[Tensor], student: list[Tensor], opened: Tensor | None) -> None:
    """teacher <- student, for integers such as batch norm's count of batches, unless closed."""
    difference = torch._foreach_sub(student, teacher)
    if opened is not None:
        torch._foreach_mul_(difference, opened.to(teacher[0].dtype))
    torch._foreach_add_(teacher, difference)
