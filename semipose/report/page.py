"""A run as one page: the answer in words, then numbers, curves, pictures, and everything they depend on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semipose.data.people import People
from semipose.errors import SemiposeError
from semipose.report.charts import whisker
from semipose.report.html import folded, metric_name, number, page, plain, section, signed, table, text
from semipose.report.training import charts, events
from semipose.runs.run import Run
from semipose.system.files import write_text

OTHER_METRICS = ("pck@0.1", "pck@0.2", "oks_ap", "pixel_error")
CORRECTED = "What the last weights of the run would teach, as it was before the method corrected it and after."
VERDICTS = {
    "yes": "<b>Yes</b>, the unlabeled images helped.",
    "no": "<b>No</b>, the unlabeled images hurt.",
    "unclear": "<b>Unclear</b>: the difference may be chance.",
}


def write_report(run: Run, *, val: People | None, unlabeled: People | None) -> Path:
    """Write `report.html` into the run's folder and return its path; the file needs nothing else to be shown.

    Pictures are drawn of `val` and `unlabeled` where given. Also a run that has not finished gets a report.
    """
    metrics = run.metrics or {}
    parts = [
        _header(run, metrics),
        _answer(run, metrics),
        section("Numbers", _numbers(metrics), _numbers_lead(run, metrics)),
        section("Training", charts(run, metrics) + events(run)),
        section("Keypoints", _keypoints(run, metrics), "How well each keypoint is found on the validation people."),
        _pictures(run, val, unlabeled),
        section("How this was made", _made(run, metrics)),
    ]
    file = run.folder / "report.html"
    write_text(file, page(f"{_name(run)} - semipose", "\n".join(parts)))
    return file


def _name(run: Run) -> str:
    return run.folder.resolve().name


def _header(run: Run, metrics: Mapping[str, Any]) -> str:
    network, size = run.config["network"], run.config["input_size"]
    last = max((row["update"] for row in run.log() if isinstance(row.get("update"), int)), default=0)
    facts = [
        f"{run.config['method']}",
        f"{network.get('name')} at width {network.get('width')}",
        f"{size[0]}x{size[1]} px (HxW)",
        f"{last} updates",
    ]
    if run.config.get("longer"):
        facts.append(f"in {1 + len(run.config['longer'])} phases")
    if run.config.get("started"):
        facts.append(f"started {str(run.config['started'])[:16].replace('T', ' ')}")
    unfinished = "" if metrics else ' <span class="bad">Not finished.</span>'
    return (
        f'<header><p class="eyebrow">semipose run</p><h1>{text(_name(run))}</h1>'
        f"<p>{text(' · '.join(facts))}{unfinished}</p></header>"
    )


def _answer(run: Run, metrics: Mapping[str, Any]) -> str:
    """The first thing a reader wants to know, or why it cannot be told."""
    verdict, detail, kind = _verdict(run, metrics)
    return (
        f'<div class="answer {kind}"><p class="question">Did the unlabeled images help?</p>'
        f'<p class="verdict">{verdict}</p>{detail}</div>'
    )


def _verdict(run: Run, metrics: Mapping[str, Any]) -> tuple[str, str, str]:
    """(verdict as HTML, detail as HTML, css class)."""
    data = run.config["data"]
    if not metrics:
        return "Not known yet.", _say(f"Training has not finished; go on with: semipose resume {run.folder}"), ""
    if "answer" in metrics and metrics.get("baseline"):
        return _answered(metrics, data)
    result = _result_line(metrics)
    if not data.get("unlabeled"):
        return "There were none.", _say("This run learned from labels alone.") + result, ""
    if not metrics.get("val"):
        why = (
            "Not measurable: there are no validation people. Give --val, or label at least 40 people so that "
            "some can be held out."
        )
        return "Not measurable.", _say(why), ""
    why = "No baseline was trained, so there is nothing to compare with: run again with --baseline."
    return "Not measured.", result + _say(why), ""


def _answered(metrics: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, str, str]:
    answer, metric = metrics["answer"], metrics["metric"]
    helped = answer.get("helped") if answer.get("helped") in VERDICTS else "unclear"
    before = (metrics["baseline"].get("score") or {}).get("values", {}).get(metric)
    after = _best(metrics, metrics["deployed"]["network"]).get("values", {}).get(metric)
    unit = "px" if metric == "pixel_error" else "points"
    moved = (
        f"{text(metric_name(metric))} {number(before, metric)} from labels alone, "
        f"<b>{number(after, metric)}</b> with the unlabeled images"
    )
    span = f"{signed(answer.get('low'), metric)} to {signed(answer.get('high'), metric)}"
    people = (data.get("labeled") or {}).get("people")
    detail = (
        f"<p>{moved}: <b>{signed(answer.get('value'), metric)} {unit}</b>, 95 % interval {span} "
        f"(paired bootstrap over {text(answer.get('images', '?'))} validation images).</p>"
        + _say(
            f"The comparison is with the supervised baseline: the same network, the same {people} labeled people, as "
            f"many updates, no unlabeled images; the best of its variants, {metrics['baseline'].get('folder')}, "
            f"{metrics['baseline'].get('network')}. The validation people also chose the checkpoints; for a number "
            "nobody has chosen on, score test people once with semipose eval.",
            "small",
        )
    )
    return VERDICTS[str(helped)], detail, str(helped)


def _result_line(metrics: Mapping[str, Any]) -> str:
    """How good the deployed network is, for a run without a comparison."""
    metric, name = metrics["metric"], metrics["deployed"]["network"]
    best = _best(metrics, name)
    if metric not in best.get("values", {}):
        return ""
    return (
        f"<p>{text(metric_name(metric))} <b>{number(best['values'][metric], metric)}</b> "
        f"{_span(best, metric)} on validation people, network {text(name)}.</p>"
    )


def _say(words: str, kind: str = "") -> str:
    return f'<p class="{kind}">{text(words)}</p>'


def _best(metrics: Mapping[str, Any], name: str, which: str = "best") -> dict[str, Any]:
    return ((metrics.get("val") or {}).get(name) or {}).get(which) or {}


def _metrics_shown(metrics: Mapping[str, Any]) -> list[str]:
    first = metrics["metric"]
    return [first, *(key for key in OTHER_METRICS if key != first)]


def _numbers_lead(run: Run, metrics: Mapping[str, Any]) -> str:
    counts = _best(metrics, (metrics.get("deployed") or {}).get("network", "")).get("counts", {})
    source = run.config["data"].get("val_source") or "unknown"
    flip = (run.config["settings"].get("flip_test") or {}).get("value")
    return (
        f"On {counts.get('people', '?')} validation people in {counts.get('images', '?')} images ({source}), "
        f"{'with' if flip else 'without'} flip test. Intervals: 95 %, bootstrap over images."
    )


def _numbers(metrics: Mapping[str, Any]) -> str:
    """A row for each network of the run, the deployed one first, and for the baseline; best checkpoint and last."""
    if not metrics.get("val"):
        return ""
    deployed, shown = metrics["deployed"]["network"], _metrics_shown(metrics)
    names = sorted(metrics["val"], key=lambda name: (name != deployed, name))
    rows = []
    for name in names:
        note = f"deployed, update {metrics['deployed'].get('update')}" if name == deployed else "best checkpoint"
        label = f"<b>{text(name)}</b>" if name == deployed else text(name)
        rows.append([f"{label}<small>{text(note)}</small>", *_cells(_best(metrics, name), shown)])
    for name in names:
        last = _best(metrics, name, "last")
        rows += [[f"{text(name)}<small>last update</small>", *_cells(last, shown)]] if last else []
    if metrics.get("baseline"):
        baseline = metrics["baseline"]
        label = f"labels only<small>{text(baseline.get('folder'))}, {text(baseline.get('network'))}, best</small>"
        rows.append([label, *_cells(baseline.get("score") or {}, shown)])
    rule = _say(f"Deployed: {metrics['deployed'].get('rule', '')}.", "small")
    notes = "".join(f"<li>{text(note)}</li>" for note in _best(metrics, deployed).get("notes", []))
    return (
        table(["", *(text(metric_name(key)) for key in shown)], rows)
        + rule
        + folded("What the numbers mean", f'<ul class="small">{notes}</ul>' if notes else "")
    )


def _cells(score: Mapping[str, Any], shown: list[str]) -> list[str]:
    return [f"{number(score.get('values', {}).get(key), key)}<small>{_span(score, key)}</small>" for key in shown]


def _span(score: Mapping[str, Any], metric: str) -> str:
    span = score.get("intervals", {}).get(metric)
    return f"[{number(span[0], metric)}, {number(span[1], metric)}]" if span else ""


def _keypoints(run: Run, metrics: Mapping[str, Any]) -> str:
    """Each keypoint's score, the baseline's, and the difference with its interval."""
    if not metrics.get("val"):
        return ""
    metric = metrics["metric"] if not metrics["metric"].startswith("oks") else "pck@0.1"
    if not _best(metrics, metrics["deployed"]["network"]).get("per_keypoint"):
        return ""  # people who are found are not scored keypoint by keypoint
    mine = _best(metrics, metrics["deployed"]["network"]).get("per_keypoint", {}).get(metric, {})
    baselines = ((metrics.get("baseline") or {}).get("score") or {}).get("per_keypoint", {}).get(metric, {})
    gains = (metrics.get("answer") or {}).get("per_keypoint", {}) if metrics["metric"] == metric else {}
    pixels = _best(metrics, metrics["deployed"]["network"]).get("per_keypoint", {}).get("pixel_error", {})
    reach = max((abs(end) for gain in gains.values() for end in gain), default=1.0) or 1.0
    rows = []
    for name in run.skeleton.keypoints:
        row = [text(name), number(mine.get(name), metric), f"{number(pixels.get(name), 'pixel_error')}"]
        if baselines:
            row.append(number(baselines.get(name), metric))
        if gains:
            row += _gain_cells(gains.get(name), metric, reach)
        rows.append(row)
    head = [
        "",
        text(metric_name(metric)),
        "pixel error",
        *(["labels only"] if baselines else []),
        *(["difference", ""] if gains else []),
    ]
    if not gains:
        return table(head, rows, kind="keypoints")
    note = (
        f"The mark is the difference with its 95 % interval on an axis from {signed(-reach)} to {signed(reach)}; "
        "of many keypoints some intervals leave out 0 by chance."
    )
    return table(head, rows, kind="keypoints") + _say(note, "small")


def _gain_cells(gain: Any, metric: str, reach: float) -> list[str]:
    if not gain:
        return ["–", ""]
    value, low, high = (float(part) for part in gain)
    # Of pixel errors less is better, and the mark's right-hand side is the good one.
    sign = -1 if metric == "pixel_error" else 1
    ends = sorted((sign * low, sign * high))
    words = f"{signed(value, metric)}<small>{signed(low, metric)} to {signed(high, metric)}</small>"
    return [words, whisker(sign * value, ends[0], ends[1], reach)]


def _pictures(run: Run, val: People | None, unlabeled: People | None) -> str:
    """Predictions on val and on unlabeled people, by the deployed network."""
    if val is None and unlabeled is None:
        return ""
    from semipose.report import crops, whole_images
    from semipose.report.correction import correction

    try:
        model = run.model()
    except SemiposeError as error:
        return section("Pictures", _say(f"None: {error}", "muted"))
    device = "cpu" if str(run.config.get("device", "")).startswith("cpu") else "auto"
    drawn = {"crops": crops, "whole_images": whole_images}[model.kind.pictures]
    on_val = drawn.val_pictures(model, val, device) if val is not None else ""
    on_unlabeled = drawn.unlabeled_pictures(model, unlabeled, device) if unlabeled is not None else ""
    lead = (
        "What the deployed network now says about unlabeled people; in training, answers like these, of earlier "
        "weights, were the targets. The number is the mean height of its peaks: a confidence, not a probability."
    )
    changed = correction(run, unlabeled, device) if unlabeled is not None else ""
    return (
        section("Predictions on validation people", on_val)
        + section("Pseudo-labels", on_unlabeled, lead)
        + section("Pseudo-labels before and after correction", changed, CORRECTED)
    )


def _made(run: Run, metrics: Mapping[str, Any]) -> str:
    config = run.config
    command = " ".join(str(part) for part in config.get("command", []))
    folds = [
        ("Data", _data(config["data"], metrics)),
        ("Memory", _memory(metrics.get("memory") or {})),
        ("Method settings", _method_settings(config.get("method_settings") or {})),
        ("Settings", _settings(config["settings"])),
        ("Versions", table(["", "version"], [[text(k), plain(v)] for k, v in _versions(config).items()], kind="words")),
    ]
    return (f"<pre>{text(command)}</pre>" if command else "") + "".join(folded(*fold) for fold in folds)


def _versions(config: Mapping[str, Any]) -> dict[str, Any]:
    hardware = {"device": config.get("device"), "precision": config.get("precision")}
    return {"semipose": config.get("semipose"), **(config.get("versions") or {}), **hardware}


def _data(data: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    rows = []
    for name in ("labeled", "unlabeled", "val"):
        part = data.get(name)
        if part:
            rows.append([name, *(plain(part.get(key)) for key in ("people", "images", "box_source", "source"))])
    notes = [*data.get("notes", []), f"validation people: {data.get('val_source', 'none')}"]
    skipped = metrics.get("unreadable_unlabeled") or []
    notes += [f"{len(skipped)} unlabeled image(s) could not be decoded and were left out"] * bool(skipped)
    listed = "".join(f"<li>{text(note)}</li>" for note in notes)
    return table(["", "people", "images", "boxes", "source"], rows, kind="words") + f'<ul class="small">{listed}</ul>'


def crops_summary(memory: Mapping[str, Any]) -> str:
    """Where the crops of a run are, in words, from the "memory" of its metrics."""
    return ", ".join(
        f"{name} decoded each time" if row["kept"] == "none" else f"{name} {row['bytes'] / 1e9:.2f} GB in {row['kept']}"
        for name, row in memory["crops"].items()
    )


def _memory(memory: Mapping[str, Any]) -> str:
    if not memory:
        return ""
    peaks = {"most RAM of the last process": memory["peak_ram"], "most memory on the GPU": memory["peak_device"]}
    rows = [[text(name), f"{value / 1e9:.2f} GB"] for name, value in peaks.items() if value is not None]
    return table(["", ""], [["crops", text(crops_summary(memory))], *rows], kind="words")


def _method_settings(settings: Mapping[str, Any]) -> str:
    rows = [[text(name), plain(value)] for name, value in settings.items()]
    return table(["", "value"], rows, kind="words") if rows else ""


def _settings(settings: Mapping[str, Any]) -> str:
    """Chosen settings first, then the defaults; each with where it came from."""
    order = sorted(settings.items(), key=lambda item: item[1].get("source") == "default")
    rows = [
        [text(name), plain(row.get("value")), text(row.get("source", "")), text(row.get("reason", ""))]
        for name, row in order
    ]
    return table(["", "value", "from", "reason"], rows, kind="words")
