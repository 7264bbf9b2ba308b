"""Comparisons from labels to table: what is run, what is not run again, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import semipose as sp
from semipose.comparison.job import read_predictions
from semipose.comparison.launch import Cluster
from semipose.comparison.records import Comparison
from semipose.comparison.table import html, tables
from semipose.data.splits import load_split
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.metrics.intervals import mean_difference
from semipose.metrics.score import score
from semipose.runs.records import TrainRow, parse_record
from semipose.system.files import read_json
from semipose.system.tensor_file import load
from tests.comparison import comparing
from tests.comparison.comparing import compare

CRASHING = '''
from tests.contract.third_party import TwoViews

class Crashing(TwoViews):
    """Crashes in its third update."""

    def forward(self, batch, progress):
        if progress.update == 2:
            raise RuntimeError("no third update")
        return super().forward(batch, progress)
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished comparison of pose_dual with two seeds; to be read only."""
    folder = tmp_path_factory.mktemp("comparison")
    labels, _ = comparing.people(folder / "people", 48)
    result, started = compare(labels, folder / "out", seeds=2)
    return SimpleNamespace(labels=labels, out=folder / "out", result=result, started=started)


@pytest.fixture
def out(made: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(made.out, tmp_path / "out")
    return tmp_path / "out"


def row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row["row"] == name)


def runs(made: SimpleNamespace, name: str) -> list[sp.Run]:
    return [sp.Run(made.out / place) for place in row(made.result, name)["runs"]]


def best(run: sp.Run, which: str = "best") -> dict[str, float]:
    """The values of the deployed network on val, as the run's own metrics say them."""
    assert run.metrics is not None
    assert run.metrics.deployed_scores is not None
    values: dict[str, float] = getattr(run.metrics.deployed_scores, which).values
    return values


def test_every_row_says_what_its_runs_say(made: SimpleNamespace) -> None:
    assert [one["row"] for one in made.result["rows"]] == [
        "baseline",
        "baseline_strong",
        "baseline_weak",
        "pose_dual",
        "bound",
    ]
    for name in ("baseline_strong", "baseline_weak", "pose_dual", "bound"):
        found = row(made.result, name)
        assert found["seeds"] == [0, 1]
        for metric, value in found["values"].items():
            assert value["each"] == [best(run).get(metric) for run in runs(made, name)]
            assert value["mean"] == pytest.approx(sum(value["each"]) / 2)
        assert found["last"]["each"] == [best(run, "last")["pck@0.1"] for run in runs(made, name)]
        spread = found["values"]["pixel_error"]
        first, second = spread["each"]
        assert spread["spread"] == pytest.approx(abs(first - second) / 2**0.5)
    assert json.loads((made.out / "comparison.json").read_text()) == made.result


def test_the_baseline_is_the_best_on_val_of_both_views_and_both_kinds_of_weights(made: SimpleNamespace) -> None:
    for seed, chosen in enumerate(runs(made, "baseline")):
        reached = []
        for name in ("baseline_weak", "baseline_strong"):
            metrics = runs(made, name)[seed].metrics
            assert metrics is not None
            assert metrics.val is not None
            assert set(metrics.val) == {"raw", "ema"}
            reached += [each.best.values["pck@0.1"] for each in metrics.val.values()]
        assert best(chosen)["pck@0.1"] == max(reached)


def test_the_difference_is_that_of_paired_people_over_both_seeds(made: SimpleNamespace) -> None:
    data = sp.load(made.labels, made.labels.parent / "images", val=made.out / "val.json")
    assert data.val is not None
    truth, scores = data.val.poses, []
    for run in [*runs(made, "pose_dual"), *runs(made, "baseline")]:
        found = read_predictions(run.folder / "found-val.safetensors", truth)[run.checkpoint().stem]
        scores.append(score(found, truth, run.skeleton, resamples=0))
    expected = mean_difference([(scores[0], scores[2]), (scores[1], scores[3])], "pck@0.1")
    gain = row(made.result, "pose_dual")["against_baseline"]
    assert (gain["value"], gain["low"], gain["high"]) == (expected.value, expected.low, expected.high)
    values = [row(made.result, name)["values"]["pck@0.1"]["mean"] for name in ("pose_dual", "baseline")]
    assert gain["value"] == pytest.approx(values[0] - values[1])
    assert row(made.result, "bound")["against_baseline"] is None


