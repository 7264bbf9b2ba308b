"""The demo, shrunk: it ends with an answer, goes on where it was stopped, and keeps its seed."""

from pathlib import Path

import pytest

from semipose.errors import UsageError
from semipose.tasks import demo as module


@pytest.mark.slow
def test_the_demo_ends_with_an_answer_and_can_be_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PICTURES", module.PICTURES | {"labeled": 6, "unlabeled": 8, "val": 10})
    small = {"duration": 2, "batch_size": 2, "width": 0.125, "head_channels": 8, "device": "cpu"}
    monkeypatch.setattr(module, "SETTINGS", module.SETTINGS | small)
    run = module.demo(tmp_path / "demo", seed=3)
    assert run.metrics is not None
    assert run.metrics.against_baseline is not None
    assert (run.folder / "report.html").is_file()
    assert module.demo(tmp_path / "demo", seed=3).metrics == run.metrics
    with pytest.raises(UsageError, match="seed 3"):
        module.demo(tmp_path / "demo", seed=4)
