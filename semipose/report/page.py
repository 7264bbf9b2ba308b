"""A run in, its report out: one HTML page with the verdict, numbers, curves, pictures and settings."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from semipose.data.people import People
from semipose.drawing import Noun
from semipose.errors import SemiposeError
from semipose.metrics.metric import COMMON_METRICS, sign
from semipose.report.charts import whisker
from semipose.report.html import render
from semipose.report.training import charts, events, speed
from semipose.runs.records import MemoryRecord, Metrics, RunRecord, ScoreRecord
from semipose.runs.run import Run
from semipose.system.files import write_text


@dataclass(frozen=True)
class ScoreRow:
    """A row of the accuracy table: one checkpoint with its score."""

    name: str
    note: str
    score: ScoreRecord
    deployed: bool = False


@dataclass(frozen=True)
class KeypointRow:
    """A keypoint's accuracy, that of the baseline, and the difference: (value, low, high) and as a `whisker`."""

    name: str
    value: float | None
    pixels: float | None
    baseline: float | None
    gain: tuple[float, float, float] | None
    mark: Markup


@dataclass(frozen=True)
class KeypointTable:
    """Keypoints by `metric`; differences are drawn from -`axis` to `axis`, and there are none where it is None."""

    metric: str
    rows: list[KeypointRow]
    has_baseline: bool
    axis: float | None


def write_report(run: Run, *, val: People | None, unlabeled: People | None) -> Path:
    """Write `report.html` into the run's folder and return its path; the page loads nothing from elsewhere.

    `val` and `unlabeled` get pictures, where given. A run that has not finished gets a report too.
    """
    record, metrics, log = run.record, run.metrics, run.log()
    scores = metrics.deployed_scores if metrics else None
    file, noun = run.folder / "report.html", Noun.of(run.skeleton.name)
    html = render(
        "page.html.jinja",
        name=run.folder.resolve().name,
        run=run,
        record=record,
        metrics=metrics,
        noun=noun,
        facts=_facts(record, max((row.update for row in log), default=0)),
        best=scores.best if scores else None,
        scores=_score_rows(metrics) if metrics else [],
        shown=_shown_metrics(metrics) if metrics else [],
        flip_test=record.settings["flip_test"].value if "flip_test" in record.settings else False,
        no_validation=no_validation(noun),
        charts=charts(run, log, metrics),
        speed=speed(log),
        events=events(log),
        keypoints=_keypoints(run.skeleton.keypoints, metrics) if metrics else None,
        pictures=_pictures(run, val, unlabeled),
        streams=_streams(record),
        data_notes=_data_notes(record, metrics),
        memory=_memory(metrics.memory) if metrics else [],
        settings=_settings(record),
        versions=_versions(record),
    )
    write_text(file, html)
    return file


def no_validation(noun: Noun) -> str:
    """Explain why accuracy was not measured."""
    return (
        f"No validation set: with fewer than 40 labeled {noun.plural} none is held out. Pass --val to measure accuracy."
    )


def _facts(record: RunRecord, updates: int) -> list[str]:
    size = record.input_size
    facts = [
        record.method,
        f"{record.network.get('name')} at width {record.network.get('width')}",
        f"{size[0]}x{size[1]} px (HxW)",
        f"{updates} updates",
    ]
    if record.longer:
        facts.append(f"in {1 + len(record.longer)} phases")
    return [*facts, f"started {record.started[:16].replace('T', ' ')}"]


def _shown_metrics(metrics: Metrics) -> list[str]:
    return list(dict.fromkeys((metrics.metric, *COMMON_METRICS)))


def _score_rows(metrics: Metrics) -> list[ScoreRow]:
    """Best checkpoint of each network, the deployed one first; then their last ones, and the supervised baseline."""
    if not metrics.val:
        return []
    deployed = metrics.deployed
    networks = sorted(metrics.val.items(), key=lambda item: (item[0] != deployed.network, item[0]))
    rows = []
    for name, scores in networks:
        chosen = name == deployed.network
        note = f"deployed, update {deployed.update}" if chosen else "best checkpoint"
        rows.append(ScoreRow(name, note, scores.best, chosen))
    rows += [ScoreRow(name, "last update", scores.last) for name, scores in networks]
    if metrics.baseline:
        note = f"{metrics.baseline.folder}, {metrics.baseline.network}, best"
        rows.append(ScoreRow("labels only", note, metrics.baseline.score))
    return rows


