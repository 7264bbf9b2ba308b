"""Did the unlabeled images help? A run's networks and its supervised baselines, scored on the same people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from semipose import methods
from semipose.config.settings import Settings
from semipose.engine.setup import Stores, choose_precision, scorer
from semipose.inference.model import Model
from semipose.metrics.intervals import difference
from semipose.metrics.metric import rank
from semipose.metrics.score import Score
from semipose.pose.skeleton import Skeleton
from semipose.runs.records import BaselineRecord, Deployed, MemoryRecord, Metrics, NetworkScores, ScoreRecord

# The baseline is the best of these on val, each with raw and averaged weights: so neither stronger augmentation nor
# averaging is taken for the unlabeled images' merit.
BASELINES = ("weak", "strong")


def auxiliary_heads(options: Mapping[str, Any]) -> tuple[float, ...]:
    """The weights of a method's auxiliary heads, its option `levels`; none where it has no such heads."""
    levels = options.get("levels")
    return tuple(levels) if isinstance(levels, tuple | list) and any(levels) else ()


def baseline_options(kind: str, levels: tuple[float, ...]) -> dict[str, Any]:
    """The options of labels alone for `kind` of `BASELINES`: what auxiliary heads gain must not count for the
    unlabeled images' merit, so it has those of the method."""
    return methods.typed_options("supervised", {"augmentation": kind} | ({"levels": levels} if levels else {}))


def measure_run(folder: Path, settings: Settings, skeleton: Skeleton, stores: Stores, baseline: bool) -> Metrics:
    """Score every network of the run on val; choose the deployed one and compare it with the supervised baseline."""
    deployed = settings.deploy or methods.load(settings.method).deployed
    scores = _score_all(folder, settings, skeleton, stores)
    if scores:
        chosen = deployed or _best(scores, settings.metric)
        rule = f"best on val by {settings.metric}" + ("" if deployed else " of all networks")
        stem = f"best-{chosen}"
    else:
        chosen = deployed or "ema"
        rule, stem = "last checkpoint: there are no validation people to choose on", f"last-{chosen}"
    metrics = Metrics(
        metric=settings.metric,
        deployed=_deployed(folder, stem, chosen, rule),
        val={name: _records(rows) for name, rows in scores.items()} or None,
        unreadable_unlabeled=list(stores.unlabeled.unreadable) if stores.unlabeled else [],
        memory=msgspec.convert(stores.memory(), MemoryRecord),
    )
    if baseline and scores:
        baselines = {
            (kind, name): rows["best"]
            for kind in BASELINES
            for name, rows in _score_all(folder / "baseline" / kind, settings, skeleton, stores).items()
        }
        kind, name = max(baselines, key=lambda key: rank(baselines[key].values, settings.metric))
        metrics.baseline = BaselineRecord(f"baseline/{kind}", name, ScoreRecord.of(baselines[kind, name]))
        metrics.against_baseline = difference(scores[chosen]["best"], baselines[kind, name], settings.metric)
    return metrics


def _records(rows: Mapping[str, Score]) -> NetworkScores:
    return NetworkScores(best=ScoreRecord.of(rows["best"]), last=ScoreRecord.of(rows["last"]))


def _score_all(folder: Path, settings: Settings, skeleton: Skeleton, stores: Stores) -> dict[str, dict[str, Score]]:
    """network name -> {"best": Score, "last": Score} of a run's checkpoints on val, with intervals."""
    precision = choose_precision(settings, stores.labeled.device)
    evaluate = scorer(stores.val, settings, skeleton, precision, resamples=1000)
    if evaluate is None:
        return {}
    scores: dict[str, dict[str, Score]] = {}
    for file in sorted((folder / "checkpoints").glob("best-*.safetensors")):
        name = file.stem.removeprefix("best-")
        networks = {which: Model.load(file.with_stem(f"{which}-{name}")).network for which in ("best", "last")}
        scores[name] = {which: evaluate(network.to(stores.labeled.device)) for which, network in networks.items()}
    return scores


def _deployed(folder: Path, stem: str, name: str, rule: str) -> Deployed:
    file = Path("checkpoints") / f"{stem}.safetensors"
    return Deployed(network=name, file=file.as_posix(), update=Model.load(folder / file).update, rule=rule)


def _best(scores: dict[str, dict[str, Score]], metric: str) -> str:
    return max(scores, key=lambda name: rank(scores[name]["best"].values, metric))
