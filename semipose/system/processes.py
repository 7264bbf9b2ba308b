"""The processes of one run: how many there are, what they agree on, and how they end together.

torchrun starts them; each computes an equal part of every batch. Process 0 alone prints, evaluates and writes files.
Small values are exchanged between the CPUs (gloo), so that no GPU waits for them.
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

from semipose.errors import DataError, SemiposeError, give_way

# The others wait while the first evaluates or writes, or while one decodes more slowly than the rest. A process that
# dies is noticed at once, however long this is.
_PATIENCE = timedelta(hours=12)

_FAILED = "semipose/failed"


def count() -> int:
    """Processes that train together; 1 where there is no torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that prints, evaluates and writes."""
    return rank() == 0


def started() -> int:
    """Processes that torchrun started, whether or not they have joined yet."""
    return max(count(), int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1)


def local_rank() -> int:
    """This process's number among those of its machine, from 0: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_count() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, if it did; an error in one of them ends all, and only one tells it.

    The one that tells has a note of its number; the others leave with SystemExit(1). After success the group stays
    for the program's next run.
    """
    if started() > 1 and count() == 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        atexit.register(dist.destroy_process_group)
    try:
        yield
    except BaseException as error:
        if count() == 1:
            raise
        # Taking leave in good order would wait for the others, who may wait for this one.
        atexit.unregister(dist.destroy_process_group)
        first = _fails_first()
        if not isinstance(error, Exception):  # Ctrl-C or SIGTERM, which nobody has to explain
            raise
        if not first:
            give_way(2)
            raise SystemExit(1) from error
        lost = _lost(error) if isinstance(error, RuntimeError) else None
        (lost or error).add_note(f"(process {rank()} of {count()})")
        if lost is not None:
            raise lost from error
        raise


def _fails_first() -> bool:
    """Whether no other process has failed before: the one to say why."""
    mine = str(rank())
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.compare_set(_FAILED, "", mine) == mine.encode()
    except RuntimeError:  # The process that kept the store is the one that died.
        return True


def _lost(error: RuntimeError) -> SemiposeError | None:
    """What to say where `error` comes from a connection to another process; None where it has another reason."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo" not in text and "NCCL" not in text:
        return None
    # Without the place in gloo's source before it and the advice behind it.
    reason = re.sub(r"^\[\S+\] ", "", text.partition("\n")[0]).partition(". ")[0]
    return SemiposeError(
        f"another process of this run ended without a word: it was killed, or ran out of memory ({reason}). What is "
        "saved is whole; go on with `semipose resume`."
    )


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        # Not dist.barrier(), which would keep the GPUs busy with waiting.
        dist.all_reduce(torch.zeros(1))


def from_first(value: Any) -> Any:
    """The first process's json-able `value`, in all processes."""
    if count() == 1:
        return value
    text = bytearray(json.dumps(value).encode())
    size = torch.tensor([len(text)])
    dist.broadcast(size, 0)
    sent = torch.frombuffer(text, dtype=torch.uint8) if is_first() else torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(sent, 0)
    return json.loads(sent.numpy().tobytes())


def from_local_first(numbers: tuple[int, int]) -> tuple[int, int]:
    """The two `numbers` of this machine's first process, in all its processes."""
    if count() == 1:
        return numbers
    rows = [torch.empty(2, dtype=torch.int64) for _ in range(count())]
    dist.all_gather(rows, torch.tensor(numbers))
    first, second = rows[rank() - local_rank()].tolist()
    return first, second


def refuse_unequal(what: str, value: Any) -> None:
    """Raise a DataError where this process's json-able `value` is not the first one's; `what` names it."""
    first = from_first(value)
    if value != first:
        raise DataError(
            f"{what}: process {rank()} has {value!s:.200}, the first process {first!s:.200}. All must see the same "
            "files, also on other machines: put data and run folder where all find them under one path."
        )


def means(values: list[float]) -> list[float]:
    """The mean over the processes of each of `values`."""
    if count() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return [float(value) for value in sums / count()]


class Poll:
    """Asks all processes for a number, without making any of them wait."""

    def __init__(self) -> None:
        self._asked: dist.Work | None = None
        self._largest = torch.zeros(1, dtype=torch.int64)

    def __call__(self, number: int, now: bool = False) -> int:
        """The largest `number` that any process gave at its previous call, the same in all; alone, one's own.

        `now` waits for the numbers of this call and takes them in: for the last one.
        """
        if count() == 1:
            return number
        before = self._answer()
        self._largest = torch.tensor([number])
        self._asked = dist.all_reduce(self._largest, dist.ReduceOp.MAX, async_op=True)
        return max(before, self._answer()) if now else before

    def _answer(self) -> int:
        if self._asked is None:
            return 0
        self._asked.wait()
        return int(self._largest)