def _keypoints(names: Iterable[str], metrics: Metrics) -> KeypointTable | None:
    """Accuracy by keypoint; None without validation people, and where whole images are scored."""
    scores = metrics.deployed_scores
    if scores is None or not scores.best.per_keypoint:
        return None
    metric = metrics.metric if not metrics.metric.startswith("oks") else "pck@0.1"
    values = scores.best.per_keypoint.get(metric, {})
    pixels = scores.best.per_keypoint.get("pixel_error", {})
    baselines = metrics.baseline.score.per_keypoint.get(metric, {}) if metrics.baseline else {}
    comparison = metrics.against_baseline if metrics.metric == metric else None
    gains = comparison.per_keypoint if comparison else {}
    axis = max((abs(end) for gain in gains.values() for end in gain), default=1.0) or 1.0
    rows = [
        KeypointRow(
            name,
            values.get(name),
            pixels.get(name),
            baselines.get(name),
            gains.get(name),
            gain_mark(gains[name], metric, axis) if name in gains else Markup(),
        )
        for name in names
    ]
    return KeypointTable(metric, rows, bool(baselines), axis if gains else None)


def gain_mark(gain: tuple[float, float, float], metric: str, axis: float) -> Markup:
    """Mark of a difference (value, low, high); right of the middle is better, also where less is better."""
    direction = sign(metric)
    low, high = sorted((direction * gain[1], direction * gain[2]))
    return whisker(direction * gain[0], low, high, axis)


def _pictures(run: Run, val: People | None, unlabeled: People | None) -> dict[str, Any]:
    """Predictions of the deployed network on val and unlabeled images, and corrected pseudo-labels."""
    pictures: dict[str, Any] = {"fault": "", "val": None, "unlabeled": None, "correction": None}
    if val is None and unlabeled is None:
        return pictures
    from semipose.report.correction import correction
    from semipose.report.crops import unlabeled_people_gallery, val_people_gallery
    from semipose.report.whole_images import unlabeled_image_gallery, val_image_gallery

    try:
        model = run.model()
    except SemiposeError as error:
        return pictures | {"fault": str(error)}
    device = "cpu" if run.record.device.startswith("cpu") else "auto"
    whole = model.kind.pictures == "whole_images"
    if val is not None:
        pictures["val"] = (val_image_gallery if whole else val_people_gallery)(model, val, device)
    if unlabeled is not None:
        draw_unlabeled = unlabeled_image_gallery if whole else unlabeled_people_gallery
        pictures["unlabeled"] = draw_unlabeled(model, unlabeled, device)
        pictures["correction"] = correction(run, unlabeled, device)
    return pictures


def _streams(record: RunRecord) -> list[list[Any]]:
    data = record.data
    streams = {"labeled": data.labeled, "unlabeled": data.unlabeled, "val": data.val}
    return [
        [name, stream.people, stream.images, stream.box_source, stream.source]
        for name, stream in streams.items()
        if stream is not None
    ]


def _data_notes(record: RunRecord, metrics: Metrics | None) -> list[str]:
    notes, source = list(record.data.notes), record.data.val_source
    if not any(source in note for note in notes):
        notes.append(f"validation set: {source}")
    unreadable = len(metrics.unreadable_unlabeled) if metrics else 0
    return notes + [f"{unreadable} unlabeled image(s) could not be decoded and were left out"] * bool(unreadable)


def crops_summary(memory: MemoryRecord) -> str:
    """Describe in words where the decoded crops of a run are kept."""
    return ", ".join(
        f"{name} decoded each time" if crops.kept == "none" else f"{name} {crops.bytes / 1e9:.2f} GB in {crops.kept}"
        for name, crops in memory.crops.items()
    )


def _memory(memory: MemoryRecord) -> list[list[str]]:
    peaks = {"peak RAM of the last process": memory.peak_ram, "peak GPU memory": memory.peak_device}
    rows = [[name, f"{value / 1e9:.2f} GB"] for name, value in peaks.items() if value is not None]
    return [["crops", crops_summary(memory)], *rows]


def _settings(record: RunRecord) -> list[list[Any]]:
    """Name, value, source and reason of each setting: the chosen ones first, then the defaults."""
    order = sorted(record.settings.items(), key=lambda item: item[1].source == "default")
    return [[name, row.value, row.source, row.reason] for name, row in order]


def _versions(record: RunRecord) -> list[list[Any]]:
    values = {
        "semipose": record.semipose,
        **record.versions,
        "device": record.device,
        "precision": record.precision,
    }
    return [list(item) for item in values.items()]
