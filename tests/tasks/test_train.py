"""The main job from files to answer, on a handful of synthetic people."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import semipose as sp
from semipose.cli.main import main
from semipose.engine.log import read_log
from semipose.engine.trainer import Trainer
from semipose.errors import DataError, SemiposeError, UsageError, WriteError
from semipose.runs.folder import free_folder
from semipose.runs.phases import read_phases
from semipose.runs.records import CropsRecord, Metrics, SettingRecord, TrainRow, read_json_as
from semipose.synthetic.single import Demo, write_demo
from semipose.system.files import is_leftover, locked
from semipose.system.tensor_file import load, read_record
from tests.finished_run import write_plan

TINY: dict[str, Any] = {
    "network": "mobilenet_v1",
    "width": 0.25,
    "head_channels": 8,
    "input_size": "64x64",
    "batch_size": 4,
    "duration": 4,
    "eval_every": 2,
    "log_every": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return write_demo(tmp_path_factory.mktemp("demo"), labeled=6, unlabeled=8, val=10, size=(72, 64))


def read(files: Demo) -> sp.Data:
    return sp.load(files.labels, files.images, files.unlabeled, files.val, files.val_images)


def weights(run: sp.Run, name: str) -> dict[str, torch.Tensor]:
    return load(run.folder / "checkpoints" / f"{name}.safetensors")[0]


def test_the_baseline_has_the_auxiliary_heads_of_the_method(files: Demo, tmp_path: Path) -> None:
    settings = TINY | {"method": "mean_teacher_levels"}
    run = sp.train(read(files), out=tmp_path / "run", baseline=True, method_settings={"levels": (0.0, 0.4)}, **settings)
    for kind in ("weak", "strong"):
        baseline = sp.Run(run.folder / "baseline" / kind)
        assert baseline.record.method_settings["levels"] == [0, 0.4]
    losses = [
        next(row.losses["labeled"] for row in one.log() if isinstance(row, TrainRow))
        for one in (run, sp.Run(run.folder / "baseline" / "weak"))
    ]
    assert losses[0] == pytest.approx(losses[1])


def test_the_main_job_ends_in_a_model_an_answer_and_a_report(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", baseline=True, **TINY)
    metrics = run.metrics
    assert metrics is not None
    assert metrics.deployed.network == "teacher"
    crops = 8 * 106 * 106 * 3
    assert metrics.memory.crops["unlabeled"] == CropsRecord("ram", crops)
    assert metrics.memory.peak_ram is not None
    assert metrics.memory.peak_ram > crops
    assert "unlabeled 0.00 GB in ram" in (run.folder / "report.html").read_text()
    assert set(metrics.val or ()) == {"teacher", "student"}
    assert metrics.baseline is not None
    assert metrics.baseline.folder in ("baseline/weak", "baseline/strong")
    assert metrics.against_baseline is not None
    assert metrics.against_baseline.helped in ("yes", "no", "unclear")
    assert metrics.against_baseline.images == 10
    baseline = sp.Run(run.folder / "baseline" / "strong")
    assert baseline.record.method_settings["augmentation"] == "strong"
    assert baseline.record.method_settings["levels"] == [0.1, 0.3]
    assert baseline.settings.duration == run.settings.duration
    assert "Did the unlabeled images help" in (run.folder / "report.html").read_text()
    model = run.model()
    found = model.predict(files.unlabeled)
    assert found.keypoints.shape == (8, 14, 2)
    assert metrics.deployed_scores is not None
    score = sp.evaluate(run, files.val, files.val_images)
    assert score.values["pck@0.1"] == pytest.approx(metrics.deployed_scores.best.values["pck@0.1"])


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """The run in this block ends without warning after that many steps."""
    steps, step = 0, Trainer.step

    def dies(self: Trainer, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > after:
            raise MemoryError("killed")
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", dies)
        with pytest.raises(MemoryError):
            yield


def phases(folder: Path) -> list[tuple[int, int, int | None]]:
    return [tuple(phase) for phase in read_phases(folder)]


@pytest.mark.slow
def test_a_finished_run_trains_longer_in_a_phase_of_its_own_and_so_do_its_baselines(
    files: Demo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = sp.train(read(files), out=tmp_path / "run", baseline=True, **TINY)
    before = run.metrics
    longer = sp.resume(run.folder, duration=6)
    for folder in (run.folder, run.folder / "baseline" / "weak", run.folder / "baseline" / "strong"):
        assert phases(folder) == [(0, 4, 4), (4, 6, 10)]
        assert read_record(folder / "checkpoints" / "last.safetensors")["update"] == 10
        events = [(row["update"], row["text"]) for row in read_log(folder / "log.jsonl") if row["kind"] == "event"]
        assert events == [(4, "a new phase of 6 updates: a warm-up and a schedule of its own")]
    assert read_json_as(run.folder / "metrics-1.json", Metrics) == before
    assert longer.metrics is not None
    assert longer.record.longer[0].duration == "6"
    assert longer.record.durations == ["4", "6"]
    page = (run.folder / "report.html").read_text()
    assert "10 updates · in 2 phases" in page
    assert "a new phase of 6 updates" in page


def test_only_a_finished_run_trains_longer(files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed(monkeypatch, after=3):
        sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    with pytest.raises(UsageError, match="finish it with `semipose resume"):
        sp.resume(tmp_path / "run", duration="6")
    with pytest.raises(UsageError, match="--duration: expected"):
        sp.resume(tmp_path / "run", duration="soon")
    assert phases(sp.resume(tmp_path / "run").folder) == [(0, 4, 4)]


@pytest.mark.slow
def test_the_baselines_of_a_run_that_stopped_early_train_as_long_as_it_did(files: Demo, tmp_path: Path) -> None:
    few = TINY | {"duration": 60, "lr": 1e-9}  # nothing gets better, once batch norm has found its statistics
    run = sp.train(read(files), out=tmp_path / "run", baseline=True, patience=2, **few)
    ((_, _, end),) = phases(run.folder)
    assert end is not None
    assert end < 60
    for kind in ("weak", "strong"):
        assert phases(run.folder / "baseline" / kind) == [(0, 60, end)]
    assert "stopped early" in (run.folder / "report.html").read_text()
    with pytest.raises(UsageError, match="--patience 2 needs people to validate on"):
        sp.train(sp.load(files.labels, files.images, files.unlabeled), out=tmp_path / "blind", patience=2, **TINY)


@pytest.mark.slow
def test_a_time_is_measured_once(files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = TINY | {"duration": "0.5s", "eval_every": 1000}
    with killed(monkeypatch, after=5):  # while an update is timed
        sp.train(read(files), out=tmp_path / "run", method="supervised", **timed)
    assert phases(tmp_path / "run") == []
    with killed(monkeypatch, after=12):  # ten are timed
        sp.resume(tmp_path / "run")
    ((start, updates, end),) = phases(tmp_path / "run")
    assert (start, end) == (0, None)
    with monkeypatch.context() as patched:
        patched.delattr("semipose.engine.setup._seconds_per_update")
        sp.resume(tmp_path / "run")
    assert phases(tmp_path / "run") == [(0, updates, updates)]
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["update"] == updates


def test_what_a_resumed_run_does_not_find_as_it_was_is_said_or_refused(
    files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = Demo(
        **{
            name: tmp_path / "p" / path.relative_to(files.labels.parent) if path else None
            for name, path in vars(files).items()
        }
    )
    shutil.copytree(files.labels.parent, tmp_path / "p")
    with killed(monkeypatch, after=3):
        sp.train(read(mine), out=tmp_path / "run", method="supervised", **TINY)
    plan = tmp_path / "run" / "run.json"
    config = json.loads(plan.read_text())
    threads = config["threads"]
    plan.write_text(json.dumps(config | {"threads": 99, "versions": config["versions"] | {"torch": "1.0"}}))
    image = sorted(mine.images.iterdir())[0]
    whole = image.read_bytes()
    image.write_bytes(whole + b"x")
    with pytest.raises(DataError, match="the image files are not those this run was started with"):
        sp.resume(tmp_path / "run")
    image.write_bytes(whole)
    with locked(tmp_path / "run" / ".lock"), pytest.raises(SemiposeError, match=f"in use by process {os.getpid()}"):
        sp.resume(tmp_path / "run")
    sp.resume(tmp_path / "run")
    told = f"resumed with threads 99, now {threads}; torch 1.0, now {torch.__version__}: the weights will not be"
    assert told[:40] in capfd.readouterr().err
    (event,) = [row for row in read_log(tmp_path / "run" / "log.jsonl") if row["kind"] == "event"]
    assert (event["update"], event["text"][: len(told)]) == (2, told)


def test_a_full_disk_loses_nothing(
    files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    replace_file, calls = os.replace, 0

    def full(source: Any, target: Any) -> None:
        nonlocal calls
        calls += Path(target).name == "last.safetensors"
        if calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(WriteError, match=r"last\.safetensors.*No space left on device"):
            sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    assert "continue with: semipose resume" in capfd.readouterr().err
    assert read_record(tmp_path / "run" / "checkpoints" / "last.safetensors")["update"] == 2
    assert not any(is_leftover(file) for file in (tmp_path / "run").rglob("*"))
    assert phases(sp.resume(tmp_path / "run").folder) == [(0, 4, 4)]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--device", "cuda:7"], 2, "--device cuda:7 cannot be used here"),
        (["--out", "p/labels.json/run"], 1, "cannot be written: Not a directory"),
        (["--out", "p"], 2, "the folder is not empty"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_no_folder(
    flags: list[str],
    code: int,
    words: str,
    files: Demo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(files.labels.parent, tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert (
        main(
            [
                "train",
                "p/labels.json",
                "--images",
                "p/images",
                "--val",
                "p/val/labels.json",
                "--val-images",
                "p/val/images",
                "--duration",
                "2",
                *flags,
            ]
        )
        == code
    )
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("wrong", "error"), [({"deploy": "nonsense"}, UsageError), ({"weights": "no.safetensors"}, SemiposeError)]
)
def test_what_is_found_wrong_once_networks_are_built_leaves_the_folder_free(
    wrong: dict[str, str], error: type[SemiposeError], files: Demo, tmp_path: Path
) -> None:
    data, out = read(files), tmp_path / "run"
    small = {"width": 0.125, "head_channels": 8, "input_size": "32x32", "duration": 1, "batch_size": 2}
    with pytest.raises(error, match="no"):
        sp.train(data, method="mean_teacher", out=out, **small, **wrong)
    assert sp.train(data, method="mean_teacher", out=out, **small).metrics is not None


def test_runs_that_are_not_named_take_the_next_free_folder(
    files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = read(files)
    assert [free_folder(None, data, "a.b:C").as_posix() for _ in range(2)] == ["runs/labels-C-1", "runs/labels-C-2"]


def test_a_baseline_goes_on_with_its_run(files: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "baseline" / "weak"
    folder.mkdir(parents=True)
    write_plan(folder, read(files))
    with pytest.raises(UsageError, match=f"semipose resume {tmp_path / 'run'}"):
        sp.resume(folder)


def test_ctrl_c_saves_exits_with_130_and_says_how_to_go_on(files: Demo, tmp_path: Path) -> None:
    """The real thing: a process of its own, interrupted in the middle of training."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in (TINY | {"duration": 100000}).items()]
    command = [
        sys.executable,
        "-m",
        "semipose",
        "train",
        str(files.labels),
        "--images",
        str(files.images),
        "--unlabeled",
        str(files.unlabeled),
        "--out",
        str(tmp_path / "run"),
        *flags,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    for _ in range(600):
        if log.is_file() and log.stat().st_size:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "semipose resume" in told
    assert load(tmp_path / "run" / "checkpoints" / "last.safetensors")[1]["update"] >= 2


def test_labels_of_the_unlabeled_part_are_never_read(files: Demo, tmp_path: Path) -> None:
    labels = json.loads(files.labels.read_text())
    ids = [image["id"] for image in labels["images"]]
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"labelled": ids[:4], "unlabelled": ids[4:]}))
    corrupted = json.loads(files.labels.read_text())
    for annotation in corrupted["annotations"]:
        if annotation["image_id"] in ids[4:]:
            annotation["keypoints"] = [7.0, 3.0, 2] * 14
    other = tmp_path / "corrupted.json"
    other.write_text(json.dumps(corrupted))
    runs = [
        sp.train(
            sp.load(path, files.images, split=split, val=files.val, val_images=files.val_images),
            out=tmp_path / path.stem,
            **TINY,
        )
        for path in (files.labels, other)
    ]
    for name in ("best-teacher", "last"):
        first, second = (weights(run, name) for run in runs)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_without_anybody_held_out_the_last_checkpoint_is_deployed(files: Demo, tmp_path: Path) -> None:
    run = sp.train(sp.load(files.labels, files.images, files.unlabeled), out=tmp_path / "run", baseline=True, **TINY)
    assert run.metrics is not None
    assert run.metrics.val is None
    assert "last checkpoint" in run.metrics.deployed.rule
    assert run.model().update == 4


