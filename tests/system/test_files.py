"""Writing that cannot be half done, and locks that die with their process."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from semipose.errors import SemiposeError, WriteError
from semipose.system.files import is_leftover, locked, remove_leftovers, replacing, write_json, write_text
from semipose.system.tensor_file import load, read_record, save

HOLDS = """
import sys, time
from semipose.system.files import locked
with locked(sys.argv[1], wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    with pytest.raises(ValueError, match="not JSON"):
        write_json(file, float("nan"))
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError), replacing(file):
        raise ZeroDivisionError
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_cannot_be_written_is_one_error_that_names_it(tmp_path: Path, code: int) -> None:
    file = tmp_path / "a.json"
    write_text(file, "old")
    with pytest.raises(WriteError, match=rf"a\.json cannot be written: {os.strerror(code)}"), replacing(file):
        raise OSError(code, os.strerror(code))
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_that_is_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="Not a directory"):
        write_json(tmp_path / "file" / "run" / "run.json", {})
    with pytest.raises(WriteError, match="Not a directory"), locked(tmp_path / "file" / "run" / ".lock"):
        pass


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "last.safetensors"
    save(file, {"a": torch.zeros(10)}, {"update": 1})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(WriteError, match=r"last\.safetensors cannot be written: .*too large"):
            save(file, {"a": torch.zeros(100_000)}, {"update": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert read_record(file) == {"update": 1}
    assert len(load(file)[0]["a"]) == 10
    assert os.listdir(tmp_path) == ["last.safetensors"]


def test_others_may_read_a_checkpoint_as_any_new_file(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_only_leftovers_are_removed(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".tmp_notes", "a.tmp", ".a.tmp", "log.jsonl", ".lock")]
    left = [tmp_path / "checkpoints" / name for name in (".last.safetensors.123.tmp", ".tmpA1b2C3")]
    (tmp_path / "checkpoints").mkdir()
    for file in kept + left:
        file.touch()
    assert [is_leftover(file) for file in kept + left] == [False] * 5 + [True] * 2
    remove_leftovers(tmp_path)
    assert all(file.exists() for file in kept)
    assert not any(file.exists() for file in left)


def test_a_lock_is_refused_while_it_is_held_and_dies_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "run" / ".lock"
    command = [sys.executable, "-c", HOLDS, str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(SemiposeError, match=f"in use by process {process.pid} on "), locked(file, wait=False):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with locked(file, wait=False), pytest.raises(SemiposeError, match=f"process {os.getpid()}"), locked(file, False):
        pass
