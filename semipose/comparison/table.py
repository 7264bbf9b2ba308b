"""A `Comparison` in, three files out: comparison.json, comparison.md and comparison.html."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from semipose.comparison.plan import BOUND
from semipose.comparison.records import Comparison, Row, Spread
from semipose.drawing import Noun
from semipose.report.charts import Curve, chart, lanes
from semipose.report.html import metric_name, number, render, signed
from semipose.report.page import gain_mark
from semipose.runs.records import to_json
from semipose.system.files import write_json, write_text

NAMES = {
    "baseline": "baseline: labels only",
    "baseline_weak": "labels only, weak views",
    "baseline_strong": "labels only, strong views",
    "bound": "bound: all labels",
}


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, small print and mark."""

    text: str
    small: str = ""
    mark: Markup = field(default_factory=Markup)


@dataclass(frozen=True)
class AmountSection:
    """One amount of labels on the page: the table's rows, each with a name cell first, and two figures."""

    title: str
    rows: list[list[Cell]]
    keypoints: Markup
    curves: Markup


def write_tables(folder: Path, result: Comparison) -> None:
    """Write all three files into `folder`."""
    write_json(folder / "comparison.json", to_json(result))
    write_text(folder / "comparison.md", markdown(result))
    write_text(folder / "comparison.html", html(folder, result))


