"""What a comparison runs: its rows, and the rule that all of them share a protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose import methods
from semipose.config.settings import Settings
from semipose.errors import UsageError
from semipose.runs.baseline import BASELINES, baseline_options, shared_options
from semipose.runs.run import Run

BOUND = "all"
"""The amount of labels of the bound."""
PLAIN_BASELINES = tuple(f"baseline_{kind}" for kind in BASELINES)
"""The rows of labels alone that every comparison has."""
# Settings that may differ between the rows of a table: they say what a row is, or where and how it is computed.
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
        """Its folder below runs/."""
        return f"{self.amount}/seed{self.seed}/{self.row}"

    @property
    def name(self) -> str:
        """What it is called in one word."""
        return self.place.replace("/", "-")


def plan(
    which: str | Sequence[str], labeled: str | Sequence[str], seeds: int, network: str = Settings.network
) -> list[Job]:
    """All jobs, those of the first seed first: `which` methods of training `network`, on `labeled` amounts of the
    labels, and beside them the baselines and the bound.
    """
    compared = read_methods(which, network)
    rows = {name: ("supervised", options) for name, options in _baselines(compared).items()} | compared
    amounts, every = read_amounts(labeled), methods.typed_options("supervised", {})
    jobs = []
    for seed in range(seeds):
        jobs += [
            Job(amount, number, seed, row, *how) for amount, number in amounts.items() for row, how in rows.items()
        ]
        jobs.append(Job(BOUND, 1, seed, "bound", "supervised", every))
    return jobs


def _baselines(compared: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Row -> options of labels alone: in both views, without auxiliary heads and with those of each compared method."""
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
    """Row -> method and all its options; "all" are those that can train `network`.

    >>> read_methods("pose_cons[ramp=0.1],mean_teacher")["pose_cons[ramp=0.1]"][1]["ramp"]
    0.1
    >>> read_methods("mean_teacher_levels[levels=0 0.5]")["mean_teacher_levels[levels=0.0.5]"][1]["levels"]
    (0.0, 0.5)
    """
    if which == "all":
        which = [name for name in methods.methods_for(network) if name != "supervised"]
    # Commas in brackets stand between options.
    texts = re.split(r",(?![^\[]*\])", which) if isinstance(which, str) else list(which)
    rows = {}
    for text in (text.strip() for text in texts):
        match = re.fullmatch(r"([^\[\]]+)(?:\[(.+)\])?", text)
        pairs = [part.partition("=") for part in match[2].split(",")] if match and match[2] else []
        if match is None or any(not equals for _, equals, _ in pairs):
            raise UsageError(f"--methods {text}: expected all, or names such as mean_teacher, pose_cons[ramp=0.1].")
        if match[1] == "supervised":
            raise UsageError(
                "--methods supervised: labels alone are in every comparison, as the baseline; leave it out."
            )
        methods.refuse_network(match[1], network)
        # Several values of one option stand between spaces.
        given = {name.strip().replace("-", "_"): value.split() for name, _, value in pairs}
        options = methods.typed_options(
            match[1], {name: each if len(each) > 1 else "".join(each) for name, each in given.items()}
        )
        rows[re.sub(r"[^\w.=,+\[\]-]", ".", text)] = (match[1], options)
    return rows


def read_amounts(labeled: str | Sequence[str]) -> dict[str, float]:
    """Name for folders -> share below 1 or number of labels.

    >>> read_amounts("5%,100")
    {'5pct': 0.05, '100': 100.0}
    """
    amounts = {}
    for text in (text.strip() for text in (labeled.split(",") if isinstance(labeled, str) else labeled)):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
        number = float(match[1]) if match else 0.0
        if match is None or not (0 < number < 100 if match[2] else number >= 1 and number.is_integer()):
            raise UsageError(
                f"--labels {text}: expected shares below 100 % or whole numbers, such as 5%,10% or 50,100; the bound "
                "with all labels is always there."
            )
        amounts[f"{number:g}pct" if match[2] else f"{number:.0f}"] = number / 100 if match[2] else number
    return amounts


def protocol(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of run.json all rows of a table must share."""
    shared = {name: row["value"] for name, row in config["settings"].items() if name not in FREE}
    return shared | {
        "longer": config.get("longer"),
        "precision": config["precision"],
        "semipose": config["semipose"],
        "built network": config["network"],
    }


def refuse_unlike(folder: Path, settings: Settings | None = None) -> None:
    """Raise a UsageError where runs in a comparison's folder differ in protocol from `settings` or from each other.

    Also where runs on the same amount of labels and seed saw different data.
    """
    found = {file.parent: Run(file.parent).config for file in sorted((folder / "runs").glob("*/seed*/*/run.json"))}
    asked = {name: row["value"] for name, row in settings.record().items() if name not in FREE} if settings else None
    first: dict[str, Any] = {}
    seen: dict[Path, Any] = {}
    for place, config in found.items():
        mine, data = protocol(config), [config["data"]["fingerprint"], config["data"]["files"]]
        first = first or mine
        for other, whose in ((asked or mine, "asked"), (first, "other runs here")):
            unlike = [
                f"{name} {mine.get(name)} ({whose}: {value})"
                for name, value in other.items()
                if mine.get(name) != value
            ]
            if unlike:
                raise UsageError(_unlike(place, ", ".join(unlike)))
        if seen.setdefault(place.parent, data) != data:
            raise UsageError(_unlike(place, "its people or images are not those of the runs beside it"))


def _unlike(place: Path, what: str) -> str:
    return (
        f"{place} was made under another protocol: {what}. Rows of one table share everything but the method: use the "
        "same settings and data, take that run out of the folder, or choose another --out."
    )
