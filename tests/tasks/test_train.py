"""The main job from files to answer, on a handful of drawn people."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import semipose as sp
from semipose.data.figures import Demo, write_demo
from semipose.engine.checkpoint import load
from semipose.errors import DataError, UsageError
from semipose.tasks import train as train_module

TINY: dict[str, Any] = {
    "network": "mobilenet_v1", "width": 0.25, "head_channels": 8, "input_size": "64x64", "batch_size": 4,
    "duration": 4, "eval_every": 2, "log_every": 2, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return write_demo(tmp_path_factory.mktemp("demo"), labeled=6, unlabeled=8, val=10, size=(72, 64))


def read(files: Demo) -> sp.Data:
    return sp.load(files.labels, files.images, files.unlabeled, files.val, files.val_images)


def weights(run: sp.Run, name: str) -> dict[str, torch.Tensor]:
    return load(run.folder / "checkpoints" / f"{name}.safetensors")[0]


def test_the_main_job_ends_in_a_model_an_answer_and_a_report(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", twin=True, **TINY)
    metrics = run.metrics
    assert metrics is not None
    assert metrics["deployed"]["network"] == "teacher"
    assert set(metrics["val"]) == {"teacher", "student"}
    assert set(metrics["val"]["teacher"]) == {"best", "last"}
    assert metrics["twin"]["folder"] in ("twin/weak", "twin/strong")
    assert metrics["answer"]["helped"] in ("yes", "no", "unclear")
    assert metrics["answer"]["images"] == 10
    twin = sp.Run(run.folder / "twin" / "strong")
    assert twin.config["method_settings"]["augmentation"] == "strong"
    assert twin.config["settings"]["duration"] == run.config["settings"]["duration"]
    assert "Did the unlabeled images help" in (run.folder / "report.html").read_text()
    model = run.model()
    found = model.predict(files.unlabeled)
    assert found.keypoints.shape == (8, 14, 2)
    score = sp.evaluate(run, files.val, files.val_images)
    assert score.values["pck@0.1"] == pytest.approx(metrics["val"]["teacher"]["best"]["values"]["pck@0.1"])


def test_resume_finishes_a_stopped_run_and_its_twins_to_the_same_weights(
    files: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sp.train(read(files), out=tmp_path / "whole", twin=True, **TINY)
    steps = 0
    step = train_module.make_trainer.__globals__["Trainer"].step

    def dies(self: Any, batch: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 7:  # in the first twin, one update after its first checkpoint
            raise MemoryError("killed")
        return step(self, batch)

    monkeypatch.setattr("semipose.engine.trainer.Trainer.step", dies)
    with pytest.raises(MemoryError):
        sp.train(read(files), out=tmp_path / "broken", twin=True, **TINY)
    monkeypatch.undo()
    resumed = sp.resume(tmp_path / "broken")
    for name in ("best-teacher", "last-student", "last"):
        assert all(torch.equal(a, weights(resumed, name)[key]) for key, a in weights(whole, name).items())
    assert resumed.metrics | {"memory": 0} == whole.metrics | {"memory": 0}


def test_ctrl_c_saves_exits_with_130_and_says_how_to_go_on(files: Demo, tmp_path: Path) -> None:
    """The real thing: a process of its own, interrupted in the middle of training."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in (TINY | {"duration": 100000}).items()]
    command = [sys.executable, "-m", "semipose", "train", str(files.labels), "--images", str(files.images),
               "--unlabeled", str(files.unlabeled), "--out", str(tmp_path / "run"), *flags]  # fmt: skip
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
        sp.train(sp.load(path, files.images, split=split, val=files.val, val_images=files.val_images),
                 out=tmp_path / path.stem, **TINY)
        for path in (files.labels, other)
    ]  # fmt: skip
    for name in ("best-teacher", "last"):
        first, second = (weights(run, name) for run in runs)
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_without_anybody_held_out_the_last_checkpoint_is_deployed(files: Demo, tmp_path: Path) -> None:
    run = sp.train(sp.load(files.labels, files.images, files.unlabeled), out=tmp_path / "run", twin=True, **TINY)
    assert run.metrics is not None
    assert run.metrics["val"] is None
    assert "last checkpoint" in run.metrics["deployed"]["rule"]
    assert run.model().update == 4


def test_a_corrupt_unlabeled_image_is_skipped_and_counted(files: Demo, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    shutil.copytree(files.unlabeled, frames)
    whole = sorted(frames.iterdir())[3]
    whole.write_bytes(whole.read_bytes()[:300])
    data = sp.load(files.labels, files.images, frames, files.val, files.val_images)
    run = sp.train(data, out=tmp_path / "run", **TINY)
    assert run.metrics is not None
    counted = len(run.metrics["unreadable_unlabeled"]) + sum("unreadable" in note for note in data.notes)
    assert counted == 1


def test_a_folder_in_use_and_changed_data_are_refused(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    with pytest.raises(UsageError, match="not empty"):
        sp.train(read(files), out=run.folder, **TINY)
    plan = run.folder / "run.json"
    plan.write_text(plan.read_text().replace(run.config["data"]["fingerprint"], "0" * 16))
    with pytest.raises(DataError, match="fingerprint"):
        sp.resume(run.folder)


def test_settings_say_where_they_come_from(files: Demo, tmp_path: Path) -> None:
    run = sp.train(read(files), out=tmp_path / "run", method="supervised", **TINY)
    settings = run.config["settings"]
    assert settings["batch_size"] == {"value": 4, "source": "flag", "reason": "given in Python"}
    assert settings["lr"]["source"] == "default"


def test_two_seeds_differ_and_one_repeats_itself(files: Demo, tmp_path: Path) -> None:
    small = TINY | {"duration": 2}
    runs = [
        sp.train(read(files), out=tmp_path / str(n), method="pose_cons", seed=seed, **small)
        for n, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (weights(run, "last-network") for run in runs)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_people_of_the_run_are_unchanged_by_training(files: Demo, tmp_path: Path) -> None:
    data = read(files)
    before = replace(data.labeled.poses)
    sp.train(data, out=tmp_path / "run", method="supervised", **TINY)
    assert np.array_equal(before.keypoints, data.labeled.poses.keypoints)
