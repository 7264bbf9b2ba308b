"""How much memory there is, and how much a process took."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes of RAM that programs can still take, on this machine and in this container."""
    return min(_on_machine(), _in_container())


def _in_container() -> int:
    """What a container's limit leaves; files that were read count, but make way."""
    try:
        most = int((_CONTAINER / "memory.max").read_text())
        rows = (line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        files = {name: int(value) for name, value in rows}["inactive_file"]
        return most - int((_CONTAINER / "memory.current").read_text()) + files
    except (OSError, ValueError, KeyError):  # "max" is no limit.
        return sys.maxsize


def _on_machine() -> int:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        # Not Linux: half of the installed memory is a careful guess; Windows does not even tell that.
        if hasattr(os, "sysconf"):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return 4 * 2**30


def peak_memory() -> int | None:
    """The most bytes of RAM that this process had at one time; None on systems that do not tell."""
    with suppress(OSError, KeyError):  # not Linux
        # Not getrusage's where this can be had: a process that another one started has that one's peak there, too.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Let this process keep what it frees for what it asks for next; False where the C library has no such switch.

    Training on a CPU asks for the same gigabytes in every update. glibc hands large blocks back to the system at once,
    which then gives them again page by page, filled with zeros.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # musl
        return False
    # No block of its own for a large request, nothing given back, 256 MB at a time: numbers of malloc.h.
    options = {-4: 0, -1: -1, -2: 2**28}
    return sum(set_option(option, value) for option, value in options.items()) == len(options)
