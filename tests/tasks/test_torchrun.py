"""The main job as somebody with two GPUs would start it, on CPUs: torchrun, Ctrl-C, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semipose.synthetic.single import write_demo

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "semipose"]
pytestmark = pytest.mark.slow


def start(*arguments: object) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*TORCHRUN, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment)


def test_an_interrupted_run_of_two_processes_goes_on_with_two(tmp_path: Path) -> None:
    files = write_demo(tmp_path / "people", labeled=6, unlabeled=8, val=10, size=(72, 64))
    run = tmp_path / "run"
    process = start(
        "train",
        files.labels,
        "--images",
        files.images,
        "--unlabeled",
        files.unlabeled,
        "--val",
        files.val,
        "--val-images",
        files.val_images,
        "--out",
        run,
        "--network=mobilenet_v1",
        "--width=0.125",
        "--head-channels=8",
        "--input-size=64x64",
        "--batch-size=4",
        "--duration=200",
        "--eval-every=100",
        "--log-every=5",
        "--device=cpu",
    )
    for _ in range(600):
        if (run / "log.jsonl").is_file() and (run / "log.jsonl").stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert told.count("continue with: semipose resume") == 1, told
    assert not (run / "metrics.json").exists()

    process = start("resume", run)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 0, told
    assert told.count("report: ") == 1
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows if row["kind"] == "train"] == list(range(5, 201, 5))
    assert not [row for row in rows if row["kind"] == "event"]


def test_a_fault_is_told_once(tmp_path: Path) -> None:
    files = write_demo(tmp_path / "people", labeled=6, unlabeled=8, val=10, size=(72, 64))
    for flag, words in (("--batch-size=5", "--batch-size 5"), ("--bach-size=4", "Unrecognized options: --bach-size")):
        told = start("train", files.labels, "--images", files.images, "--device=cpu", flag).communicate(timeout=60)[1]
        assert told.count(words) == 1, told
