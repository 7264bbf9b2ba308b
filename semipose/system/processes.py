"""Processes of one run under torchrun: their number, small values they exchange, and a common end after errors.

Each process computes an equal part of every batch. Process 0 alone prints, evaluates and writes files. Small values are
exchanged between CPUs (gloo), so that no GPU waits for them.
"""

import atexit
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from semipose.errors import DataError, SemiposeError, let_other_report

# Long, because processes wait while the first one evaluates or writes. A process that dies is noticed at once anyway.
_TIMEOUT = timedelta(hours=12)

_FAILED_KEY = "semipose/failed"


def count() -> int:
    """Number of processes in the group; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Return whether this is the process that prints, evaluates and writes."""
    return rank() == 0


def started() -> int:
    """Number of processes that torchrun started, whether or not they have joined the group."""
    return max(count(), int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1)


def local_rank() -> int:
    """Number of this process on its machine, from 0; also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the group of processes under torchrun; an error in one process ends all, and is reported once.

    The reporting process adds its number as a note; the others raise SystemExit(1). After success the group remains for
    the program's next run.
    """
    if started() > 1 and count() == 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        atexit.register(dist.destroy_process_group)
    try:
        yield
    except BaseException as error:
        if count() == 1:
            raise
        # destroy_process_group would wait for processes that may be waiting for this one.
        atexit.unregister(dist.destroy_process_group)
        first = _fails_first()
        if not isinstance(error, Exception):  # Ctrl-C or SIGTERM need no explanation.
            raise
        if not first:
            let_other_report(2)
            raise SystemExit(1) from error
        lost = _lost_connection(error) if isinstance(error, RuntimeError) else None
        (lost or error).add_note(f"(process {rank()} of {count()})")
        if lost is not None:
            raise lost from error
        raise


def _fails_first() -> bool:
    """Record this process's failure; return whether no other process has failed before."""
    own = str(rank())
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.compare_set(_FAILED_KEY, "", own) == own.encode()
    except RuntimeError:  # The process that kept the store has died.
        return True


def _lost_connection(error: RuntimeError) -> SemiposeError | None:
    """Translate the error of a connection to another process; None for other errors."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo" not in text and "NCCL" not in text:
        return None
    # Drop gloo's source position before the reason, and its advice after it.
    reason = re.sub(r"^\[\S+\] ", "", text.partition("\n")[0]).partition(". ")[0]
    return SemiposeError(
        f"another process of this run ended without an error message: it was killed, or ran out of memory ({reason}). "
        "Saved files are complete; continue with `semipose resume`."
    )


def wait() -> None:
    """Wait until all processes have called this."""
    if count() > 1:
        # Not dist.barrier(), which would keep the GPUs busy.
        dist.all_reduce(torch.zeros(1))


def from_first(value: Any) -> Any:
    """Return the first process's json-able `value` in all processes."""
    if count() == 1:
        return value
    text = bytearray(json.dumps(value).encode())
    size = torch.tensor([len(text)])
    dist.broadcast(size, 0)
    data = torch.frombuffer(text, dtype=torch.uint8) if is_first() else torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, 0)
    return json.loads(data.numpy().tobytes())


def from_local_first(numbers: tuple[int, int]) -> tuple[int, int]:
    """Return the two `numbers` of this machine's first process in all its processes."""
    if count() == 1:
        return numbers
    rows = [torch.empty(2, dtype=torch.int64) for _ in range(count())]
    dist.all_gather(rows, torch.tensor(numbers))
    first, second = rows[rank() - local_rank()].tolist()
    return first, second


def refuse_unequal(what: str, value: Any) -> None:
    """Raise DataError where this process's json-able `value` differs from the first one's; `what` names it."""
    first = from_first(value)
    if value != first:
        raise DataError(
            f"{what}: process {rank()} has {value!s:.200}, the first process {first!s:.200}. All processes must see "
            "the same files: on several machines, share data and run folder under the same path."
        )


def means(values: list[float]) -> list[float]:
    """Average each of `values` over the processes."""
    if count() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return [float(value) for value in sums / count()]


class Poll:
    """Maximum of a number over all processes, one call late, so that no process waits."""

    def __init__(self) -> None:
        self._pending: dist.Work | None = None
        self._largest = torch.zeros(1, dtype=torch.int64)

    def __call__(self, number: int, now: bool = False) -> int:
        """Return the maximum over all processes of the numbers of their previous call; alone, `number` itself.

        With `now`, for the last call, wait for the numbers of this call and include them.
        """
        if count() == 1:
            return number
        previous = self._result()
        self._largest = torch.tensor([number])
        self._pending = dist.all_reduce(self._largest, dist.ReduceOp.MAX, async_op=True)
        return max(previous, self._result()) if now else previous

    def _result(self) -> int:
        if self._pending is None:
            return 0
        self._pending.wait()
        return int(self._largest)