def markdown(result: Comparison) -> str:
    """One table for each amount of labels, with the bound as the last row of each."""
    lines = ["# Comparison", "", _protocol(result), ""]
    for title, rows in tables(result):
        head = ["run", *_head(result)]
        lines += [f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in rows:
            cells = [_name(row), *(_joined(cell) for cell in _cells(row, result))]
            lines.append(f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |")
        lines.append("")
    return "\n".join([*lines, *_notes(result), ""])


def html(folder: Path, result: Comparison) -> str:
    """The page with tables, keypoints, learning curves and the protocol; it loads nothing from elsewhere."""
    return render(
        "comparison.html.jinja",
        package="semipose.comparison",
        name=folder.name,
        protocol=_protocol(result),
        # The small print of a column is named in small print.
        head=[Cell(name, small) for name, _, small in (title.partition(", ") for title in _head(result))],
        sections=[
            AmountSection(title, _table(rows, result), _keypoints(rows, result), _curves(rows, result))
            for title, rows in tables(result)
        ],
        notes=_notes(result),
        settings=[[name, value] for name, value in result.protocol.items()],
    )


def tables(result: Comparison) -> list[tuple[str, list[Row]]]:
    """Title and rows of each amount of labels."""
    bound = [row for row in result.rows if row.amount == BOUND]
    plural = Noun.of(result.category).plural
    groups = groupby((row for row in result.rows if row.amount != BOUND), lambda row: row.amount)
    titled = []
    for amount, group in groups:
        rows = list(group)
        share = f"{amount.removesuffix('pct')} % of the labels" if amount.endswith("pct") else f"{amount} labels"
        titled.append((f"{share}: {rows[0].labeled} {plural}", rows + bound))
    return titled or ([("All labels", bound)] if bound else [])


def _name(row: Row) -> str:
    name, bracket, levels = row.row.partition("[levels=")
    heads = f", heads on earlier stages ({levels.removesuffix(']')})" if bracket and name in NAMES else ""
    return NAMES[name] + heads if name in NAMES else row.row


def _metrics(result: Comparison) -> list[str]:
    return list(dict.fromkeys((result.metric, "oks_ap")))


def _head(result: Comparison) -> list[str]:
    return [
        *map(metric_name, _metrics(result)),
        "last",
        "against the baseline",
        "seeds",
        "updates, images seen",
        "GPU time, memory" if _on_gpu(result) else "CPU time, memory",
        "networks trained, used",
    ]


def _on_gpu(result: Comparison) -> bool:
    return any(row.cost.device.startswith("cuda") for row in result.rows)


def _cells(row: Row, result: Comparison) -> list[Cell]:
    """Cells of `row` in the order of `_head`."""
    cost, gpu = row.cost, _on_gpu(result)
    memory = cost.peak_device if gpu else cost.peak_ram
    time = cost.seconds if gpu else cost.cpu_seconds
    return [
        *(_measured(row.values[name], name) for name in _metrics(result)),
        _measured(row.last, result.metric),
        _gain(row, result),
        Cell(str(len(row.seeds))),
        Cell(f"{cost.updates:.0f}", f"{cost.images_seen:,.0f}"),
        Cell(_duration(time), f"{memory / 1e9:.2f} GB" if memory else ""),
        Cell(str(cost.networks_trained), str(cost.networks_at_inference)),
    ]


def _gain(row: Row, result: Comparison) -> Cell:
    gain, metric = row.against_baseline, result.metric
    if gain is None:
        return Cell("")
    gains = [other.against_baseline for other in result.rows if other.amount == row.amount and other.against_baseline]
    axis = max(abs(end) for one in gains for end in (one.low, one.high)) or 1.0
    mark = gain_mark((gain.value, gain.low, gain.high), metric, axis)
    return Cell(signed(gain.value, metric), f"({signed(gain.low, metric)} to {signed(gain.high, metric)})", mark)


def _joined(cell: Cell) -> str:
    """A cell in one line: "61.2 ± 0.4", "+1.3 (-0.2 to +2.8)", "400, 6,400"."""
    between = " " if cell.small.startswith(("(", "±")) else ", " if cell.small else ""
    return cell.text + between + cell.small


def _measured(value: Spread, metric: str) -> Cell:
    return Cell(number(value.mean, metric), f"± {number(value.spread, metric)}" if value.spread is not None else "")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _protocol(result: Comparison) -> str:
    shared, scored_on = result.protocol, result.scored_on
    if not shared:
        return "No run has finished yet."
    size, weights, plural = shared["input_size"], shared["weights"], Noun.of(result.category).plural
    return (
        f"{shared['network']} at width {shared['width']:g} from {Path(weights).name if weights else 'random weights'}, "
        f"{size} px (HxW), {shared['duration']} updates of {shared['batch_size']} labeled {plural}"
        f" (+ {shared['unlabeled_batch_size'] or shared['batch_size']} unlabeled), lr {shared['lr']:g}; scored on "
        f"{scored_on.people} {scored_on.name} {plural}."
    )


def _notes(result: Comparison) -> list[str]:
    """Explanations of the table, and the jobs that are missing in it."""
    chosen = (
        "val, which also chose the checkpoints and the baseline, so all are slightly too high"
        if result.scored_on.name == "val"
        else "test; checkpoints, networks and the baseline were chosen on val"
    )
    notes = [
        f"Scores: the deployed network's best checkpoint, mean ± standard deviation over seeds, on {chosen}. "
        '"last" is its last checkpoint.',
        "The supervised baseline is the best on val for each seed. Its variants are weak and strong views, raw and EMA "
        "weights, and auxiliary heads where a compared method has them.",
        "Differences to the baseline are means over the seeds. Their 95 % interval (paired bootstrap over images) "
        "covers the choice of images. The standard deviation covers the choice of labels and the random start.",
        "Time and memory are those of training, without evaluations. Images seen are the crops drawn.",
    ]
    notes += [f"Not in these tables: {name} failed, {reason}" for name, reason in result.failed.items()]
    waiting = [name for name in result.open if name not in result.failed]
    return notes + ([f"Not finished: {', '.join(waiting)}."] if waiting else [])


def _table(rows: Sequence[Row], result: Comparison) -> list[list[Cell]]:
    return [[Cell(_name(row), ", ".join(row.deployed)), *_cells(row, result)] for row in rows]


def _toned(rows: Sequence[Row]) -> list[tuple[Row, int, bool]]:
    """(row, tone, whether hollow or dashed) of each row but the baseline's variants, which would hide the others."""
    shown = [row for row in rows if not row.row.startswith("baseline_")]
    return [(row, index % 8, index >= 8) for index, row in enumerate(shown)]


def _keypoints(rows: Sequence[Row], result: Comparison) -> Markup:
    metric = result.metric if not result.metric.startswith("oks") else "pck@0.1"
    names = list(rows[0].per_keypoint)
    curves = [
        Curve(
            _name(row),
            [
                (mean, lane)
                for lane, name in enumerate(names)
                if name in row.per_keypoint and (mean := row.per_keypoint[name].mean) is not None
            ],
            tone,
            second,
        )
        for row, tone, second in _toned(rows)
    ]
    return lanes(f"{metric_name(metric)} of each keypoint", names, curves)


def _curves(rows: Sequence[Row], result: Comparison) -> Markup:
    curves = [Curve(_name(row), row.curve, tone, second, dots=True) for row, tone, second in _toned(rows)]
    return chart(f"{metric_name(result.metric)} on val over updates, mean over seeds", curves)
