"""Runs that are really killed, at any moment, end as if they had not been: bit for bit, file for file."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from semipose.engine.log import read_log
from semipose.synthetic.single import Demo, write_demo
from semipose.system.files import read_json

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--network",
    "mobilenet_v1",
    "--width",
    "0.125",
    "--head-channels",
    "8",
    "--input-size",
    "64x64",
    "--batch-size",
    "4",
    "--duration",
    "6",
    "--eval-every",
    "2",
    "--log-every",
    "1",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return write_demo(tmp_path_factory.mktemp("demo"), labeled=6, unlabeled=8, val=6, size=(72, 64))


def scenario(files: Demo, folder: Path, *flags: str, kills: list[Any]) -> dict[str, Any]:
    argv = [
        str(files.labels),
        "--images",
        str(files.images),
        "--unlabeled",
        str(files.unlabeled),
        "--val",
        str(files.val),
        "--val-images",
        str(files.val_images),
        "--out",
        str(folder),
        *FLAGS,
    ]
    return {"train": [*argv, *flags], "kills": kills}


def play(*scenarios: dict[str, Any]) -> list[list[int]]:
    """Run the scenarios; the exit codes of the processes of each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tasks.killing"],
        input=json.dumps(scenarios),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    codes: list[list[int]] = json.loads(done.stdout)
    assert all(row[-1] == 0 for row in codes), done.stderr
    return codes


def contents(run: Path) -> dict[str, Any]:
    """Everything in a run's folder that does not tell a time or a place."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = file.relative_to(run).as_posix()
        if file.name == "log.jsonl":
            clocks = ("images_per_s", "data_wait", "cores")
            found[name] = [{k: v for k, v in row.items() if k not in clocks} for row in read_log(file)]
        elif file.name == "metrics.json":
            found[name] = {key: value for key, value in read_json(file).items() if key != "memory"}
        elif file.is_file():
            told = file.name in ("run.json", "report.html", ".lock")
            found[name] = None if told else file.read_bytes()
    return found


def same(whole: Path, broken: Path) -> None:
    expected, found = contents(whole), contents(broken)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.slow
def test_a_run_killed_while_it_writes_ends_with_the_same_files(files: Demo, tmp_path: Path) -> None:
    kills = [
        ["after last.safetensors", 1],  # the best networks of update 2 have not taken their place
        ["half of .last.safetensors", 1],  # the checkpoint of update 4
        ["half a row", 3],
        ["before metrics.json", 1],
    ]
    codes = play(scenario(files, tmp_path / "whole", kills=[]), scenario(files, tmp_path / "broken", kills=kills))
    assert codes == [[0], [-9] * len(kills) + [0]]
    same(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_files(files: Demo, tmp_path: Path) -> None:
    kills = [
        ["before run.json", 1],
        ["after next-teacher.safetensors", 1],  # update 2; there is no checkpoint yet
        ["after last.safetensors", 1],  # the best networks of update 2 have not taken their place
        ["half of .last.safetensors", 1],  # the checkpoint of update 4
        ["half a row", 3],
        ["before updates.json", 2],  # trained, but not said so
        ["step", 4],  # in the first baseline, between checkpoints
        ["half of .last.safetensors", 4],  # in the second
        ["before metrics.json", 1],
    ]
    codes = play(
        scenario(files, tmp_path / "whole", "--baseline", kills=[]),
        scenario(files, tmp_path / "broken", "--baseline", kills=kills),
        scenario(files, tmp_path / "cons", "--method", "pose_cons", kills=[]),
        scenario(
            files,
            tmp_path / "broken-cons",
            "--method",
            "pose_cons",
            kills=[["step", 6], ["before last.safetensors", 1]],
        ),
    )
    assert codes == [[0], [-9] * len(kills) + [0], [0], [-9, -9, 0]]
    same(tmp_path / "whole", tmp_path / "broken")
    same(tmp_path / "cons", tmp_path / "broken-cons")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mean_teacher", "supervised", "pose_cons", "pseudo_label", "pose_dual"])
def test_a_run_may_be_killed_at_every_moment(method: str, files: Demo, tmp_path: Path) -> None:
    """At each single one of the moments that the driver knows, and at random times."""
    flags = ["--method", method, "--clip", "1", *["--baseline"] * (method != "supervised")]
    chance = random.Random(method)
    kills = {f"moment{nth}": [["", nth]] for nth in range(1, 100, 3)}
    kills |= {f"time{n}": [["seconds", chance.uniform(0.05, 2.5)] for _ in range(4)] for n in range(4)}
    play(
        scenario(files, tmp_path / "whole", *flags, kills=[]),
        *(scenario(files, tmp_path / name, *flags, kills=row) for name, row in kills.items()),
    )
    for name in kills:
        same(tmp_path / "whole", tmp_path / name)
