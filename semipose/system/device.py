"""Choice of the device that a run computes on."""

import torch

from semipose.errors import UsageError
from semipose.system import processes


def choose_device(name: str) -> torch.device:
    """Return the device `name`; `auto` is a GPU if available. Under torchrun each process takes its own GPU.

    Raises UsageError for a device that is not available.
    """
    several = processes.started() > 1
    if name == "auto":
        apple = torch.backends.mps.is_available() and not several
        name = "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
    if several and name != "cpu":
        name = _own_device(name)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here: {reason}. Use --device auto or cpu.") from error
    return device


def _own_device(name: str) -> str:
    """Return the GPU of this process, one of several."""
    rank, gpus = processes.local_rank(), torch.cuda.device_count()
    if name != "cuda" or rank >= gpus > 0:
        raise UsageError(
            f"--device {name}: torchrun started {processes.local_count()} processes on this machine, each needs a GPU "
            f"of its own, and {gpus} are visible. Use --device cuda (or cpu) and --nproc-per-node {max(1, gpus)}."
        )
    return f"cuda:{rank}"
