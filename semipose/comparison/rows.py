"""The finished runs in a comparison's folder in, the rows of its table out."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semipose import methods
from semipose.comparison.job import read_predictions
from semipose.comparison.plan import BOUND, PLAIN_BASELINES, protocol, refuse_unlike
from semipose.comparison.records import Comparison, Cost, Row, ScoredPeople, Spread
from semipose.data.people import People
from semipose.formats.load import require_skeleton
from semipose.inference.kind import kind_of
from semipose.metrics.intervals import mean_difference
from semipose.metrics.metric import COMMON_METRICS, rank
from semipose.metrics.score import Score
from semipose.metrics.truth import digest_of
from semipose.pose.poses import Poses
from semipose.runs.phases import read_phases
from semipose.runs.records import EvalRow, Metrics, TrainRow
from semipose.runs.run import Run
from semipose.system.tensor_file import read_record

FORMAT = 2
"""Version of comparison.json. Format 1 called `scored_on` "judged_on" and had no `category`."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of a row, on an amount of labels.

    `best` and `last` score its deployed network. `trained` networks learned by gradient, and `inference` ones make a
    prediction.
    """

    amount: str
    seed: int
    row: str
    run: Run
    metrics: Metrics
    best: Score
    last: Score
    trained: int
    inference: int

    @property
    def val(self) -> dict[str, float]:
        """Metrics of the deployed network on val, which chose it; empty without val."""
        scores = self.metrics.deployed_scores
        return scores.best.values if scores else {}


class Scorer:
    """Scores the runs below `folder` on `people`, each once; `name` is "val" or "test", whichever these are."""

    def __init__(self, folder: Path, people: People, metric: str, name: str) -> None:
        self.folder, self.people, self.metric, self.name = folder, people, metric, name
        self.digest = digest_of(people.poses, require_skeleton(people))
        self._scored: dict[tuple[Path, int], FinishedRun] = {}

    def result(self, failed: dict[str, str] | None = None, still_open: Sequence[str] = ()) -> Comparison:
        """Compute the content of comparison.json; raises UsageError for runs of different protocols."""
        refuse_unlike(self.folder)
        runs = list(self._finished_runs())
        amounts = {one.amount: one.run.record.data.labeled.people for one in runs}
        rows = [
            row
            for amount in sorted(amounts, key=lambda name: amounts[name])
            if amount != BOUND
            for row in self._rows([one for one in runs if one.amount == amount])
        ]
        bound = [one for one in runs if one.amount == BOUND]
        return Comparison(
            format=FORMAT,
            category=require_skeleton(self.people).name,
            metric=self.metric,
            protocol=protocol(runs[0].run.record) if runs else {},
            scored_on=ScoredPeople(self.name, int(self.people.labeled.sum()), self.people.source),
            rows=[*rows, *([self._row("bound", bound, {})] if bound else [])],
            failed=dict(failed or {}),
            open=list(still_open),
        )

    def _finished_runs(self) -> Iterable[FinishedRun]:
        for file in sorted((self.folder / "runs").glob(f"*/seed*/*/found-{self.name}.safetensors")):
            if not (file.parent / "metrics.json").is_file():
                continue
            key = (file, file.stat().st_mtime_ns)
            if key not in self._scored:
                record = read_record(file)
                if record["people"] != self.digest:
                    continue
                self._scored[key] = self._read(file, record["networks"])
            yield self._scored[key]

    def _read(self, file: Path, networks: dict[str, int]) -> FinishedRun:
        run, predictions = Run(file.parent), read_predictions(file, self.people.poses)
        amount, seed, row = file.parts[-4:-1]
        metrics = run.metrics
        assert metrics is not None
        best, last = (
            self._score(predictions[f"{which}-{metrics.deployed.network}"], run) for which in ("best", "last")
        )
        number = int(seed.removeprefix("seed"))
        return FinishedRun(amount, number, row, run, metrics, best, last, networks["trained"], networks["inference"])

    def _score(self, predictions: Poses, run: Run) -> Score:
        kind = kind_of(run.settings.network)
        return kind.score(predictions, self.people, run.skeleton, resamples=0)

    def _rows(self, runs: list[FinishedRun]) -> list[Row]:
        """Rows of one amount of labels, the baseline first."""
        baselines = {}
        for seed in sorted({one.seed for one in runs}):
            variants = [one for one in runs if one.seed == seed and one.row.startswith("baseline_")]
            if {one.row for one in variants}.issuperset(PLAIN_BASELINES):
                baselines[seed] = max(variants, key=lambda one: rank(one.val, self.metric))
        names = sorted({one.row for one in runs}, key=lambda name: (not name.startswith("baseline_"), name))
        rows = [self._row("baseline", list(baselines.values()), {})] if baselines else []
        return rows + [self._row(name, [one for one in runs if one.row == name], baselines) for name in names]

    def _row(self, name: str, runs: list[FinishedRun], baselines: dict[int, FinishedRun]) -> Row:
        """Means over the seeds of `runs`; the difference to the baseline is over the seeds that have one."""
        record = runs[0].run.record
        unlabeled = record.data.unlabeled if methods.describe(record.method).uses_unlabeled else None
        pairs = [(one.best, baselines[one.seed].best) for one in runs if one.seed in baselines]
        compared = pairs and not name.startswith("baseline")
        per_keypoint = self.metric if not self.metric.startswith("oks") else "pck@0.1"
        return Row(
            row=name,
            amount=runs[0].amount,
            method=record.method,
            options=record.method_settings,
            seeds=[one.seed for one in runs],
            runs=[one.run.folder.relative_to(self.folder).as_posix() for one in runs],
            labeled=record.data.labeled.people,
            unlabeled=unlabeled.people if unlabeled else 0,
            deployed=sorted({one.metrics.deployed.network for one in runs}),
            values={
                metric: spread([one.best.values.get(metric) for one in runs])
                for metric in dict.fromkeys((self.metric, *COMMON_METRICS))
            },
            last=spread([one.last.values.get(self.metric) for one in runs]),
            against_baseline=mean_difference(pairs, self.metric) if compared else None,
            per_keypoint={
                keypoint: spread([one.best.per_keypoint[per_keypoint].get(keypoint) for one in runs])
                for keypoint in runs[0].best.per_keypoint.get(per_keypoint, ())
            },
            curve=_curve(runs, self.metric),
            cost=_cost(runs),
        )


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and sample standard deviation of the measured `values`."""
    known = [value for value in values if value is not None]
    return Spread(
        mean=statistics.fmean(known) if known else None,
        spread=statistics.stdev(known) if len(known) > 1 else None,
        each=list(values),
    )


