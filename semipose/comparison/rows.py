"""The finished runs of a comparison's folder in, the numbers of its table out."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semipose import methods
from semipose.comparison.job import read_predictions
from semipose.comparison.plan import BOUND, PLAIN_BASELINES, protocol, refuse_unlike
from semipose.config.settings import Settings
from semipose.data.people import People
from semipose.formats.load import require_skeleton
from semipose.inference.kind import kind_of
from semipose.metrics.intervals import mean_difference
from semipose.metrics.score import Score
from semipose.metrics.truth import digest_of
from semipose.pose.poses import Poses
from semipose.runs.baseline import higher_is_better_value
from semipose.runs.phases import read_phases
from semipose.runs.run import Run
from semipose.system.tensor_file import read_record

OTHER_METRICS = ("pck@0.1", "pck@0.2", "oks_ap", "pixel_error")


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: in which row, on which amount of labels; `best` and `last` score its deployed network."""

    amount: str
    seed: int
    row: str
    run: Run
    metrics: dict[str, Any]
    best: Score
    last: Score
    networks: dict[str, int]

    @property
    def val(self) -> dict[str, float]:
        """What the deployed network reached on val, by which it was chosen."""
        values: dict[str, float] = self.metrics["val"][self.metrics["deployed"]["network"]]["best"]["values"]
        return values


class Scorer:
    """Scores the runs below `folder` on `people`, each once; `name` is "val" or "test", whichever these are."""

    def __init__(self, folder: Path, people: People, metric: str, name: str) -> None:
        self.folder, self.people, self.metric, self.name = folder, people, metric, name
        self.digest = digest_of(people.poses, require_skeleton(people))
        self._known: dict[tuple[Path, int], FinishedRun] = {}

    def result(self) -> dict[str, Any]:
        """What comparison.json holds; raises UsageError for runs of unlike protocol."""
        refuse_unlike(self.folder)
        ended = list(self._ended())
        amounts = {one.amount: one.run.config["data"]["labeled"]["people"] for one in ended}
        rows = [
            row
            for amount in sorted(amounts, key=lambda name: amounts[name])
            if amount != BOUND
            for row in self._rows([one for one in ended if one.amount == amount])
        ]
        bound = [one for one in ended if one.amount == BOUND]
        shared = protocol(ended[0].run.config) if ended else {}
        return {
            "format": 1,
            "metric": self.metric,
            "protocol": shared,
            "judged_on": {"name": self.name, "people": int(self.people.labeled.sum()), "source": self.people.source},
            "rows": [*rows, *([self._row("bound", bound, {})] if bound else [])],
        }

    def _ended(self) -> Iterable[FinishedRun]:
        for file in sorted((self.folder / "runs").glob(f"*/seed*/*/found-{self.name}.safetensors")):
            if not (file.parent / "metrics.json").is_file():
                continue
            key = (file, file.stat().st_mtime_ns)
            if key not in self._known:
                record = read_record(file)
                if record["people"] != self.digest:
                    continue
                self._known[key] = self._read(file, record["networks"])
            yield self._known[key]

    def _read(self, file: Path, networks: dict[str, int]) -> FinishedRun:
        run, found = Run(file.parent), read_predictions(file, self.people.poses)
        amount, seed, row = file.parts[-4:-1]
        metrics = run.metrics or {}
        best, last = (
            self._score(found[f"{which}-{metrics['deployed']['network']}"], run) for which in ("best", "last")
        )
        return FinishedRun(amount, int(seed.removeprefix("seed")), row, run, metrics, best, last, networks)

    def _score(self, found: Poses, run: Run) -> Score:
        kind = kind_of(Settings.from_record(run.config["settings"]).network)
        return kind.score(found, self.people, run.skeleton, resamples=0)

    def _rows(self, ended: list[FinishedRun]) -> list[dict[str, Any]]:
        """The rows of one amount of labels, the baseline first."""
        baselines = {}
        for seed in sorted({one.seed for one in ended}):
            variants = [one for one in ended if one.seed == seed and one.row.startswith("baseline_")]
            if {one.row for one in variants}.issuperset(PLAIN_BASELINES):
                baselines[seed] = max(variants, key=lambda one: higher_is_better_value(one.val, self.metric))
        names = sorted({one.row for one in ended}, key=lambda name: (not name.startswith("baseline_"), name))
        rows = [self._row("baseline", list(baselines.values()), {})] if baselines else []
        return rows + [self._row(name, [one for one in ended if one.row == name], baselines) for name in names]

    def _row(self, name: str, ended: list[FinishedRun], baselines: dict[int, FinishedRun]) -> dict[str, Any]:
        """Means over the seeds of `ended`; the difference to the baseline is over those that have one."""
        config = ended[0].run.config
        unlabeled = config["data"]["unlabeled"] if methods.describe(config["method"]).uses_unlabeled else None
        pairs = [(one.best, baselines[one.seed].best) for one in ended if one.seed in baselines]
        is_baseline = name.startswith("baseline")
        gain = mean_difference(pairs, self.metric).to_dict() if pairs and not is_baseline else None
        each = self.metric if not self.metric.startswith("oks") else "pck@0.1"
        return {
            "row": name,
            "amount": ended[0].amount,
            "method": config["method"],
            "options": config["method_settings"],
            "seeds": [one.seed for one in ended],
            "runs": [one.run.folder.relative_to(self.folder).as_posix() for one in ended],
            "labeled": config["data"]["labeled"]["people"],
            "unlabeled": unlabeled["people"] if unlabeled else 0,
            "deployed": sorted({one.metrics["deployed"]["network"] for one in ended}),
            "values": {
                metric: spread([one.best.values.get(metric) for one in ended])
                for metric in dict.fromkeys((self.metric, *OTHER_METRICS))
            },
            "last": spread([one.last.values.get(self.metric) for one in ended]),
            "against_baseline": gain,
            "per_keypoint": {
                keypoint: spread([one.best.per_keypoint[each].get(keypoint) for one in ended])
                for keypoint in ended[0].best.per_keypoint.get(each, ())
            },
            "curve": _curve(ended, self.metric),
            "cost": _costs(ended),
        }


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation of those values that could be measured, and each of them."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "spread": statistics.stdev(known) if len(known) > 1 else None,
        "each": list(values),
    }


