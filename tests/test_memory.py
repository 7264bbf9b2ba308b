"""Free memory heeds a container's limit; the peak is this process's."""

from pathlib import Path

import numpy as np
import pytest

from semipose import memory


def test_the_peak_grows_with_what_is_used_and_is_in_bytes() -> None:
    before = memory.peak_memory()
    assert before is not None
    held = np.ones(before + 10**7, np.uint8)
    after = memory.peak_memory()
    assert after is not None
    assert len(held) < after < len(held) + 2 * before


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