def _curve(runs: list[FinishedRun], metric: str) -> list[tuple[int, float]]:
    """(update, mean over the seeds of the deployed network's metric on val), where all seeds have one."""
    curves = []
    for one in runs:
        name = one.metrics.deployed.network
        rows = [row for row in one.run.log() if isinstance(row, EvalRow)]
        curves.append({row.update: row.networks[name].values.get(metric) for row in rows})
    points = []
    for update in curves[0]:
        values = [value for curve in curves if (value := curve.get(update)) is not None]
        if len(values) == len(curves):
            points.append((update, statistics.fmean(values)))
    return points


def _cost(runs: list[FinishedRun]) -> Cost:
    run = runs[0].run
    updates = statistics.fmean(read_phases(one.run.folder)[-1].end or 0 for one in runs)
    times = [_time(one.run) for one in runs]
    core_seconds = [busy for _, busy in times if busy is not None]
    memory = [one.metrics.memory for one in runs]
    return Cost(
        updates=updates,
        images_seen=updates * images_per_update(run),
        seconds=statistics.fmean(seconds for seconds, _ in times),
        cpu_seconds=statistics.fmean(core_seconds) if len(core_seconds) == len(times) else None,
        device=run.record.device,
        chip=run.record.chip,
        peak_ram=max((row.peak_ram for row in memory if row.peak_ram is not None), default=None),
        peak_device=max((row.peak_device for row in memory if row.peak_device is not None), default=None),
        networks_trained=runs[0].trained,
        networks_at_inference=runs[0].inference,
    )


def images_per_update(run: Run) -> int:
    """Number of crops that an update draws from both streams."""
    settings = run.settings
    unlabeled = settings.unlabeled_batch_size or settings.batch_size
    return settings.batch_size + (unlabeled if methods.describe(run.record.method).uses_unlabeled else 0)


def _time(run: Run) -> tuple[float, float | None]:
    """Seconds of training by the clock, and by all cores together, from the speeds in its log.

    Evaluations do not count. The log includes the time before interruptions, which the clock of one process does not.
    """
    seconds, busy, before, images = 0.0, 0.0, 0, images_per_update(run)
    rows = [row for row in run.log() if isinstance(row, TrainRow)]
    for row in rows:
        duration = (row.update - before) * images / max(row.images_per_s, 1e-9)
        seconds, busy, before = seconds + duration, busy + duration * (row.cores or 0.0), row.update
    return seconds, None if any(row.cores is None for row in rows) else busy