def test_costs_are_those_of_the_runs(made: SimpleNamespace) -> None:
    dual, baseline = row(made.result, "pose_dual")["cost"], row(made.result, "baseline_weak")["cost"]
    assert (dual["updates"], dual["images_seen"], baseline["images_seen"]) == (4, 32, 16)
    assert (dual["networks_trained"], dual["networks_at_inference"], baseline["networks_trained"]) == (2, 1, 1)
    rows = [row for run in runs(made, "baseline_weak") for row in run.log() if isinstance(row, TrainRow)]
    seconds = sum(4 / row.images_per_s for row in rows) / 2
    assert baseline["seconds"] == pytest.approx(seconds)
    assert baseline["cpu_seconds"] == pytest.approx(sum(4 / row.images_per_s * (row.cores or 0) for row in rows) / 2)
    assert baseline["cpu_seconds"] > 0
    assert baseline["peak_ram"] > 1e8


def test_people_are_divided_once_for_all_rows_and_smaller_parts_lie_in_larger_ones(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    val = {image["id"] for image in read_json(made.out / "val.json")["images"]}
    train = {image["id"] for image in read_json(made.out / "train.json")["images"]}
    assert len(val) == 20
    assert len(train) == 28
    assert not val & train
    with pytest.raises(UsageError, match="--label-amounts 29"):
        compare(made.labels, tmp_path / "out", label_amounts="20%,40%,29")
    small, large = (load_split(tmp_path / "out" / "splits" / f"{name}-seed0.json") for name in ("20pct", "40pct"))
    assert set(small.labeled) < set(large.labeled)
    assert {*small.labeled, *small.unlabeled} == train
    for seed in (0, 1):
        prints = {
            run.record.data.fingerprint
            for name in ("baseline_weak", "baseline_strong", "pose_dual")
            for run in runs(made, name)
            if run.settings.seed == seed
        }
        assert len(prints) == 1
    first, second = (run.record.data.fingerprint for run in runs(made, "pose_dual"))
    assert first != second
    bound = row(made.result, "bound")
    assert (bound["labeled"], bound["unlabeled"]) == (28, 0)


def test_what_is_done_is_not_repeated_and_more_may_be_added(made: SimpleNamespace, out: Path) -> None:
    result, started = compare(made.labels, out, seeds=2)
    assert started == []
    assert result["rows"] == made.result["rows"]
    result, started = compare(made.labels, out, methods="pose_dual,mean_teacher[decay=0.5]")
    assert started == ["20pct-seed0-mean_teacher[decay=0.5]"]
    assert [one["row"] for one in result["rows"]][3:5] == ["mean_teacher[decay=0.5]", "pose_dual"]
    assert row(result, "pose_dual")["seeds"] == [0, 1]  # what earlier calls made stays in the table


@pytest.mark.slow
def test_people_of_a_test_file_judge_the_same_runs(made: SimpleNamespace, out: Path, tmp_path: Path) -> None:
    labels, images = comparing.people(tmp_path / "test", 12, seed=9)
    weights = (out / "runs/20pct/seed0/pose_dual/checkpoints/last.safetensors").read_bytes()
    result, _ = compare(made.labels, out, test=labels, test_images=images)
    found = row(result, "pose_dual")
    run = sp.Run(out / "runs/20pct/seed0/pose_dual")
    assert found["values"]["pixel_error"]["each"] == [sp.evaluate(run, labels, images).values["pixel_error"]]
    assert found["runs"] == ["runs/20pct/seed0/pose_dual"]
    assert result["scored_on"]["people"] == 12
    assert (run.folder / "checkpoints" / "last.safetensors").read_bytes() == weights
    # Predictions for other people under the same name do not count.
    comparing.people(tmp_path / "test", 12, seed=10)
    again, _ = compare(made.labels, out, test=labels, test_images=images)
    assert row(again, "pose_dual")["values"] != found["values"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 8}, r"batch_size 4 \(requested: 8\)"),
        ({"duration": 6}, r"duration 4 \(requested: 6\)"),
        ({"network": "resnet18"}, r"network mobilenet_v1 \(requested: resnet18\)"),
        ({"input_size": "96x64"}, "input_size 64x64"),
        ({"flip_test": True}, "flip_test False"),
    ],
)
def test_another_protocol_in_the_same_folder_is_refused(
    changes: dict[str, Any], told: str, made: SimpleNamespace
) -> None:
    with pytest.raises(UsageError, match=told):
        compare(made.labels, made.out, **changes)


