"""The tables of README.md and docs: measured ones from benchmarks/results, those of the methods from their source.

python -m benchmarks.tables          # writes them
python -m benchmarks.tables --check  # exits 1 when a page is out of date
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed_tables import (
    RESULTS,
    correction,
    decode_speed,
    lined,
    loading,
    scene_speed,
    scoring,
    step_speed,
    views_speed,
)
from semipose.cli.flags import CHECK, COMPARE, INPUTS, OUTPUTS
from semipose.cli.main import COMMANDS
from semipose.config.parsing import expected
from semipose.config.settings import Settings, flag
from semipose.methods import REQUIRED, available, describe
from semipose.methods._table import deployed

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# Detector-free rows below this are not compared.
MIN_AP = 5
OVERHEAD = ("pck@0.1", "oks_ap", "oks_ap50")
NAMES = {
    "bound": "all labels (bound)",
    "baseline_weak": "labels only, weak views",
    "baseline_strong": "labels only, strong views",
    "labels_levels": "labels only, auxiliary heads",
}


def main() -> int:
    """Write or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = False
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        stale = stale or new != old
        if not args.check:
            page.write_text(new, encoding="utf-8")
    return int(stale and args.check)


def filled(text: str) -> str:
    """`text` with every table between its markers up to date; most pages have none."""
    for make in MEASURED:
        text = _filled(text, make.__name__, make)
    text = _filled(text, "methods", methods_table)
    text = _filled(text, "verbs", verbs)
    for name, rows in (("inputs", INPUTS | OUTPUTS), ("check", CHECK), ("compare", COMPARE)):
        text = _filled(text, f"flags {name}", partial(flags, rows))
    settings = {name: (kind, getattr(Settings, name), Settings.help(name)) for name, kind in Settings.types().items()}
    text = _filled(text, "flags settings", partial(flags, settings))
    for name in available():
        text = _filled(text, f"options {name}", partial(options, name))
    return text


def _filled(text: str, name: str, make: Callable[[], str]) -> str:
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if start not in text:
        return text
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{start.strip()} has no {end}")
    return before + start + make() + end + after


def verbs() -> str:
    """What `semipose VERB` does, for each verb."""
    rows = ((f"`semipose {name}`", (verb.__doc__ or "").partition("\n")[0]) for name, verb in COMMANDS.items())
    return lined(("command", "what it does"), rows)


def flags(rows: Mapping[str, tuple[Any, Any, str]]) -> str:
    """Flags from rows of type, default and help; without a row for what stands on its own, as LABELS."""
    cells = [
        (f"`{flag(name)}`", expected(kind), "" if default in (None, ()) else f"`{default}`", help)
        for name, (kind, default, help) in rows.items()
        if default is not REQUIRED or name != "labels"
    ]
    return _escaped(("option", "value", "default", "meaning"), cells)


def methods_table() -> str:
    """All methods with links to their pages: what they do, what is deployed, which networks they train."""
    rows = []
    for info in map(describe, available()):
        kinds = [kind for kind, able in (("one person", info.top_down), ("several people", info.detector_free)) if able]
        rows.append((f"[`{info.name}`]({info.name}.md)", info.summary, deployed(info), ", ".join(kinds)))
    return lined(("method", "what it does", "deployed", "networks"), rows)


def options(name: str) -> str:
    """The options of method `name`: flag, values, default, help."""
    rows = [
        (f"`--method.{option.name.replace('_', '-')}`", expected(option.type), f"`{option.default}`", option.help)
        for option in describe(name).options
    ]
    return _escaped(("option", "value", "default", "meaning"), rows)


