"""The report on corrected pseudo-labels: both of them, and hidden labels that only the report reads."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.formats.labels import load_labels
from semipose.formats.load import load
from semipose.methods.sspcm import Sspcm
from semipose.report import correction as report_correction
from semipose.report.correction import before_and_after, correction, corrector, errors, hidden_labels
from semipose.runs.run import Run
from semipose.synthetic.single import write_people
from semipose.tasks.train import train

TINY: dict[str, Any] = {
    "network": "mobilenet_v1",
    "width": 0.125,
    "head_channels": 8,
    "input_size": "64x64",
    "batch_size": 4,
    "duration": 4,
    "eval_every": 4,
    "device": "cpu",
    "method": "sspcm",
}
HIDDEN = list(range(5, 13))


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labeled people, of which a split hides eight."""
    folder = tmp_path_factory.mktemp("divided")
    write_people(folder, 12, seed=0, size=(72, 64))
    (folder / "split.json").write_text(json.dumps({"labeled": [1, 2, 3, 4], "unlabeled": HIDDEN}))
    return folder


@pytest.fixture(scope="module")
def run(divided: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = load(divided / "labels.json", divided / "images", split=divided / "split.json")
    options = {"period": 0.25, "teacher": "resnet18"}
    return train(data, method_settings=options, out=tmp_path_factory.mktemp("runs") / "run", **TINY)


@pytest.fixture
def read(divided: Path) -> Callable[[], Any]:
    return lambda: load(divided / "labels.json", divided / "images", split=divided / "split.json").unlabeled


def test_a_report_shows_both_and_their_errors(run: Run) -> None:
    html = (run.folder / "report.html").read_text()
    assert "Pseudo-labels before and after correction" in html
    assert html.count('alt="Pseudo-labels before and after correction on') == 6
    assert "Measured on 8 of these people" in html


def test_the_method_is_the_one_that_was_trained(run: Run) -> None:
    method = corrector(run)
    assert isinstance(method, Sspcm)
    assert method.first.config["name"] == "resnet18"
    assert method.first_before.updates > 0
    last = run.model("last-second").network.state_dict()
    assert all(np.array_equal(value, last[name]) for name, value in method.second.state_dict().items())


def test_hidden_labels_are_those_of_the_same_people(run: Run, read: Callable[[], Any], divided: Path) -> None:
    people = read()
    assert not people.poses.visible.any()
    found = hidden_labels(run, people)
    assert found is not None
    rows, truth = found
    whole = load_labels(divided / "labels.json", divided / "images").poses
    assert rows.tolist() == list(range(8))
    assert truth.ids.tolist() == people.poses.ids.tolist() != HIDDEN
    np.testing.assert_array_equal(truth.keypoints, whole.keypoints[4:])


def test_people_in_other_boxes_or_pictures_are_not_taken_for_them(run: Run, read: Callable[[], Any]) -> None:
    people = read()
    people.poses.boxes[2] += 5
    people.poses.ids = people.poses.ids - 100
    files = list(people.images.files)
    files[5] = "elsewhere.jpg"
    people.images = replace(people.images, files=tuple(files))
    found = hidden_labels(run, people)
    assert found is not None
    assert found[0].tolist() == [0, 1, 3, 4, 6, 7]


def test_errors_are_those_of_the_pseudo_labels_given(run: Run, read: Callable[[], Any]) -> None:
    method = corrector(run)
    assert method is not None
    before, after = before_and_after(method, run, read(), "cpu")
    found = hidden_labels(run, before.people)
    assert found is not None
    assert not np.allclose(before.poses.keypoints, after.poses.keypoints)
    after.poses.keypoints = found[1].keypoints.copy()
    values, measured = errors(run, before, after)
    assert measured == 8
    assert (values["after"]["pck@0.1"], values["after"]["pixel_error"]) == (100, 0)
    assert values["before"]["pck@0.1"] < 100


def test_without_a_split_no_labels_are_looked_for(run: Run, read: Callable[[], Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(report_correction, "load_labels", lambda *_, **__: pytest.fail("labels were read"))
    arguments = run.record.data.arguments
    assert arguments is not None
    monkeypatch.setitem(arguments, "split", None)
    assert hidden_labels(run, read()) is None
    shown = correction(run, read(), "cpu")
    assert shown is not None
    assert len(shown.gallery.groups[""]) == 6
    assert shown.errors == {}


def test_other_methods_and_other_peoples_methods_have_none(run: Run, finished: Path, monkeypatch: Any) -> None:
    assert correction(Run(finished), None, "cpu") is None  # type: ignore[arg-type]
    foreign = Run(run.folder)
    foreign.record.method = "os:system"
    assert corrector(foreign) is None


def test_a_missing_checkpoint_is_said(run: Run, read: Callable[[], Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text((run.folder / "run.json").read_text())
    shown = correction(Run(tmp_path), read(), "cpu")
    assert shown is not None
    assert "cannot be read as a checkpoint" in shown.gallery.fault
