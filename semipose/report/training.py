"""A run's log in, charts of validation, losses and signals out, and the events in words."""

from collections.abc import Sequence

from markupsafe import Markup

from semipose.report.charts import MIN_SMOOTHED, Curve, Point, chart, smoothed
from semipose.report.html import metric_name
from semipose.runs.baseline import BASELINES
from semipose.runs.records import EvalRow, EventRow, LogRow, Metrics, TrainRow
from semipose.runs.run import Run

TONES = 8


def charts(run: Run, log: Sequence[LogRow], metrics: Metrics | None) -> list[Markup]:
    """Charts of the run's log, with the validation curves of its supervised baselines."""
    rows = _train_rows(log)
    metric = metrics.metric if metrics else run.settings.metric
    drawn = [
        chart(f"{metric_name(metric)} on the validation set", _val_curves(run, log, metrics, metric)),
        chart(
            "Losses",
            _curves(rows, "losses"),
            log=True,
            note="Logarithmic scale. The bold line is the running mean where there are many values.",
        ),
        *_signal_charts(rows),
    ]
    return [figure for figure in drawn if figure]


def events(log: Sequence[LogRow]) -> list[EventRow]:
    """Events of the log in order."""
    return [row for row in log if isinstance(row, EventRow)]


def speed(log: Sequence[LogRow]) -> str:
    """Images per second, time spent waiting for data, and updates skipped, in words; "" without updates."""
    rows = _train_rows(log)
    if not rows:
        return ""
    rates = sorted(row.images_per_s for row in rows)
    wait = sum(row.data_wait for row in rows) / len(rows)
    text = f"{rates[len(rates) // 2]:.0f} images per second (median), {100 * wait:.0f} % of the time waiting for data."
    if rows[-1].skipped:
        text += f" {rows[-1].skipped} updates had a loss or gradient that was not finite; they were skipped."
    return text


def _train_rows(log: Sequence[LogRow]) -> list[TrainRow]:
    return [row for row in log if isinstance(row, TrainRow)]


def _numbers(row: TrainRow, group: str) -> dict[str, float | None]:
    return row.losses if group == "losses" else row.signals


def series(rows: Sequence[TrainRow], group: str, name: str) -> list[Point]:
    """(update, value) of one loss or signal, without rows where it is absent or was not finite."""
    values = ((row.update, _numbers(row, group).get(name)) for row in rows)
    return [(float(update), value) for update, value in values if value is not None]


def _names(rows: Sequence[TrainRow], group: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in _numbers(row, group)))


def _evaluations(log: Sequence[LogRow], metric: str) -> dict[str, list[Point]]:
    """Network name -> its curve of `metric`."""
    curves: dict[str, list[Point]] = {}
    for row in log:
        for name, network in row.networks.items() if isinstance(row, EvalRow) else ():
            if metric in network.values:
                curves.setdefault(name, []).append((float(row.update), network.values[metric]))
    return curves


def _val_curves(run: Run, log: Sequence[LogRow], metrics: Metrics | None, metric: str) -> list[Curve]:
    own = _evaluations(log, metric)
    deployed = metrics.deployed.network if metrics else None
    names = sorted(own, key=lambda name: (name != deployed, name))
    curves = [
        Curve(f"{name} (deployed)" if name == deployed else name, own[name], tone % TONES, dots=True)
        for tone, name in enumerate(names)
    ]
    # The program names these folders, not metrics.json: an edited file must not lead elsewhere.
    for offset, kind in enumerate(BASELINES):
        folder = run.folder / "baseline" / kind
        if not (folder / "run.json").is_file():
            continue
        baseline = _evaluations(Run(folder).log(), metric)
        name = "ema" if "ema" in baseline else next(iter(baseline), "")
        tone = (len(names) + offset) % TONES
        curves.append(Curve(f"labels only, {kind}", baseline.get(name, []), tone, dashed=True))
    return curves


def _curves(rows: Sequence[TrainRow], group: str, names: Sequence[str] | None = None) -> list[Curve]:
    """Two curves for each name: the logged values, faint, and their running mean."""
    curves = []
    for tone, name in enumerate(_names(rows, group) if names is None else names):
        points = series(rows, group, name)
        if len(points) >= MIN_SMOOTHED:
            curves.append(Curve(name, points, tone % TONES, faint=True))
        curves.append(Curve(name, smoothed(points), tone % TONES))
    return curves


def _signal_charts(rows: Sequence[TrainRow]) -> list[Markup]:
    """One chart for all fractions, one for each group of signals ("group/name"), and one for each other signal."""
    names, groups = _names(rows, "signals"), dict[str, list[str]]()
    for name in names:
        groups.setdefault(name.partition("/")[0] if "/" in name else "", []).append(name)
    alone = groups.pop("", [])
    fractions = [name for name in alone if all(0 <= value <= 1.05 for _, value in series(rows, "signals", name))]
    drawn = [
        chart(
            "Confidence",
            _curves(rows, "signals", fractions),
            note="From 0 to 1: peak heights of the pseudo-labels, and fractions of keypoints that are learned from.",
        )
    ]
    drawn += [
        chart(group.replace("_", " "), _curves(rows, "signals", group_names)) for group, group_names in groups.items()
    ]
    others = [name for name in alone if name not in fractions]
    return drawn + [chart(name.replace("_", " "), _curves(rows, "signals", [name])) for name in others]
