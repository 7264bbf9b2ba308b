"""Free memory heeds a container's limit; the peak is this process's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from semipose.system import memory


def test_the_peak_is_in_bytes() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc here to compare with")
    now = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = memory.peak_memory()
    assert peak is not None
    assert 0.8 * now < peak < 200 * now


def test_the_peak_is_not_that_of_the_process_which_started_this_one() -> None:
    small = "from semipose.system.memory import peak_memory; print(peak_memory())"
    large = f"""if True:
        import subprocess, sys
        held = b"." * 10**9
        print(subprocess.run([sys.executable, "-c", {small!r}], capture_output=True, text=True, check=True).stdout)
    """
    told = subprocess.run([sys.executable, "-c", large], capture_output=True, text=True, check=True).stdout
    assert 10**6 < int(told) < 8 * 10**8


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.free_memory()
    assert 10**6 < machine < 10**14
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 150000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.free_memory() == 450000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() > 10**6


def test_memory_that_was_freed_is_used_again() -> None:
    """Counted in new pages, in a process of its own: the switch holds until its end."""
    code = """if True:
        import resource, sys
        import numpy as np
        from semipose.system.memory import keep_freed_memory
        if sys.argv[1] == "keep" and not keep_freed_memory():
            sys.exit("no switch")
        def pages():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            np.ones(2**26, np.uint8)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        pages()
        print(pages())
    """
    runs = {
        how: subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True)
        for how in ("keep", "not")
    }
    if "no switch" in runs["keep"].stderr:
        pytest.skip("this C library has no such switch")
    pages = {how: int(run.stdout) for how, run in runs.items()}
    if pages["not"] < 100:
        pytest.skip("here freed memory is kept anyway")
    assert pages["keep"] < 0.1 * pages["not"]
