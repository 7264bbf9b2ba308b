"""A run folder tells what it is, and a folder that is none is refused with the remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semipose.errors import DataError, UsageError
from semipose.runs.records import EvalRow, to_json
from semipose.runs.run import Run
from tests.finished_run import SKELETON


def test_a_run_shows_its_parts(run: Run) -> None:
    assert run.skeleton == SKELETON
    assert run.metrics is not None
    assert run.deployed == "teacher"
    assert sum(isinstance(row, EvalRow) for row in run.log()) == 2
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
        ('{"format": 2}', "lacks versions"),
    ],
)
def test_a_damaged_run_json_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=found):
        Run(tmp_path)


def test_a_run_of_format_1_is_refused_with_the_remedy(folder: Path) -> None:
    content = json.loads((folder / "run.json").read_text())
    content["twin"] = content.pop("baseline")
    (folder / "run.json").write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(DataError, match=r"run\.json: format 1, and .* reads 2.*or train again"):
        Run(folder)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda record: record["data"].pop("notes"), "lacks data.notes. semipose writes this file"),
        (lambda record: record["data"]["val"].update(people="12"), "data.val.people: found str, expected int"),
        (lambda record: record.update(method=3), "method: found int, expected str"),
        (lambda record: record["settings"]["lr"].pop("source"), r"lacks settings\[...\].source"),
        (lambda record: record.update(input_size=[64]), "input_size: .*length 2"),
    ],
)
def test_a_wrong_field_of_run_json_is_named(folder: Path, edit: Callable[[dict[str, Any]], object], fault: str) -> None:
    file = folder / "run.json"
    record = json.loads(file.read_text())
    edit(record)
    file.write_text(json.dumps(record))
    with pytest.raises(DataError, match=rf"run\.json: {fault}"):
        Run(folder)


def test_unknown_keys_are_ignored(folder: Path) -> None:
    for name in ("run.json", "metrics.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"added_later": {"a": 1}}))
    assert Run(folder).metrics is not None


def test_a_wrong_field_of_metrics_json_or_the_log_is_named(folder: Path) -> None:
    metrics, log = folder / "metrics.json", folder / "log.jsonl"
    content = json.loads(metrics.read_text())
    content["val"]["teacher"]["best"]["values"]["pck@0.1"] = "<b>"
    metrics.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"metrics\.json: val\[...\].best.values\[...\]: found str, expected float"):
        _ = Run(folder).metrics
    log.write_text('{"kind": "event", "update": "x", "text": "y"}\n' + log.read_text())
    with pytest.raises(DataError, match=r"log\.jsonl, line 1: update: found str, expected int. Remove the line"):
        Run(folder).log()


def test_records_are_written_as_they_were_read(folder: Path) -> None:
    run, texts = Run(folder), [(folder / name).read_text() for name in ("run.json", "metrics.json")]
    written = [json.dumps(to_json(record)) for record in (run.record, run.metrics)]
    assert [json.loads(text) for text in written] == [json.loads(text) for text in texts]


def test_without_validation_best_is_the_last_checkpoint(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics |= {"val": None}
    metrics["deployed"] |= {"network": "teacher", "file": "checkpoints/last-teacher.safetensors"}
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
