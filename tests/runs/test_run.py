"""A run folder tells what it is, and a folder that is none is refused with the remedy."""

import json
from pathlib import Path

import pytest

from semipose.errors import DataError, UsageError
from semipose.runs.run import Run
from tests.finished_run import SKELETON


def test_a_run_shows_its_parts(run: Run) -> None:
    assert run.skeleton == SKELETON
    assert run.metrics is not None
    assert run.deployed == "teacher"
    assert [row["kind"] for row in run.log()].count("eval") == 2
    assert run.model().name == "teacher"
    assert run.model("student").name == "student"
    assert run.checkpoint("last").name == "last-teacher.safetensors"
    assert run.checkpoint("last-student").name == "last-student.safetensors"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json was not found"):
        Run(tmp_path)
    with pytest.raises(DataError, match="not the checkpoint"):
        Run(finished / "checkpoints" / "best-teacher.safetensors")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "not valid json"),
        ("[1]", "json list"),
        ('{"format": 9, "semipose": "7.0"}', "format 9.*7.0"),
        ('{"format": 2}', "lacks method"),
    ],
)
def test_a_damaged_run_json_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=found):
        Run(tmp_path)


def test_without_validation_best_is_the_last_checkpoint(folder: Path) -> None:
    metrics = {
        "metric": "pck@0.1",
        "val": None,
        "deployed": {"network": "teacher", "file": "checkpoints/last-teacher.safetensors"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert Run(folder).checkpoint().name == "last-teacher.safetensors"


def test_an_unfinished_run_asks_which_network(folder: Path) -> None:
    (folder / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"student, teacher.*semipose resume"):
        Run(folder).model()
    assert Run(folder).model("student").name == "student"


@pytest.mark.parametrize("which", ["nobody", "../../x", "best-../../x", "last-nobody"])
def test_an_unknown_network_is_refused_with_those_there_are(run: Run, which: str) -> None:
    with pytest.raises(UsageError, match="student, teacher"):
        run.model(which)


def test_metrics_do_not_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    (folder / "checkpoints" / "best-teacher.safetensors").rename(outside)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["deployed"]["file"] = "../outside.safetensors"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UsageError):
        Run(folder).model()
    (folder / "checkpoints" / "best-teacher.safetensors").symlink_to(outside)
    with pytest.raises(DataError, match="link out of"):
        Run(folder).model("teacher")


def test_a_log_cut_off_in_its_last_line_is_read_up_to_there(folder: Path) -> None:
    file = folder / "log.jsonl"
    whole = len(Run(folder).log())
    with file.open("a") as log:
        log.write('{"kind": "tra')
    assert len(Run(folder).log()) == whole
    file.write_text("broken\n" + file.read_text())
    with pytest.raises(DataError, match="line 1"):
        Run(folder).log()
