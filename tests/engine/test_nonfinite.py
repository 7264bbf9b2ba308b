"""Bad steps are taken back on the device: buffers too, whatever is in them, in a handful of operations."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from semipose.engine.nonfinite import Health
from semipose.networks.ema import Ema


class Odd(nn.Module):
    """A trained network with buffers of several types and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(5)))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("table", torch.rand(2, 3, 4, dtype=torch.float64))
        self.register_buffer("narrow", torch.rand(3, dtype=torch.bfloat16), persistent=False)


class Taught(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = Odd()
        self.teacher = Ema(self.student, 0.9)
        self.register_buffer("memory", torch.zeros(3))

    def spoil(self) -> None:
        """What a forward pass of NaN does, and worse."""
        self.student.norms(torch.full((2, 3, 4, 4), math.nan))
        self.student.flags.logical_not_()
        self.student.table.fill_(math.inf)
        self.student.narrow.fill_(math.nan)


def buffers(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


def test_a_bad_step_leaves_every_buffer_of_a_trained_network_as_it_was() -> None:
    method = Taught()
    health = Health(method)
    before = buffers(method)
    health.remember()
    method.spoil()
    health.settle(torch.ones(()))
    after = buffers(method)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))


def test_a_teacher_that_follows_its_own_batches_is_put_back_too() -> None:
    student = Odd()
    method = nn.ModuleList([student, Ema(student, 0.9, statistics=False)])
    health = Health(method)
    before = buffers(method)
    health.remember()
    method[1].network.norms(torch.full((2, 3, 4, 4), math.nan))
    health.settle(torch.ones(()))
    assert all(torch.equal(a, b) for a, b in zip(before, buffers(method), strict=True))


def test_a_good_step_keeps_what_it_did() -> None:
    method = Taught()
    health = Health(method)
    health.remember()
    method.student.norms(torch.rand(2, 3, 4, 4))
    expected = buffers(method)
    health.settle(torch.zeros(()))
    assert all(torch.equal(a, b) for a, b in zip(expected, buffers(method), strict=True))
    assert int(method.student.norms[0].num_batches_tracked) == 1


def test_bad_steps_are_counted_in_a_row_and_in_all() -> None:
    health = Health(Taught())
    for bad in (1, 1, 0, 1, 1, 1):
        health.remember()
        health.settle(torch.tensor(float(bad)))
    assert [int(count) for count in health.counts] == [3, 5]


def test_it_follows_networks_that_a_checkpoint_is_put_into() -> None:
    method = Taught()
    health = Health(method)
    method.load_state_dict({name: torch.ones_like(value) for name, value in method.state_dict().items()})
    health.remember()
    method.spoil()
    health.settle(torch.ones(()))
    assert (method.student.norms[2].running_mean == 1).all()


def test_a_network_without_buffers_has_only_its_steps_counted() -> None:
    health = Health(nn.Sequential(nn.Linear(2, 2)))
    health.remember()
    health.settle(torch.ones(()))
    assert int(health.counts[0]) == 1


@pytest.mark.parametrize("layers", [1, 40])
def test_it_costs_a_dozen_operations_however_many_buffers_there_are(layers: int) -> None:
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            assert func is not torch.ops.aten._local_scalar_dense.default
            Count.calls += 1
            return func(*args, **(kwargs or {}))

    health = Health(nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(layers))))
    bad = torch.ones(())
    with Count():
        health.remember()
        health.settle(bad)
    assert Count.calls <= 9
