"""Methods, amounts of labels and seeds in, the jobs of a comparison out; and the check that runs share a protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose import methods
from semipose.config.settings import Settings
from semipose.errors import UsageError
from semipose.runs.baseline import BASELINES, baseline_options, shared_options
from semipose.runs.records import RunRecord, SettingRecord, setting_records, to_json
from semipose.runs.run import Run

BOUND = "all"
"""Name of the amount of labels of the bound."""
PLAIN_BASELINES = tuple(f"baseline_{kind}" for kind in BASELINES)
"""Rows of supervised baselines that every comparison has."""
# Settings that may differ between the rows of a table: they define a row, or where and how it is computed.
FREE = frozenset({"method", "seed", "device", "precision", "cache", "cache_limit", "workers", "log_every"})


@dataclass(frozen=True)
class Job:
    """A run: `method` with `options`, in row `row`, on `amount` of the labels drawn with `seed`.

    `labeled` is the amount as a number: a share below 1, or how many.
    """

    amount: str
    labeled: float
    seed: int
    row: str
    method: str
    options: dict[str, Any]

    @property
    def place(self) -> str:
        """Folder below runs/."""
        return f"{self.amount}/seed{self.seed}/{self.row}"

    @property
    def name(self) -> str:
        """Name for files and messages."""
        return self.place.replace("/", "-")


def plan(
    which: str | Sequence[str], label_amounts: str | Sequence[str], seeds: int, network: str = Settings.network
) -> list[Job]:
    """All jobs, those of the first seed first: `which` methods of training `network` on all `label_amounts`.

    The supervised baselines and the bound are added.
    """
    compared = read_methods(which, network)
    rows = {name: ("supervised", options) for name, options in _baselines(compared).items()} | compared
    amounts, every = read_amounts(label_amounts), methods.typed_options("supervised", {})
    jobs = []
    for seed in range(seeds):
        jobs += [
            Job(amount, number, seed, row, *how) for amount, number in amounts.items() for row, how in rows.items()
        ]
        jobs.append(Job(BOUND, 1, seed, "bound", "supervised", every))
    return jobs


def _baselines(compared: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Options of the supervised baselines by row: weak and strong, without and with each method's auxiliary heads."""
    rows: dict[str, dict[str, Any]] = {}
    variants = {tuple(shared_options(*method).items()) for method in compared.values()} - {()}
    for shared in [(), *sorted(variants, key=str)]:
        suffix = "".join(f"[{name}={_value_text(value)}]" for name, value in shared)
        rows |= {f"baseline_{kind}{suffix}": baseline_options(kind, dict(shared)) for kind in BASELINES}
    return rows


def _value_text(value: Any) -> str:
    """Return an option's value as it appears in the name of a row."""
    if isinstance(value, tuple):
        return ",".join(map(_value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_methods(which: str | Sequence[str], network: str = Settings.network) -> dict[str, tuple[str, dict[str, Any]]]:
    """Method and all its options by row; "all" means the methods that can train `network`.

    >>> read_methods("pose_cons[ramp=0.1],mean_teacher")["pose_cons[ramp=0.1]"][1]["ramp"]
    0.1
    >>> read_methods("mean_teacher_levels[levels=0 0.5]")["mean_teacher_levels[levels=0.0.5]"][1]["levels"]
    (0.0, 0.5)
    """
    if which == "all":
        which = [name for name in methods.methods_for(network) if name != "supervised"]
    # Commas in brackets separate options.
    texts = re.split(r",(?![^\[]*\])", which) if isinstance(which, str) else list(which)
    rows = {}
    for text in (text.strip() for text in texts):
        match = re.fullmatch(r"([^\[\]]+)(?:\[(.+)\])?", text)
        pairs = [part.partition("=") for part in match[2].split(",")] if match and match[2] else []
        if match is None or any(not equals for _, equals, _ in pairs):
            raise UsageError(f"--methods {text}: expected all, or names such as mean_teacher, pose_cons[ramp=0.1].")
        if match[1] == "supervised":
            raise UsageError("--methods supervised: every comparison has labels alone as the baseline; leave it out.")
        methods.refuse_network(match[1], network)
        # Spaces separate several values of one option.
        given = {name.strip().replace("-", "_"): value.split() for name, _, value in pairs}
        options = methods.typed_options(
            match[1], {name: each if len(each) > 1 else "".join(each) for name, each in given.items()}
        )
        rows[re.sub(r"[^\w.=,+\[\]-]", ".", text)] = (match[1], options)
    return rows


def read_amounts(label_amounts: str | Sequence[str]) -> dict[str, float]:
    """Share below 1, or number of labels, by name of the amount.

    >>> read_amounts("5%,100")
    {'5pct': 0.05, '100': 100.0}
    """
    amounts = {}
    for text in (text.strip() for text in _listed(label_amounts)):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
        number = float(match[1]) if match else 0.0
        if match is None or not (0 < number < 100 if match[2] else number >= 1 and number.is_integer()):
            raise UsageError(
                f"--label-amounts {text}: expected shares below 100 % or whole numbers, such as 5%,10% or 50,100. The "
                "bound with all labels is always included."
            )
        amounts[f"{number:g}pct" if match[2] else f"{number:.0f}"] = number / 100 if match[2] else number
    return amounts


def _listed(texts: str | Sequence[str]) -> list[str]:
    return texts.split(",") if isinstance(texts, str) else list(texts)


def protocol(record: RunRecord) -> dict[str, Any]:
    """Settings and versions that all rows of a table must share."""
    return _shared(record.settings) | {
        "longer": to_json(record.longer) or None,
        "precision": record.precision,
        "semipose": record.semipose,
        "built network": record.network,
    }


def _shared(settings: Mapping[str, SettingRecord]) -> dict[str, Any]:
    """Values, as json holds them, of the settings that all rows must share."""
    return {name: to_json(row.value) for name, row in settings.items() if name not in FREE}


def refuse_unlike(folder: Path, settings: Settings | None = None) -> None:
    """Raise a UsageError where runs in a comparison's folder differ in protocol from `settings` or from each other.

    Also where runs of one amount of labels and one seed had different data.
    """
    records = {file.parent: Run(file.parent).record for file in sorted((folder / "runs").glob("*/seed*/*/run.json"))}
    requested = _shared(setting_records(settings)) if settings else {}
    first: dict[str, Any] = {}
    data_of: dict[Path, tuple[str, str]] = {}
    for place, record in records.items():
        own, data = protocol(record), (record.data.fingerprint, record.data.files)
        first = first or own
        for other, source in ((requested, "requested"), (first, "other runs here")):
            unlike = [
                f"{name} {own.get(name)} ({source}: {value})" for name, value in other.items() if own.get(name) != value
            ]
            if unlike:
                raise UsageError(_unlike(place, ", ".join(unlike)))
        if data_of.setdefault(place.parent, data) != data:
            raise UsageError(_unlike(place, "its people or images differ from those of the runs beside it"))


def _unlike(place: Path, differences: str) -> str:
    return (
        f"{place} was made under another protocol: {differences}. Rows of one table share all but the method. Use the "
        "same settings and data, move that run out of the folder, or choose another --out."
    )