def test_settings_that_change_no_number_may_differ(made: SimpleNamespace, out: Path) -> None:
    assert compare(made.labels, out, seeds=2, workers=2, cache="none", log_every=7, jobs=3)[1] == []


@pytest.mark.parametrize("key", ["batch_size", "longer", "precision", "fingerprint", "network"])
def test_a_run_of_another_protocol_that_was_put_there_is_refused(key: str, made: SimpleNamespace, out: Path) -> None:
    file = out / "runs/20pct/seed1/pose_dual/run.json"
    config = read_json(file)
    {
        "batch_size": lambda: config["settings"]["batch_size"].update(value=32),
        "longer": lambda: config.update(longer=[{"duration": "4"}]),
        "precision": lambda: config.update(precision="bf16"),
        "fingerprint": lambda: config["data"].update(fingerprint="0"),
        "network": lambda: config["network"].update(width=0.25),
    }[key]()
    file.write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"another protocol.*choose another --out"):
        compare(made.labels, out, seeds=2)


def test_other_data_in_the_same_folder_is_refused(made: SimpleNamespace, out: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"with other unlabeled than"):
        compare(made.labels, out, unlabeled=made.labels.parent / "images")
    with pytest.raises(DataError, match=r"with other by than"):
        compare(made.labels, out, by="person")
    content = read_json(made.labels)
    held = {image["id"] for image in read_json(out / "val.json")["images"]}
    next(one for one in content["annotations"] if one["image_id"] in held)["keypoints"][0] += 1
    (tmp_path / "labels.json").write_text(json.dumps(content))
    plain = read_json(out / "data.json") | {"labels": str(tmp_path / "labels.json")}
    (out / "data.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=r"val\.json: the runs here were made with other annotations"):
        sp.compare(
            tmp_path / "labels.json",
            made.labels.parent / "images",
            methods="pose_dual",
            label_amounts="20%",
            seeds=1,
            out=out,
            **comparing.TINY,
        )


def test_a_crashing_job_is_reported_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: SimpleNamespace, out: Path
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.rmtree(out / "runs/all")
    name = "20pct-seed0-crashing.Crashing"
    with pytest.raises(SemiposeError, match="1 of 5 jobs failed") as caught:
        compare(made.labels, out, methods="crashing:Crashing,pose_dual")
    assert f"{name}: no third update" in str(caught.value)
    result = read_json(out / "comparison.json")
    assert result["failed"] == {name: "no third update"}
    assert [one["row"] for one in result["rows"]] == [
        "baseline",
        "baseline_strong",
        "baseline_weak",
        "pose_dual",
        "bound",
    ]
    assert f"{name} failed, no third update" in (out / "comparison.md").read_text()
    # Repaired, it goes on from where it crashed.
    (tmp_path / "crashing.py").write_text(CRASHING.replace("== 2", "== 99"))
    sys.modules.pop("crashing")
    result, started = compare(made.labels, out, methods="crashing:Crashing,pose_dual")
    assert started == [name]
    assert row(result, "crashing.Crashing")["cost"]["updates"] == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"duration": "2h"}, "number of updates such as 5000"),
        ({"duration": "3ep"}, "number of updates such as 5000"),
        ({"patience": 3}, "patience differs"),
        ({"seed": 1}, "seed differs"),
        ({"method": "pose_cons"}, "method differs"),
        ({"seeds": 0}, "--seeds 0"),
        ({"jobs": 0}, "--jobs 0"),
        ({"test_images": "there"}, "there is no --test"),
        ({"cluster": ["timeout_min=5"]}, "is for --launcher submitit"),
        ({"duraton": 5}, "did you mean 'duration'"),
    ],
)
def test_what_would_make_rows_unlike_or_do_nothing_is_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        compare(tmp_path / "labels.json", tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_too_few_people_to_hold_some_out_are_told_of(tmp_path: Path) -> None:
    labels, _ = comparing.people(tmp_path / "people", 12)
    with pytest.raises(UsageError, match="12 labeled people are too few to hold some out: give --val"):
        compare(labels, tmp_path / "out")


@pytest.mark.slow
def test_ctrl_c_stops_the_processes_which_save_and_the_same_command_goes_on(
    made: SimpleNamespace, out: Path, tmp_path: Path
) -> None:
    shutil.rmtree(out / "runs/20pct/seed0")
    command = [
        sys.executable,
        "-m",
        "semipose",
        "compare",
        str(made.labels),
        "--images",
        str(made.labels.parent / "images"),
        "--methods",
        "pose_dual",
        "--label-amounts",
        "20%",
        "--seeds",
        "1",
        "--out",
        str(out),
        "--jobs",
        "2",
        "--log-every",
        "1",
    ]
    for name, value in comparing.TINY.items():
        command += [f"--{name.replace('_', '-')}", str(value)] if name != "log_every" else []
    # The first baseline has to wait in its third update until it is told to stop.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'semipose.comparison.job' in sys.orig_argv:\n"
        "    from semipose.engine.trainer import Trainer\n"
        "    step = Trainer.step\n"
        "    def slow(self, batch):\n"
        "        time.sleep(3 if self.update == 2 else 0)\n"
        "        return step(self, batch)\n"
        "    Trainer.step = slow\n"
    )
    log = out / "runs/20pct/seed0/baseline_weak/log.jsonl"
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert b"the same command continues" in told
    assert [row.update for row in sp.Run(log.parent).log() if isinstance(row, TrainRow)][-1] in (2, 3)
    assert (log.parent / "checkpoints" / "last.safetensors").is_file()
    assert not (log.parent / "metrics.json").exists()
    _, started = compare(made.labels, out)
    assert started == ["20pct-seed0-baseline_weak", "20pct-seed0-baseline_strong", "20pct-seed0-pose_dual"]
    name = "runs/20pct/seed0/baseline_weak/checkpoints/last-raw.safetensors"
    whole, broken = (load(folder / name)[0] for folder in (made.out, out))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


