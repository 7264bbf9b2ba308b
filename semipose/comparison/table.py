"""The numbers of a comparison as files: comparison.json, comparison.md and comparison.html."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from semipose.comparison.plan import BOUND
from semipose.metrics.metric import sign
from semipose.report.charts import Curve, chart, lanes, whisker
from semipose.report.html import folded, metric_name, number, page, plain, section, signed, table, text
from semipose.system.files import write_json, write_text

NAMES = {
    "baseline": "baseline: labels only",
    "baseline_weak": "labels only, weak views",
    "baseline_strong": "labels only, strong views",
    "bound": "bound: all labels",
}
Row = Mapping[str, Any]


def write_tables(folder: Path, result: dict[str, Any]) -> None:
    """Write all three into `folder`."""
    write_json(folder / "comparison.json", result)
    write_text(folder / "comparison.md", markdown(result))
    write_text(folder / "comparison.html", html(folder, result))


def markdown(result: Mapping[str, Any]) -> str:
    """One table for each amount of labels, the bound at the end of each."""
    lines = ["# Comparison", "", _protocol(result), ""]
    for amount, rows in tables(result):
        head = ["run", *_head(result)]
        lines += [f"## {amount}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in rows:
            cells = [_name(row), *(_joined(*cell) for cell in _cells(row, result))]
            lines.append(f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |")
        lines.append("")
    return "\n".join([*lines, *_notes(result), ""])


def html(folder: Path, result: Mapping[str, Any]) -> str:
    """The page: tables, keypoints, learning curves and what they depend on; it loads nothing from anywhere."""
    parts = [
        f'<header><p class="eyebrow">semipose compare</p><h1>{text(folder.name)}</h1>'
        f"<p>{text(_protocol(result))}</p></header>"
    ]
    for amount, rows in tables(result):
        parts += [
            section(amount, _table(rows, result)),
            section("Keypoints", _keypoints(rows, result)),
            section("Learning curves", _curves(rows, result)),
        ]
    notes = "".join(f"<li>{text(note)}</li>" for note in _notes(result))
    settings = [[text(name), plain(str(value))] for name, value in result["protocol"].items()]
    made = f'<ul class="small">{notes}</ul>' + folded("Protocol", table(["", "value"], settings, kind="words"))
    parts.append(section("How to read this", made))
    return page(f"{folder.name} - semipose compare", "\n".join(parts))


def tables(result: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """(title, rows) of each amount of labels."""
    bound = [row for row in result["rows"] if row["amount"] == BOUND]
    groups = groupby((row for row in result["rows"] if row["amount"] != BOUND), lambda row: row["amount"])
    found = []
    for amount, group in groups:
        rows = list(group)
        share = f"{amount.removesuffix('pct')} % of the labels" if amount.endswith("pct") else f"{amount} labels"
        found.append((f"{share}: {rows[0]['labeled']} people", rows + bound))
    return found or ([("All labels", bound)] if bound else [])


def _name(row: Row) -> str:
    name, bracket, levels = str(row["row"]).partition("[levels=")
    heads = f", heads on earlier stages ({levels.removesuffix(']')})" if bracket and name in NAMES else ""
    return NAMES[name] + heads if name in NAMES else str(row["row"])


def _metrics(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys((result["metric"], "oks_ap")))


def _head(result: Mapping[str, Any]) -> list[str]:
    shown, gpu = _metrics(result), _on_gpu(result)
    return [
        *map(metric_name, shown),
        "last",
        "against the baseline",
        "seeds",
        "updates, images seen",
        "GPU time, memory" if gpu else "CPU time, memory",
        "networks trained, used",
    ]


def _on_gpu(result: Mapping[str, Any]) -> bool:
    return any(str(row["cost"]["device"]).startswith("cuda") for row in result["rows"])


def _cells(row: Row, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(number, small print) of each column."""
    cost, gain, metric, gpu = row["cost"], row["against_baseline"], result["metric"], _on_gpu(result)
    span = f"({signed(gain['low'], metric)} to {signed(gain['high'], metric)})" if gain else ""
    memory, time = cost["peak_device" if gpu else "peak_ram"], cost["seconds" if gpu else "cpu_seconds"]
    return [
        *(_measured(row["values"][name], name) for name in _metrics(result)),
        _measured(row["last"], metric),
        (signed(gain["value"], metric), span) if gain else ("", ""),
        (str(len(row["seeds"])), ""),
        (f"{cost['updates']:.0f}", f"{cost['images_seen']:,.0f}"),
        (_duration(time), f"{memory / 1e9:.2f} GB" if memory else ""),
        (str(cost["networks_trained"]), str(cost["networks_at_inference"])),
    ]