def _escaped(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table whose cells may hold the sign that separates cells."""
    return lined(head, ([cell.replace("|", "\\|") for cell in row] for row in rows))


def accuracy() -> str:
    """One table per data set."""
    parts = [accuracy_table(json.loads(file.read_text())) for file in sorted(RESULTS.glob("accuracy-*.json"))]
    return "\n".join(parts)


def accuracy_table(results: dict[str, Any]) -> str:
    """Test scores of the chosen checkpoints."""
    profile, rows, baseline = results["profile"], results["rows"], results.get("baseline", {})
    lines = [
        f"**{results['data']}**, {profile['network']} {profile['width']} from ImageNet, {profile['input_size']}, "
        f"{profile['duration']} updates of {profile['batch_size']} labeled (+ {profile['batch_size']} unlabeled), "
        f"seed {results['seed']}, test:",
        "",
        "| run | labeled | unlabeled | PCK@0.1 | OKS-AP | last | PCK@0.1 against the baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "-" in name:  # an ablation
            continue
        best, last = (row["test"][row["deployed"]][which] for which in ("best", "last"))
        against = row.get("against_baseline", {}).get("pck@0.1")
        change = signed(against)
        change = "the baseline" if name == baseline.get("row") else change
        lines.append(
            f"| {named(name, row)}, {row['deployed']} | {row['labeled']} | {row['unlabeled']} | "
            f"{spanned(best, 'pck@0.1')} | {spanned(best, 'oks_ap')} | {last['pck@0.1']:.1f} | {change} |"
        )
        lines += [
            f"| · its {net} | | | {each['best']['pck@0.1']:.1f} | {each['best']['oks_ap']:.1f} | "
            f"{each['last']['pck@0.1']:.1f} | |"
            for net, each in row["test"].items()
            if net != row["deployed"]
        ]
    return "\n".join(lines) + "\n"


def measured() -> str:
    """Each method's deployed network on all data sets side by side."""
    sets = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("accuracy-*-small-seed0.json"))]
    methods = list(dict.fromkeys(name for each in sets for name in each["rows"] if "-" not in name))
    columns = [f"{each['data']}{word}" for each in sets for word in ("", ", against the baseline")]
    return lined(
        ("run", *columns),
        [(named(name, {}), *(cell for each in sets for cell in against_baseline(each, name))) for name in methods],
    )


def against_baseline(results: dict[str, Any], name: str) -> tuple[str, str]:
    """Test PCK@0.1 of a row, and its difference to the baseline; empty where it was not run."""
    row = results["rows"].get(name)
    if row is None:
        return "", ""
    against = row.get("against_baseline", {}).get("pck@0.1")
    change = signed(against)
    return f"{row['test'][row['deployed']]['best']['pck@0.1']:.1f}{'*' * row.get('earlier', False)}", change