@pytest.mark.slow
def test_submitit_runs_a_job_too(made: SimpleNamespace, out: Path) -> None:
    pytest.importorskip("submitit")
    file = out / "jobs" / "20pct-seed0-baseline_weak.json"
    job = read_json(file)
    folder = out / "runs/20pct/seed0/baseline_weak"
    shutil.rmtree(folder)
    file.write_text(json.dumps(job | {"run": str(folder)}))
    start = Cluster(out, ["cluster=local", "timeout_min=5"])
    good, bad = start(file, 0), start(out / "jobs" / "nowhere.json", 1)
    deadline = time.monotonic() + 120
    while (good.ended() is None or bad.ended() is None) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert good.ended() == ""
    assert "nowhere.json" in (bad.ended() or "")
    name = "runs/20pct/seed0/baseline_weak/checkpoints/last-raw.safetensors"
    assert all(torch.equal(value, load(out / name)[0][key]) for key, value in load(made.out / name)[0].items())


def test_the_page_and_the_table_show_every_row(made: SimpleNamespace) -> None:
    text, page = (made.out / "comparison.md").read_text(), (made.out / "comparison.html").read_text()
    ((title, rows),) = tables(parse_record(made.result, Comparison, "the result"))
    assert title == "20 % of the labels: 6 people"
    assert [one.row for one in rows][-1] == "bound"
    value = row(made.result, "pose_dual")["values"]["pck@0.1"]
    line = next(line for line in text.splitlines() if line.startswith("| pose_dual"))
    assert f"| {value['mean']:.1f} ± {value['spread']:.1f} |" in line
    assert "| 4, 32 |" in line
    for name in ("baseline: labels only", "labels only, weak views", "pose_dual", "bound: all labels"):
        assert name in text
        assert name in page
    assert page.count("<circle") > 3 * 14
    assert "head_top" in page
    assert "http" not in page.replace("http-equiv", "")


def test_nothing_from_files_becomes_markup_on_the_page(made: SimpleNamespace) -> None:
    evil = "<script>alert(1)</script>"
    result = parse_record(made.result, Comparison, "the result")
    for row in result.rows:
        row.row, row.deployed = evil, [evil]
        row.per_keypoint |= {evil: row.per_keypoint.popitem()[1]}
    result.protocol |= {"network": evil, evil: evil}
    result.failed, result.open = {evil: evil}, [evil]
    page = html(Path(evil), result)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 15
