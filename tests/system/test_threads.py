"""One thread for steps over small tensors, all for others, and as many as before afterwards."""

from collections.abc import Iterator

import pytest
import torch

from semipose.system.threads import MIN_ELEMENTS, threads_for


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("sizes", "threads"),
    [
        ([10, 20], 1),
        ([MIN_ELEMENTS - 1], 1),
        ([MIN_ELEMENTS], 2),
        ([10, 3 * MIN_ELEMENTS], 2),
        ([10] * 40, 1),
    ],
)
def test_small_tensors_have_one_thread_and_large_ones_all(sizes: list[int], threads: int) -> None:
    with threads_for([torch.empty(size) for size in sizes]):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_what_lies_on_a_device_leaves_the_cpu_alone() -> None:
    with threads_for([torch.empty(3, device="meta")]):
        assert torch.get_num_threads() == 2


def test_a_step_that_fails_leaves_as_many_threads_as_before() -> None:
    with pytest.raises(RuntimeError, match="broken"), threads_for([torch.empty(3)]):
        raise RuntimeError("broken")
    assert torch.get_num_threads() == 2
