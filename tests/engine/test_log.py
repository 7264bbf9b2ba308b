"""The log of a run: whole rows, each told once, also after a kill or on a full disk."""

import json
import resource
from contextlib import closing
from pathlib import Path

import pytest

from semipose.engine.log import RunLog, read_log
from semipose.errors import WriteError


def test_a_log_cut_off_in_the_middle_of_a_row_is_read_up_to_it(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"kind": "train", "update": 1}\n{"kind": "train", "update": 2}\n{"kind": "tr')
    assert [row["update"] for row in read_log(file)] == [1, 2]
    RunLog(file, update=1).close()
    assert [json.loads(line)["update"] for line in file.read_text().splitlines()] == [1]


def test_an_event_is_told_once_however_often_the_run_is_taken_up(tmp_path: Path) -> None:
    for _ in range(3):
        with closing(RunLog(tmp_path / "log.jsonl", update=4)) as log:
            log.event(4, "a new phase")
            log.event(4, "another thing")
    assert [row["text"] for row in read_log(tmp_path / "log.jsonl")] == ["a new phase", "another thing"]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RunLog(tmp_path / "log.jsonl")
    log.write("train", 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(WriteError, match=r"log\.jsonl cannot be written"), closing(log):
            log.write("event", 2, text="x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [row["update"] for row in read_log(tmp_path / "log.jsonl")] == [1]