def _joined(value: str, small: str) -> str:
    """A cell in one line: "61.2 ± 0.4", "+1.3 (-0.2 to +2.8)", "400, 6,400"."""
    between = " " if small.startswith(("(", "±")) else ", " if small else ""
    return value + between + small


def _measured(value: Mapping[str, Any], metric: str) -> tuple[str, str]:
    return number(value["mean"], metric), f"± {number(value['spread'], metric)}" if value["spread"] is not None else ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _protocol(result: Mapping[str, Any]) -> str:
    shared, judged = result["protocol"], result["judged_on"]
    if not shared:
        return "No run has finished yet."
    size, weights = shared["input_size"], shared["weights"]
    return (
        f"{shared['network']} at width {shared['width']:g} from {Path(weights).name if weights else 'random weights'}, "
        f"{size} px (HxW), {shared['duration']} updates of {shared['batch_size']} labeled people"
        f" (+ {shared['unlabeled_batch_size'] or shared['batch_size']} unlabeled), lr {shared['lr']:g}; judged on "
        f"{judged['people']} {judged['name']} people."
    )


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know, a sentence each."""
    chosen = (
        "val, which also chose the checkpoints and the baseline, so all are a little high"
        if result["judged_on"]["name"] == "val"
        else "test; checkpoints, networks and the baseline were chosen on val"
    )
    notes = [
        f"Scores of the deployed network's best checkpoint, mean ± standard deviation over seeds, on {chosen}; "
        '"last" is its last checkpoint.',
        "The baseline is, for each seed, the best on val of labels alone with weak and strong views, raw and averaged "
        "weights, and with auxiliary heads where a compared method has them. Differences to it: 95 % interval of a "
        "paired bootstrap over images, of the mean over the seeds; it covers the choice of images, the standard "
        "deviation that of labels and random start.",
        "Time and memory are those of training, without evaluations; images seen are crops drawn.",
    ]
    notes += [f"Not in these tables: {name} failed, {how}" for name, how in result["failed"].items()]
    waiting = [name for name in result["open"] if name not in result["failed"]]
    return notes + ([f"Still to come: {', '.join(waiting)}."] if waiting else [])


def _table(rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    gains = [row["against_baseline"] for row in rows if row["against_baseline"]]
    reach = max((abs(gain[end]) for gain in gains for end in ("low", "high")), default=1.0) or 1.0
    # The mark's right-hand side is the good one.
    direction = sign(result["metric"])
    body = []
    for row in rows:
        cells = [f"{text(value)}<small>{text(small)}</small>" for value, small in _cells(row, result)]
        gain = row["against_baseline"]
        if gain:
            low, high = sorted((direction * gain["low"], direction * gain["high"]))
            cells[len(_metrics(result)) + 1] += whisker(direction * gain["value"], low, high, reach)
        body.append([f"{text(_name(row))}<small>{text(', '.join(row['deployed']))}</small>", *cells])
    # The small print of a column is named in small print.
    heads = (name.partition(", ") for name in _head(result))
    return table(["", *(f"{text(name)}<small>{text(small)}</small>" for name, _, small in heads)], body)


def _toned(rows: Sequence[Row]) -> list[tuple[Row, int, bool]]:
    """(row, tone, whether hollow or dashed): one for each but the baseline's parts, which would hide the others."""
    shown = [row for row in rows if not row["row"].startswith("baseline_")]
    return [(row, place % 8, place >= 8) for place, row in enumerate(shown)]


def _keypoints(rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    metric = result["metric"] if not result["metric"].startswith("oks") else "pck@0.1"
    names = list(rows[0]["per_keypoint"])
    series = [
        Curve(
            _name(row),
            [
                (row["per_keypoint"][name]["mean"], place)
                for place, name in enumerate(names)
                if row["per_keypoint"].get(name, {}).get("mean") is not None
            ],
            tone,
            second,
        )
        for row, tone, second in _toned(rows)
    ]
    return lanes(f"{metric_name(metric)} of each keypoint", names, series)


def _curves(rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    curves = [
        Curve(_name(row), [(x, y) for x, y in row["curve"]], tone, second, dots=True)
        for row, tone, second in _toned(rows)
    ]
    drawn = chart(f"{metric_name(result['metric'])} on val over updates, mean over seeds", curves)
    return f'<div style="max-width:38rem">{drawn}</div>'