def test_a_corrupt_unlabeled_image_is_skipped_and_counted(files: Demo, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(files.unlabeled, frames)
    whole = sorted(frames.iterdir())[3]
    whole.write_bytes(whole.read_bytes()[:300])
    data = sp.load(files.labels, files.images, frames, files.val, files.val_images)
    run = sp.train(data, out=tmp_path / "run", **TINY)
    assert run.metrics is not None
    counted = len(run.metrics.unreadable_unlabeled) + sum("unreadable" in note for note in data.notes)
    assert counted == 1


def test_a_folder_in_use_and_changed_data_are_refused(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    with pytest.raises(UsageError, match="not empty"):
        sp.train(read(files), out=run.folder, **TINY)
    plan = run.folder / "run.json"
    plan.write_text(plan.read_text().replace(run.record.data.fingerprint, "0" * 16))
    with pytest.raises(DataError, match="fingerprint"):
        sp.resume(run.folder)


def test_settings_say_where_they_come_from(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    settings = run.record.settings
    assert settings["batch_size"] == SettingRecord(4, "flag", "given in Python")
    assert settings["lr"].source == "default"


@pytest.mark.slow
def test_two_seeds_differ_and_one_repeats_itself(files: Demo, tmp_path: Path) -> None:
    small = TINY | {"duration": 2}
    runs = [
        sp.train(read(files), out=tmp_path / str(n), method="pose_cons", seed=seed, **small)
        for n, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (weights(run, "last-network") for run in runs)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.slow
def test_people_of_the_run_are_unchanged_by_training(files: Demo, tmp_path: Path) -> None:
    data = read(files)
    before = replace(data.labeled.poses)
    sp.train(data, out=tmp_path / "run", method="supervised", **TINY)
    assert np.array_equal(before.keypoints, data.labeled.poses.keypoints)
