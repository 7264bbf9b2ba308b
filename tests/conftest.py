"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# A finished run, for tests of inference, runs, report and tasks.
pytest_plugins = ["tests.finished_run"]

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real pictures; tests that need it skip where it is absent."""
    root = Path(os.environ.get("SEMIPOSE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}; set SEMIPOSE_DATA to its folder")
    return root


@pytest.fixture(autouse=True, scope="session")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor fill the user's cache."""
    os.environ["SEMIPOSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
