"""The main job: data and settings in, a run folder with a trained model and an honest answer out.

`train` writes the plan (run.json) and works it off; `resume` works off what is left of a plan. Both go the same
way, so a resumed run ends as one that was never interrupted. Of several processes (torchrun) all train, and
the first alone plans, measures, prints and writes.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from semipose import methods
from semipose.checks.checks import check
from semipose.config.settings import Duration, Settings
from semipose.engine.batches import refuse_uneven
from semipose.engine.setup import Stores, make_trainer
from semipose.errors import DataError, UsageError, WriteError
from semipose.formats.load import Data
from semipose.inference.kind import kind_of
from semipose.metrics.intervals import Difference
from semipose.pose.skeleton import Skeleton
from semipose.report.page import crops_summary, write_report
from semipose.runs.baseline import (
    BASELINE_METHOD,
    BASELINES,
    baseline_options,
    measure_run,
    shared_options,
)
from semipose.runs.folder import free_folder, refuse_nonempty, run_lock, undo_plan_on_error
from semipose.runs.phases import Phase, durations, extend, read_phases, write_phases
from semipose.runs.plan import environment, environment_changes, fingerprint, make_plan
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

    `values` are settings by name (`method="mean_teacher"`, `duration="30ep"`, `input_size="256x192"`, ...);
    `method_settings` are those of the method. With `baseline` the supervised baselines are trained too and the run says
    whether the unlabeled images helped. `out` is a new folder, default the next free one in runs/.

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
    with processes.together(choose_device(settings.device)):
        folder, console, plan = None, _console(), {}
        if processes.is_first():
            if out is not None:
                refuse_nonempty(Path(out))
            _refuse_faults(data, console)
            plan = make_plan(data, settings, options, baseline, list(command or sys.argv))
            folder = str(free_folder(out, data, settings.method))
        place = Path(processes.from_first(folder))
        with run_lock(place):
            if processes.is_first():
                refuse_nonempty(place)
                write_json(place / "run.json", plan)
                _print_plan(plan, methods.describe(settings.method).summary, place, console)
            with undo_plan_on_error(place):
                return _complete(place, data, settings, "", console)


def _console() -> Console:
    return Console(stderr=True, quiet=not processes.is_first())


def resume(folder: str | Path, duration: str | int | None = None, device: str | None = None) -> Run:
    """Go on with an interrupted run, to the same end as if it had not been interrupted.

    `duration` trains a finished run longer, as a new phase with a warm-up and a schedule of its own, and its baselines
    too. `device` is another one than the run was started on; like other versions or another number of threads it is
    allowed, and said: the weights are then no longer those of an uninterrupted run bit for bit.
    """
    run = Run(folder)
    if run.folder.resolve().parent.name == "baseline":
        raise UsageError(
            f"{run.folder} is a baseline; it goes on with its run: semipose resume {run.folder.parents[1]}"
        )
    settings = Settings.from_record(run.config["settings"])
    if device is not None:
        settings = settings.chosen("flag", "semipose resume", device=device).validate()
    refuse_uneven(settings, processes.started())
    with processes.together(choose_device(settings.device)), run_lock(run.folder):
        data, console = same_data(run), _console()
        event = "; ".join(environment_changes(run.config, environment(settings)))
        if event:
            event = f"resumed with {event}: the weights will not be those of an uninterrupted run bit for bit"
            console.print(f"[yellow]{event}", highlight=False)
        if duration is not None and processes.is_first():
            extend(run, str(duration))
        return _complete(run.folder, data, settings, event, console)


def _complete(folder: Path, data: Data, settings: Settings, event: str, console: Console) -> Run:
    """Do what is left of the plan in `folder`; when that is stopped, say how to go on."""
    try:
        plan = processes.from_first(Run(folder).config if processes.is_first() else None)
        processes.refuse_unequal("fingerprint of the data", fingerprint(data))
        stores = Stores.read(data, settings, choose_device(settings.device))
        skipped = len(stores.unlabeled.unreadable) if stores.unlabeled else 0
        if skipped:
            console.print(f"[yellow]{skipped} unlabeled image(s) could not be decoded and are left out")
        console.print(f"  crops: {crops_summary(stores.memory())}", highlight=False)
        _train_all(folder, plan, settings, stores, event, console)
        if processes.is_first():
            _conclude(folder, plan, settings, data, stores, console)
        processes.wait()
        return Run(folder)
    except (KeyboardInterrupt, SystemExit, WriteError):
        console.print(f"[bold]stopped[/]; what is done is saved, go on with: semipose resume {folder}", highlight=False)
        raise


def _train_all(
    folder: Path, plan: dict[str, Any], settings: Settings, stores: Stores, event: str, console: Console
) -> None:
    """Train the last phase of the run and of its baselines, so far as that is not done."""
    phase = _train_one(folder, settings, plan, stores, None, event, console)
    if not plan["baseline"]:
        return
    shared = shared_options(plan["method"], plan["method_settings"])
    for name in BASELINES:
        # It trains for as many updates as the run did, so it does not stop early by a rule of its own.
        baseline = replace(settings, method=BASELINE_METHOD, deploy=None, patience=None)
        changes = {
            "baseline": False,
            "method": BASELINE_METHOD,
            "method_settings": baseline_options(name, shared),
            "settings": baseline.record(),
        }
        if processes.is_first():
            write_json(folder / "baseline" / name / "run.json", plan | changes)
        _train_one(folder / "baseline" / name, baseline, plan | changes, stores, phase, event, console)


def _train_one(
    folder: Path,
    settings: Settings,
    plan: dict[str, Any],
    stores: Stores,
    model: Phase | None,
    event: str,
    console: Console,
) -> Phase:
    """Train the last phase of one run, unless its folder says that it is done; as long as `model`, where given."""
    asked = durations(plan)
    found = processes.from_first(read_phases(folder) if processes.is_first() else None)
    phases = [Phase(*row) for row in found]
    earlier, phase = phases[: len(asked) - 1], phases[-1] if len(phases) == len(asked) else None
    if phase is not None and phase.end is not None:
        return phase
    start = (earlier[-1].end or 0) if earlier else 0
    updates = model.updates if model else phase.updates if phase else None
    settings = replace(settings, duration=Duration.parse(asked[-1]))
    skeleton = Skeleton.from_dict(plan["skeleton"])
    trainer = make_trainer(
        settings,
        plan["method_settings"],
        skeleton,
        stores,
        folder,
        updates,
        console.print,
        start=start,
        end=model.end if model else None,
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


def _conclude(
    folder: Path, plan: dict[str, Any], settings: Settings, data: Data, stores: Stores, console: Console
) -> None:
    """Measure, compare, write metrics.json and the report."""
    skeleton = Skeleton.from_dict(plan["skeleton"])
    metrics = measure_run(folder, settings, skeleton, stores, plan["baseline"])
    metrics["unreadable_unlabeled"] = list(stores.unlabeled.unreadable) if stores.unlabeled else []
    metrics["memory"] = stores.memory()
    write_json(folder / "metrics.json", metrics)
    report = write_report(Run(folder), val=data.val, unlabeled=data.unlabeled)
    _print_answer(metrics, settings.metric, report, console)


def _refuse_faults(data: Data, console: Console) -> None:
    """The quick part of `semipose check`: print what it finds and stop at errors."""
    findings = check(data, quick=True)
    for finding in findings:
        if finding.level != "note":
            # Texts hold file names and [x, y, width, height], where brackets must stay brackets.
            text, remedy = escape(finding.text), escape(finding.remedy)
            console.print(f"[yellow]{finding.level}[/]: {text} [dim]{remedy}[/]", highlight=False)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(f"{len(errors)} fault(s) in the data; the first: {errors[0].text} {errors[0].remedy}")


def _print_plan(plan: dict[str, Any], summary: str, folder: Path, console: Console) -> None:
    data, settings = plan["data"], plan["settings"]
    console.print(f"[bold]{plan['method']}[/]: {summary}", highlight=False)
    for note in data["notes"]:
        console.print(f"  {note}", highlight=False)
    chosen = {name: row for name, row in settings.items() if row["source"] != "default"}
    shown = ", ".join(f"{name} {row['value']} ({row['source']})" for name, row in chosen.items())
    console.print(f"  {shown or 'all settings at their defaults'}", highlight=False)
    console.print(f"  {plan['device']}, {plan['precision']}; run folder {folder}", highlight=False)


def _print_answer(metrics: dict[str, Any], metric: str, report: Path, console: Console) -> None:
    """The result in words."""
    name = metrics["deployed"]["network"]
    if metrics["val"] is None:
        console.print("Nobody was held out, so nothing was measured: give --val, or label at least 40 people.")
    else:
        best = metrics["val"][name]["best"]
        low, high = best["intervals"].get(metric, (float("nan"), float("nan")))
        value = best["values"].get(metric, float("nan"))
        console.print(f"[bold]{metric} {value:.1f}[/] ({low:.1f} to {high:.1f}) on val, {name}", highlight=False)
    if "answer" in metrics:
        console.print(f"[bold]{Difference.from_dict(metrics['answer']).text}[/]", highlight=False)
    console.print(f"report: {report}", highlight=False)
