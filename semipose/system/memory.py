"""Free memory of the machine, peak memory of a process, and reuse of freed memory."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")


def free_memory() -> int:
    """Bytes of RAM still available on this machine and in this container."""
    return min(_on_machine(), _in_container())


def _in_container() -> int:
    """Bytes left below the container's limit; its inactive page cache counts as free."""
    try:
        limit = int((_CONTAINER / "memory.max").read_text())
        rows = (line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        cached = {name: int(value) for name, value in rows}["inactive_file"]
        return limit - int((_CONTAINER / "memory.current").read_text()) + cached
    except (OSError, ValueError, KeyError):  # No container, or no limit ("max").
        return sys.maxsize


def _on_machine() -> int:
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        # Not Linux: half of the installed memory is a safe guess. Windows does not report that either.
        if hasattr(os, "sysconf"):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return 4 * 2**30


def peak_memory() -> int | None:
    """Largest number of bytes of RAM that this process held; None where the system does not report it."""
    with suppress(OSError, KeyError):  # not Linux
        # Preferred to getrusage, whose peak includes that of the parent process.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Make malloc keep freed memory for reuse; return False where the C library has no such option.

    Training on a CPU allocates the same gigabytes in every update. By default glibc returns large blocks to the system
    at once, which then maps and zeroes them again page by page.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # musl
        return False
    # Constants of malloc.h: no mmap for large blocks, no trimming, and growth by 256 MB.
    options = {-4: 0, -1: -1, -2: 2**28}
    return sum(set_option(option, value) for option, value in options.items()) == len(options)
