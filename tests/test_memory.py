"""Free memory heeds a container's limit; the peak is this process's."""

import os
from pathlib import Path

import pytest

from semipose import memory


def test_the_peak_is_in_bytes() -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc here to compare with")
    now = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = memory.peak_memory()
    assert peak is not None
    assert 0.8 * now < peak < 200 * now


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
