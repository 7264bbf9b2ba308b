"""The report answers first, is one safe file, and also tells what was not measured."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from semipose.formats.load import Data
from semipose.report.charts import Curve, chart, ticks
from semipose.report.html import metric_name, number, signed
from semipose.report.page import write_report
from semipose.report.training import _signal_charts
from semipose.runs.records import TrainRow
from semipose.runs.run import Run
from tests.finished_run import write_plan


class Reader(HTMLParser):
    """Collects what a browser would show and load, and that every element is closed."""

    VOID = frozenset({"meta", "img", "br", "path", "circle"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def report(finished: Path, data: Data) -> Path:
    return write_report(Run(finished), val=data.val, unlabeled=data.unlabeled)


def change(folder: Path, name: str, **changes: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_baseline(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["against_baseline"], metrics["baseline"]
    (folder / "metrics.json").write_text(json.dumps(metrics))


def text_of(run: Run) -> str:
    return Reader(write_report(run, val=None, unlabeled=None).read_text()).text


def test_the_report_is_one_small_file_that_loads_nothing(report: Path) -> None:
    html = report.read_text()
    seen = Reader(html)
    assert seen.open == []
    assert report.stat().st_size < 3_000_000
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen.tags}
    sources = [value for _, attrs in seen.tags for key, value in attrs.items() if key in ("src", "href")]
    assert sources
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in sources)
    assert "url(" not in html
    assert "@import" not in html


def test_the_answer_comes_before_everything_else(report: Path, run: Run) -> None:
    text = Reader(report.read_text()).text
    assert run.metrics is not None
    difference = run.metrics.against_baseline
    assert difference is not None
    first = text[:900]
    assert "Did the unlabeled images help?" in first
    assert signed(difference.value) in first
    assert f"{signed(difference.low)} to {signed(difference.high)}" in first
    assert "baseline/weak, ema" in first


def test_the_report_shows_curves_pictures_and_settings(report: Path) -> None:
    seen = Reader(report.read_text())
    images = sum(tag == "img" for tag, _ in seen.tags)
    assert images == 3 + 3 + 6 + 6 + 6
    for words in (
        "consistency",
        "labels only, weak",
        "confident",
        "gradient",
        "right_ankle",
        "Most confident",
        "Worst",
        "batch_size",
        "Versions",
        "teacher",
        "student",
    ):
        assert words in seen.text


@pytest.mark.parametrize(
    ("helped", "words", "kind"),
    [
        ("yes", "Yes , the unlabeled images helped", "answer yes"),
        ("no", "No , the unlabeled images hurt", "answer no"),
        ("unclear", "Unclear : the difference may be chance", "answer unclear"),
    ],
)
def test_each_verdict_is_said_plainly(folder: Path, helped: str, words: str, kind: str) -> None:
    content = json.loads((folder / "metrics.json").read_text())
    change(folder, "metrics.json", against_baseline=content["against_baseline"] | {"helped": helped})
    file = write_report(Run(folder), val=None, unlabeled=None)
    assert words in Reader(file.read_text()).text
    assert f'class="{kind}"' in file.read_text()


def test_what_was_not_measured_is_said_with_the_remedy(folder: Path, data: Data) -> None:
    without_baseline(folder)
    assert "run again with --baseline" in text_of(Run(folder))
    change(folder, "metrics.json", val=None)
    assert "No validation set: with fewer than 40 labeled people none is held out" in text_of(Run(folder))
    (folder / "metrics.json").unlink()
    assert "semipose resume" in text_of(Run(folder))
    (folder / "log.jsonl").unlink()
    assert "Not finished" in text_of(Run(folder))


def test_a_run_without_unlabeled_images_says_so(folder: Path, data: Data) -> None:
    without_baseline(folder)
    content = json.loads((folder / "run.json").read_text())
    change(folder, "run.json", data=content["data"] | {"unlabeled": None})
    assert "learned from labels alone" in text_of(Run(folder))


def test_nothing_from_files_becomes_markup(folder: Path, data: Data) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    config = json.loads((folder / "run.json").read_text())
    skeleton = config["skeleton"]
    names = [evil, *skeleton["keypoints"][1:]]
    about = config["data"] | {"notes": [evil], "val_source": evil}
    about["labeled"] = about["labeled"] | {"source": evil}
    write_plan(
        folder,
        data,
        method=evil,
        command=[evil],
        skeleton=skeleton | {"keypoints": names, "name": evil},
        data=about,
        method_settings={evil: evil},
        versions={evil: evil},
        device=evil,
        started=evil,
        settings=config["settings"] | {evil: {"value": evil, "source": evil, "reason": evil}},
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["baseline"] |= {"folder": evil, "network": evil}
    metrics["deployed"]["rule"] = evil
    metrics["val"]["teacher"]["best"]["notes"] = [evil]
    metrics["val"][evil] = metrics["val"]["student"]
    metrics["memory"]["crops"] = {evil: {"kept": evil, "bytes": 1}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with (folder / "log.jsonl").open("a") as log:
        rows = [
            {
                "kind": "train",
                "update": 110,
                "losses": {evil: 1.0},
                "signals": {evil: 9.0},
                "lr": 1,
                "images_per_s": 9,
                "data_wait": 0,
            },
            {"kind": "eval", "update": 110, "networks": {evil: {"values": {"pck@0.1": 3.0}}}},
            {"kind": "event", "update": 110, "text": evil},
        ]
        log.writelines(json.dumps(row) + "\n" for row in rows)
    seen = Reader(write_report(Run(folder), val=None, unlabeled=None).read_text())
    assert seen.open == []
    assert not {"script", "img"} & {tag for tag, _ in seen.tags}
    assert not any(key.startswith("on") for _, attrs in seen.tags for key in attrs)
    assert seen.text.count("alert(1)") >= 15


def test_missing_pictures_do_not_stop_the_report(folder: Path, data: Data, tmp_path: Path) -> None:
    from dataclasses import replace

    assert data.val is not None
    gone = tuple(str(tmp_path / "gone.jpg") for _ in data.val.images.files)
    val = replace(data.val, images=replace(data.val.images, files=gone))
    text = Reader(write_report(Run(folder), val=val, unlabeled=None).read_text()).text
    assert "No pictures:" in text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 97.3), (-3, 4), (1e-6, 3e-6), (12345, 12346), (0, 3000)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    room = 1e-6 * (high - low)
    assert all(low - room <= value <= high + room for value in found)


def test_charts_leave_out_what_cannot_be_drawn() -> None:
    assert chart("empty", [Curve("a", [], 0)]) == ""
    assert chart("bad", [Curve("a", [(1, float("nan"))], 0)]) == ""
    assert chart("zeros on a log axis", [Curve("a", [(1, 0.0)], 0)], log=True) == ""
    drawn = chart("long", [Curve("a", [(x, x % 7) for x in range(100_000)], 0)])
    assert "nan" not in drawn
    assert len(drawn) < 20_000
    assert "<circle" in chart("one point", [Curve("a", [(5, 3.0)], 0)])


def test_signals_of_a_group_share_a_chart() -> None:
    signals = {"confidence": 0.5, "pair/a": 0.1, "pair/b": 0.9, "distance/a": 0.2, "gradient": 9.0}
    drawn = _signal_charts([TrainRow(update, {}, dict(signals), 1e-3, 200.0, 0.1) for update in (1, 2)])
    assert [name in drawn[0] for name in ("confidence", "pair/a", "gradient")] == [True, False, False]
    assert "pair/a" in drawn[1]
    assert "pair/b" in drawn[1]
    assert "distance/a" in drawn[2]
    assert "gradient" in drawn[3]
    assert len(drawn) == 4


def test_numbers_are_written_as_people_write_them() -> None:
    assert (number(61.234), number(3.456, "pixel_error")) == ("61.2", "3.46")
    assert (number(None), number(float("nan"))) == ("–", "–")
    assert (signed(2.0), signed(-0.04), signed(-1.25, "pixel_error")) == ("+2.0", "+0.0", "\N{MINUS SIGN}1.25")
    assert (metric_name("pck_torso@0.1"), metric_name("oks_ap")) == ("PCK-torso@0.1", "OKS-AP")
