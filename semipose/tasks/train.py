"""Train and resume: data and settings in, a run folder with a trained model, its scores and a report out.

`train` writes the plan (run.json) and executes it; `resume` executes what is left of a plan. Both share their code, so
a resumed run ends as one that was never interrupted. Of several processes (torchrun) all train; only the first plans,
measures, prints and writes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from semipose import methods
from semipose.checks.checks import check
from semipose.config.settings import Duration, Settings
from semipose.drawing import Noun
from semipose.engine.batches import refuse_uneven
from semipose.engine.setup import Stores, make_trainer
from semipose.errors import DataError, UsageError, WriteError
from semipose.formats.load import Data
from semipose.inference.kind import kind_of
from semipose.pose.skeleton import Skeleton
from semipose.report.page import crops_summary, no_validation, write_report
from semipose.runs.baseline import (
    BASELINE_METHOD,
    BASELINES,
    baseline_options,
    measure_run,
    shared_options,
)
from semipose.runs.folder import free_folder, refuse_nonempty, run_lock, undo_plan_on_error
from semipose.runs.phases import Phase, extend, read_phases, write_phases
from semipose.runs.plan import environment, environment_changes, fingerprint, make_plan
from semipose.runs.records import MemoryRecord, Metrics, RunRecord, parse_record, setting_records, to_json
from semipose.runs.run import Run
from semipose.runs.run_data import same_data
from semipose.system import processes
from semipose.system.device import choose_device
from semipose.system.files import write_json


def train(
    data: Data,
    *,
    settings: Settings | None = None,
    method_settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    baseline: bool = False,
    command: Sequence[str] | None = None,
    **values: Any,
) -> Run:
    """Train on `data` and return the finished run.

    - `values`: settings by name (`method="mean_teacher"`, `duration="30ep"`, `input_size="256x192"`, ...).
    - `method_settings`: options of the method.
    - `baseline`: also train the supervised baselines and measure whether the unlabeled images helped.
    - `out`: a new folder; default the next free one in runs/.

    >>> run = train(load("labels.json", images="img/", unlabeled="frames/"), baseline=True)  # doctest: +SKIP
    """
    settings = (settings or Settings()).chosen("flag", "given in Python", **values).validate()
    methods.refuse_network(settings.method, settings.network)
    options = methods.typed_options(settings.method, dict(method_settings or {}))
    if baseline:
        shared_options(settings.method, options)  # refuse what the baseline cannot have now, not after training
    data = kind_of(settings.network).training_data(data)
    if settings.patience is not None and data.val is None:
        raise UsageError(f"--patience {settings.patience} needs people to validate on, and there are none: give --val.")
    if settings.weights is not None:
        settings = replace(settings, weights=settings.weights.absolute())
    refuse_uneven(settings, processes.started())
    with processes.group(choose_device(settings.device)):
        folder, console, plan = None, _console(), None
        if processes.is_first():
            if out is not None:
                refuse_nonempty(Path(out))
            _refuse_faults(data, console)
            plan = make_plan(data, settings, options, baseline, list(command or sys.argv))
            folder = str(free_folder(out, data, settings.method))
        place = Path(processes.from_first(folder))
        with run_lock(place):
            if plan is not None:
                refuse_nonempty(place)
                write_json(place / "run.json", to_json(plan))
                _print_plan(plan, methods.describe(settings.method).summary, place, console)
            with undo_plan_on_error(place):
                return _complete(place, data, settings, "", console)


def _console() -> Console:
    return Console(stderr=True, quiet=not processes.is_first())


def resume(folder: str | Path, duration: str | int | None = None, device: str | None = None) -> Run:
    """Resume an interrupted run; it ends with the weights of an uninterrupted run, bit for bit.

    `duration` trains a finished run and its baselines longer, as a new phase with a warm-up and a schedule of its own.
    `device` replaces the device that the run was started on. Another device, version or number of threads is allowed
    and reported: the weights may then differ in their last bits.
    """
    run = Run(folder)
    if run.folder.resolve().parent.name == "baseline":
        raise UsageError(f"{run.folder} is a baseline; resume it with its run: semipose resume {run.folder.parents[1]}")
    settings = run.settings
    if device is not None:
        settings = settings.chosen("flag", "semipose resume", device=device).validate()
    refuse_uneven(settings, processes.started())
    with processes.group(choose_device(settings.device)), run_lock(run.folder):
        data, console = same_data(run), _console()
        event = "; ".join(environment_changes(run.record, environment(settings)))
        if event:
            event = f"resumed with {event}: the weights will not be those of an uninterrupted run bit for bit"
            console.print(f"[yellow]{event}", highlight=False)
        if duration is not None and processes.is_first():
            extend(run, str(duration))
        return _complete(run.folder, data, settings, event, console)


def _complete(folder: Path, data: Data, settings: Settings, event: str, console: Console) -> Run:
    """Execute what is left of the plan in `folder`; if that is stopped, print how to resume."""
    try:
        sent = processes.from_first(to_json(Run(folder).record) if processes.is_first() else None)
        plan = parse_record(sent, RunRecord, str(folder / "run.json"))
        processes.refuse_unequal("fingerprint of the data", fingerprint(data))
        stores = Stores.read(data, settings, choose_device(settings.device))
        skipped = len(stores.unlabeled.unreadable) if stores.unlabeled else 0
        if skipped:
            console.print(f"[yellow]{skipped} unlabeled image(s) could not be decoded and are left out")
        console.print(f"  crops: {crops_summary(msgspec.convert(stores.memory(), MemoryRecord))}", highlight=False)
        _train_all(folder, plan, settings, stores, event, console)
        if processes.is_first():
            _conclude(folder, plan, settings, data, stores, console)
        processes.wait()
        return Run(folder)
    except (KeyboardInterrupt, SystemExit, WriteError):
        console.print(
            f"[bold]stopped[/]; all progress is saved, continue with: semipose resume {folder}", highlight=False
        )
        raise


def _train_all(folder: Path, plan: RunRecord, settings: Settings, stores: Stores, event: str, console: Console) -> None:
    """Train what is left of the last phase of the run and of its baselines."""
    phase = _train_one(folder, settings, plan, stores, None, event, console)
    if not plan.baseline:
        return
    shared = shared_options(plan.method, plan.method_settings)
    for name in BASELINES:
        # It trains for as many updates as the run, so it does not stop early by itself.
        baseline = replace(settings, method=BASELINE_METHOD, deploy=None, patience=None)
        baseline_plan = msgspec.structs.replace(
            plan,
            baseline=False,
            method=BASELINE_METHOD,
            method_settings=baseline_options(name, shared),
            settings=setting_records(baseline),
        )
        if processes.is_first():
            write_json(folder / "baseline" / name / "run.json", to_json(baseline_plan))
        _train_one(folder / "baseline" / name, baseline, baseline_plan, stores, phase, event, console)


def _train_one(
    folder: Path,
    settings: Settings,
    plan: RunRecord,
    stores: Stores,
    like: Phase | None,
    event: str,
    console: Console,
) -> Phase:
    """Train the last phase of one run unless it has ended; as long as the phase `like`, if given."""
    planned = plan.durations
    recorded = processes.from_first(read_phases(folder) if processes.is_first() else None)
    phases = [Phase(*row) for row in recorded]
    earlier, phase = phases[: len(planned) - 1], phases[-1] if len(phases) == len(planned) else None
    if phase is not None and phase.end is not None:
        return phase
    start = (earlier[-1].end or 0) if earlier else 0
    updates = like.updates if like else phase.updates if phase else None
    settings = replace(settings, duration=Duration.parse(planned[-1]))
    skeleton = Skeleton.from_dict(plan.skeleton)
    trainer = make_trainer(
        settings,
        plan.method_settings,
        skeleton,
        stores,
        folder,
        updates,
        console.print,
        start=start,
        end=like.end if like else None,
        event=event,
    )
    phase = Phase(start, trainer.updates)
    if processes.is_first():
        write_phases(folder, [*earlier, phase])
    trainer.run()
    phase = phase._replace(end=trainer.update)
    if processes.is_first():
        write_phases(folder, [*earlier, phase])
    return phase


def _conclude(folder: Path, plan: RunRecord, settings: Settings, data: Data, stores: Stores, console: Console) -> None:
    """Score the run, compare it with its baselines, and write metrics.json and the report."""
    skeleton = Skeleton.from_dict(plan.skeleton)
    metrics = measure_run(folder, settings, skeleton, stores, plan.baseline)
    write_json(folder / "metrics.json", to_json(metrics))
    report = write_report(Run(folder), val=data.val, unlabeled=data.unlabeled)
    _print_result(metrics, report, Noun.of(skeleton.name), console)


def _refuse_faults(data: Data, console: Console) -> None:
    """Run the quick part of `semipose check`: print its findings and raise DataError if there are errors."""
    findings = check(data, quick=True)
    for finding in findings:
        if finding.level != "note":
            # Texts contain file names and [x, y, width, height]: brackets must not become markup.
            text, remedy = escape(finding.text), escape(finding.remedy)
            console.print(f"[yellow]{finding.level}[/]: {text} [dim]{remedy}[/]", highlight=False)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(f"{len(errors)} error(s) in the data; the first: {errors[0].text} {errors[0].remedy}")


def _print_plan(plan: RunRecord, summary: str, folder: Path, console: Console) -> None:
    console.print(f"[bold]{plan.method}[/]: {summary}", highlight=False)
    for note in plan.data.notes:
        console.print(f"  {note}", highlight=False)
    chosen = {name: row for name, row in plan.settings.items() if row.source != "default"}
    shown = ", ".join(f"{name} {row.value} ({row.source})" for name, row in chosen.items())
    console.print(f"  {shown or 'all settings at their defaults'}", highlight=False)
    console.print(f"  {plan.device}, {plan.precision}; run folder {folder}", highlight=False)


def _print_result(metrics: Metrics, report: Path, noun: Noun, console: Console) -> None:
    """Print the score of the deployed network and its difference to the supervised baseline."""
    scores, metric = metrics.deployed_scores, metrics.metric
    if scores is None:
        console.print(no_validation(noun))
    else:
        low, high = scores.best.intervals.get(metric, (float("nan"), float("nan")))
        value = scores.best.values.get(metric, float("nan"))
        console.print(
            f"[bold]{metric} {value:.1f}[/] ({low:.1f} to {high:.1f}) on val, {metrics.deployed.network}",
            highlight=False,
        )
    if metrics.against_baseline is not None:
        console.print(f"[bold]{metrics.against_baseline.text}[/]", highlight=False)
    console.print(f"report: {report}", highlight=False)
