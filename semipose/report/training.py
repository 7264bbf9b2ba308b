"""A run's log as charts: validation, losses, signals; and what happened on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from semipose.report.charts import FEWEST_SMOOTHED, Curve, Point, chart, smoothed
from semipose.report.html import metric_name, text
from semipose.runs.run import Run

Rows = Sequence[Mapping[str, Any]]


def charts(run: Run, metrics: Mapping[str, Any]) -> str:
    """Charts of the run's log, with its baselines' validation curves beside its own."""
    log = run.log()
    train = [row for row in log if row.get("kind") == "train"]
    settings = run.config["settings"]
    metric = metrics.get("metric") or (settings.get("metric") or {}).get("value", "pck@0.1")
    drawn = [
        chart(f"{metric_name(metric)} on validation people", _val_curves(run, log, metrics, metric)),
        chart(
            "Losses",
            _terms(train, "losses"),
            log=True,
            note="Logarithmic. Where there are many values, the bold line is their running mean.",
        ),
        *_signal_charts(train),
    ]
    figures = "".join(drawn)
    return f'<div class="charts">{figures}</div>{_speed(train)}' if figures else ""


def events(run: Run) -> str:
    """What the log says happened, in order."""
    rows = [row for row in run.log() if row.get("kind") == "event"]
    items = "".join(f"<li>update {text(row.get('update'))}: {text(row.get('text'))}</li>" for row in rows)
    return f"<h3>Events</h3><ul>{items}</ul>" if items else ""


def series(rows: Rows, group: str, name: str) -> list[Point]:
    """(update, value) of one named number; rows without it, or where it was not finite (null), are left out."""
    found = ((row.get("update", 0), (row.get(group) or {}).get(name)) for row in rows)
    return [(float(update), float(value)) for update, value in found if isinstance(value, int | float)]


def _names(rows: Rows, group: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in (row.get(group) or {})))


def _evaluations(rows: Rows, metric: str) -> dict[str, list[Point]]:
    """network name -> its curve of `metric`."""
    curves: dict[str, list[Point]] = {}
    for row in rows:
        for name, entry in (row.get("networks") or {}).items():
            value = (entry.get("values") or {}).get(metric)
            if isinstance(value, int | float):
                curves.setdefault(name, []).append((float(row.get("update", 0)), float(value)))
    return curves


def _val_curves(run: Run, log: Rows, metrics: Mapping[str, Any], metric: str) -> list[Curve]:
    own = _evaluations(log, metric)
    deployed = (metrics.get("deployed") or {}).get("network")
    names = sorted(own, key=lambda name: (name != deployed, name))
    curves = [
        Curve(f"{name} (deployed)" if name == deployed else name, own[name], tone % 8, dots=True)
        for tone, name in enumerate(names)
    ]
    # The folders are named by the program, not by metrics.json: a foreign file must not lead elsewhere.
    for offset, kind in enumerate(("weak", "strong")):
        folder = run.folder / "baseline" / kind
        if not (folder / "run.json").is_file():
            continue
        baseline = _evaluations(Run(folder).log(), metric)
        averaged = "ema" if "ema" in baseline else next(iter(baseline), "")
        curves.append(Curve(f"labels only, {kind}", baseline.get(averaged, []), (len(names) + offset) % 8, dashed=True))
    return curves


def _terms(rows: Rows, group: str, names: Sequence[str] | None = None) -> list[Curve]:
    """Each named number twice: as logged, faint, and its running mean."""
    curves = []
    for tone, name in enumerate(_names(rows, group) if names is None else names):
        points = series(rows, group, name)
        if len(points) >= FEWEST_SMOOTHED:
            curves.append(Curve(name, points, tone % 8, faint=True))
        curves.append(Curve(name, smoothed(points), tone % 8))
    return curves


def _signal_charts(rows: Rows) -> list[str]:
    """A chart for shares of 1 (confidence, confident), one for each group of signals (group/name), and one for each of
    the others, which have scales of their own."""
    names, groups = _names(rows, "signals"), dict[str, list[str]]()
    for name in names:
        groups.setdefault(name.partition("/")[0] if "/" in name else "", []).append(name)
    alone = groups.pop("", [])
    shares = [name for name in alone if all(0 <= value <= 1.05 for _, value in series(rows, "signals", name))]
    drawn = [
        chart(
            "Confidence",
            _terms(rows, "signals", shares),
            note="From 0 to 1: how high the peaks are, and which share of keypoints is learned from.",
        )
    ]
    drawn += [
        chart(group.replace("_", " "), _terms(rows, "signals", group_names)) for group, group_names in groups.items()
    ]
    drawn += [chart(name.replace("_", " "), _terms(rows, "signals", [name])) for name in alone if name not in shares]
    return drawn


def _speed(rows: Rows) -> str:
    rates = sorted(float(row["images_per_s"]) for row in rows if isinstance(row.get("images_per_s"), int | float))
    waits = [float(row["data_wait"]) for row in rows if isinstance(row.get("data_wait"), int | float)]
    if not rates or not waits:
        return ""
    return (
        f'<p class="small">{rates[len(rates) // 2]:.0f} images per second (median), '
        f"{100 * sum(waits) / len(waits):.0f} % of the time spent waiting for data.{_skipped(rows)}</p>"
    )


def _skipped(rows: Rows) -> str:
    """How many updates changed nothing, unless there were none."""
    skipped = rows[-1].get("skipped")
    return f" {skipped} updates had a loss or gradient that was not finite, and changed nothing." if skipped else ""
