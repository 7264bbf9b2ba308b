"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real pictures; tests that need it skip where it is absent."""
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set SEMIPOSE_DATA to its folder")
    return root