def ablations() -> str:
    """Rows named METHOD-CHANGE beside the unchanged method."""
    lines = [
        "| data | updates | run | val | test | test, last | against the baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in sorted([*RESULTS.glob("accuracy-*.json"), *RESULTS.glob("ablations-*.json")]):
        results = json.loads(file.read_text())
        rows, baseline = results["rows"], results["baseline"]["row"]
        changed = {name.partition("-")[0] for name in rows if "-" in name}
        if file.name.startswith("ablations"):
            changed |= {"mean_teacher"}
        for name in (baseline, *sorted(name for name in rows if name.partition("-")[0] in changed)):
            row = rows[name]
            val, test = row["val"][row["deployed"]], row["test"][row["deployed"]]
            against = row.get("against_baseline", {}).get("pck@0.1")
            change = signed(against)
            updates = results["profile"]["duration"]
            lines.append(
                f"| {results['data']} | {updates:,} | {named(name, row)} | {val['best']['pck@0.1']:.1f} | "
                f"{test['best']['pck@0.1']:.1f} | {test['last']['pck@0.1']:.1f} | {change} |"
            )
    return "\n".join(lines) + "\n"


def overhead() -> str:
    """SSPCM on people from overhead."""
    results = json.loads((RESULTS / "overhead.json").read_text())
    pictures, settings = results["pictures"], results["settings"]
    head = (
        f"Synthetic people seen from overhead through a fisheye lens, WEPDTOF-Pose's keypoints: {pictures['labeled']} "
        f"labeled and {pictures['unlabeled']:,} unlabeled,\n{settings['network']} {settings['width']}, "
        f"{settings['input_size']}, {settings['duration']:,} updates of {settings['batch_size']} labeled (+ "
        f"{settings['batch_size']} unlabeled), any rotation, seed {results['seed']}, test:\n\n"
    )
    rows = [["labels only", *(f"{results['test_baseline'][name]:.1f}" for name in OVERHEAD), ""]]
    difference = results["against_baseline"]["pck@0.1"]
    change = signed(difference)
    for name in results["test"]:
        values = (f"{results['test'][name][metric]:.1f}" for metric in OVERHEAD)
        rows.append([f"`{settings['method']}`, {name}", *values, change if name == "student" else ""])
    return head + lined(("run", "PCK@0.1", "OKS-AP", "AP50", "PCK@0.1 against the baseline"), rows)


def ladder() -> str:
    """Detector-free networks, from labels only to all labels, one table per file."""
    parts = [ladder_table(json.loads(file.read_text())) for file in sorted(RESULTS.glob("multi_person-*.json"))]
    return "\n".join(parts) or "Not run yet.\n"


def ladder_table(results: dict[str, Any]) -> str:
    """Test AP of the chosen checkpoint, by crowdedness where it is known, and the pseudo people.

    Where S and a row are both below MIN_AP their difference is meaningless and left out.
    """
    profile = results["profile"]
    head = (
        f"**{results['data']}**, {results['network']} on {profile['backbone']} {profile['width']} from ImageNet, "
        f"{profile['input_size']}, {profile['duration']} updates of {profile['batch_size']} labeled (+ "
        f"{profile['batch_size']} unlabeled) images, {results['labels'].removesuffix('pct')} % labeled, seed "
        f"{results['seed']}, test:\n\n"
    )
    parts = [
        name
        for name in ("easy", "medium", "hard")
        if all(f"oks_ap_{name}" in row["test"]["best"] for row in results["rows"].values())
    ]
    rows = []
    for name, row in results["rows"].items():
        best, against, people = row["test"]["best"], row.get("against_S", {}).get("oks_ap"), row["pseudo_people"]
        meaningful = against and max(best["oks_ap"], best["oks_ap"] - against["value"]) >= MIN_AP
        change = signed(against) if meaningful else ""
        precision = "–" if people["precision"] is None else f"{people['precision']:.0f}"
        rows.append(
            (
                f"{name}, {row['deployed']}",
                f"{row['val'][row['deployed']]['best']['oks_ap']:.1f}",
                f"{best['oks_ap']:.1f}",
                f"{best['oks_ap50']:.1f}",
                *(f"{best[f'oks_ap_{part}']:.1f}" for part in parts),
                f"{row['test']['last']['oks_ap']:.1f}",
                change,
                precision,
                f"{people['recall']:.0f}",
            )
        )
    columns = ("row", "val AP", "AP", "AP50", *parts, "last AP", "AP against S", "precision", "recall")
    return head + lined(columns, rows)


def signed(difference: dict[str, Any] | None) -> str:
    """Difference with its interval; empty without one."""
    if not difference:
        return ""
    return f"{difference['value']:+.1f} ({difference['low']:+.1f} to {difference['high']:+.1f})"


def named(name: str, row: dict[str, Any]) -> str:
    """Name of a row, marked where an earlier version trained it."""
    return NAMES.get(name, f"`{name}`") + ("*" if row.get("earlier") else "")


def spanned(row: dict[str, Any], metric: str) -> str:
    """Value with its interval."""
    low, high = row["intervals"][metric]
    return f"{row[metric]:.1f} ({low:.1f}-{high:.1f})"


def demo() -> str:
    """Results of `semipose demo` with several seeds."""
    file = RESULTS / "demo.json"
    if not file.is_file():
        return ""
    results = json.loads(file.read_text())
    shown = [row for row in results["rows"] if all(row[key] == value for key, value in results["chosen"].items())]
    return lined(
        ("seed", "threads", "labels only", "with unlabeled", "difference (95 %)"),
        ((row["seed"], row["threads"], *_compared(row)) for row in shown),
    )


def demo_choice() -> str:
    """Results of the settings that were tried for the demo."""
    results = json.loads((RESULTS / "demo.json").read_text())
    return lined(
        ("labeled", "difficulty", "threads", "seed", "labels only", "with unlabeled", "difference (95 %)"),
        ((row["labeled"], row["difficulty"], row["threads"], row["seed"], *_compared(row)) for row in results["rows"]),
    )


def _compared(row: dict[str, Any]) -> tuple[str, str, str]:
    answer = row["answer"]
    span = signed(answer)
    return f"{row['baseline']:.1f}", f"{row['deployed']:.1f}", span


def heads() -> str:
    """Both heads at small inputs, on labels alone."""
    rows = []
    for file in sorted(RESULTS.glob("head-*.json")):
        results = json.loads(file.read_text())
        for name, row in results["rows"].items():
            head, freeze, updates = name.split("-")
            pck, seconds = row["val"]["ema"]["pck@0.1"], row["cpu_seconds"]
            rows.append((results["data"], head, freeze.removeprefix("freeze"), updates, f"{pck:.1f}", f"{seconds:.0f}"))
    rows.sort(key=lambda row: (row[0], int(row[3]), row[2], row[1]))
    return lined(("data", "head", "frozen stages", "updates", "val PCK@0.1", "CPU seconds"), rows)


MEASURED: tuple[Callable[[], str], ...] = (
    accuracy,
    heads,
    measured,
    ablations,
    overhead,
    demo,
    demo_choice,
    ladder,
    step_speed,
    decode_speed,
    correction,
    scoring,
    scene_speed,
    views_speed,
    loading,
)

if __name__ == "__main__":
    sys.exit(main())
