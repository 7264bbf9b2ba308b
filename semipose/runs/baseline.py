"""Score a run's networks and its supervised baselines on the same people: did the unlabeled images help?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from semipose import methods
from semipose.config.settings import Settings
from semipose.engine.setup import Stores, choose_precision, scorer
from semipose.errors import UsageError
from semipose.inference.model import Model
from semipose.metrics.intervals import difference
from semipose.metrics.metric import rank
from semipose.metrics.score import Score
from semipose.pose.skeleton import Skeleton
from semipose.runs.records import BaselineRecord, Deployed, MemoryRecord, Metrics, NetworkScores, ScoreRecord

BASELINE_METHOD = "supervised"
# The baseline is the best of these on val, each with raw and averaged weights: gains by stronger augmentation or by
# averaging must not count as gains from the unlabeled images.
BASELINES = ("weak", "strong")


def shared_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the method's `options` that its baseline gets too, unless they are the baseline's defaults.

    The method's class names them in `baseline_options`. What auxiliary heads gain, for example, must not count as gain
    from the unlabeled images. Raises UsageError if `supervised` has no such option, or not with that value.
    """
    names = methods.describe(method).baseline_options
    defaults = methods.typed_options(BASELINE_METHOD, {})
    try:
        typed = methods.typed_options(BASELINE_METHOD, {name: options.get(name) for name in names})
    except UsageError as error:
        raise UsageError(
            f"{error}\nThe class of --method {method} declares baseline_options {', '.join(names)}, and its baseline, "
            f"{BASELINE_METHOD}, cannot have that. Change the value or baseline_options, or leave --baseline out."
        ) from error
    return {name: typed[name] for name in names if typed[name] != defaults[name]}


def baseline_options(kind: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of the baseline `kind` of `BASELINES`; `shared` are those of `shared_options`."""
    return methods.typed_options(BASELINE_METHOD, {"augmentation": kind, **shared})


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
    """Return network name -> {"best": Score, "last": Score} of a run's checkpoints on val, with intervals."""
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