def _curve(ended: list[FinishedRun], metric: str) -> list[list[float]]:
    """(update, mean over the seeds of the deployed networks' metric on val), where all have one."""
    curves = []
    for one in ended:
        name = one.metrics["deployed"]["network"]
        rows = [row for row in one.run.log() if row["kind"] == "eval"]
        curves.append({row["update"]: row["networks"][name]["values"].get(metric) for row in rows})
    shared = [update for update in curves[0] if all(curve.get(update) is not None for curve in curves)]
    return [[update, statistics.fmean(curve[update] for curve in curves)] for update in shared]


def _costs(ended: list[FinishedRun]) -> dict[str, Any]:
    """What a run took, as the mean over the seeds; memory is the most of any."""
    config = ended[0].run.config
    updates = statistics.fmean(read_phases(one.run.folder)[-1].end or 0 for one in ended)
    times = [_time(one.run) for one in ended]
    cores = [cores for _, cores in times if cores is not None]
    memory = [one.metrics.get("memory") or {} for one in ended]
    return {
        "updates": updates,
        "images_seen": updates * images_per_update(config),
        "seconds": statistics.fmean(seconds for seconds, _ in times),
        "cpu_seconds": statistics.fmean(cores) if len(cores) == len(times) else None,
        "device": config["device"],
        "chip": config.get("chip"),
        **{
            name: max((row[name] for row in memory if row.get(name) is not None), default=None)
            for name in ("peak_ram", "peak_device")
        },
        "networks_trained": ended[0].networks["trained"],
        "networks_at_inference": ended[0].networks["inference"],
    }


def images_per_update(config: dict[str, Any]) -> int:
    """Crops that an update draws from both streams."""
    settings = {name: row["value"] for name, row in config["settings"].items()}
    both = methods.describe(config["method"]).uses_unlabeled
    return int(settings["batch_size"] + both * (settings["unlabeled_batch_size"] or settings["batch_size"]))


def _time(run: Run) -> tuple[float, float | None]:
    """Seconds of training by the clock and of all its cores together, from the speeds in its log.

    Evaluations do not count. The log outlives interruptions, which a clock of one process does not.
    """
    seconds, busy, before, images = 0.0, 0.0, 0, images_per_update(run.config)
    rows = [row for row in run.log() if row["kind"] == "train"]
    for row in rows:
        took = (row["update"] - before) * images / max(row["images_per_s"], 1e-9)
        seconds, busy, before = seconds + took, busy + took * row.get("cores", 0.0), row["update"]
    return seconds, busy if all("cores" in row for row in rows) else None
