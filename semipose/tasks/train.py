"""The main job: data and settings in, a run folder with a trained model and an honest answer out.

`train` writes the plan (run.json) and works it off; `resume` works off what is left of a plan. Both end in `complete`,
so a resumed run takes the same way as one that was never interrupted.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from semipose import methods
from semipose.data.check import check
from semipose.data.load import Data, load
from semipose.engine.settings import Settings
from semipose.engine.setup import Stores, choose_device, make_trainer
from semipose.errors import DataError, UsageError
from semipose.files import write_json
from semipose.metrics.intervals import Difference
from semipose.skeleton import Skeleton
from semipose.tasks.compare import TWINS, measure
from semipose.tasks.plan import fingerprint, make_plan
from semipose.tasks.report import write_report
from semipose.tasks.run import Run


def train(
    data: Data,
    *,
    settings: Settings | None = None,
    method_settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    twin: bool = False,
    command: Sequence[str] | None = None,
    **values: Any,
) -> Run:
    """Train on `data` and return the finished run.

    `values` are settings by name (`method="mean_teacher"`, `duration="30ep"`, `input_size="256x192"`, ...);
    `method_settings` are those of the method. With `twin` the supervised twins are trained too and the run says
    whether the unlabeled images helped. `out` is a new folder, default the next free one in runs/.

    >>> run = train(load("labels.json", images="img/", unlabeled="frames/"), twin=True)  # doctest: +SKIP
    """
    settings = (settings or Settings()).chosen("flag", "given in Python", **values).validate()
    options = methods.convert(settings.method, dict(method_settings or {}))
    info = methods.describe(settings.method)
    console = Console(stderr=True)
    _refuse_faults(data, console)
    folder = Path(out) if out is not None else next_folder(data, settings.method)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--out {folder}: the folder is not empty; choose another, or `semipose resume {folder}`")
    plan = make_plan(data, settings, options, twin, list(command or sys.argv))
    write_json(folder / "run.json", plan)
    _print_plan(plan, info.summary, folder, console)
    return complete(folder, data, console)


def resume(folder: str | Path) -> Run:
    """Go on with an interrupted run, to the same end as if it had not been interrupted."""
    run = Run(folder)
    arguments = run.config["data"].get("arguments")
    if arguments is None:
        raise DataError(f"{run.folder}: run.json does not say which files the data came from, so it cannot be resumed.")
    data = load(**arguments)
    found, expected = fingerprint(data), run.config["data"]["fingerprint"]
    if found != expected:
        raise DataError(
            f"{arguments['labels']}: the data is not what this run was started with (fingerprint {found}, expected "
            f"{expected}); restore the files, or start a new run."
        )
    return complete(run.folder, data, Console(stderr=True))


def complete(folder: Path, data: Data, console: Console) -> Run:
    """Do what is left of the plan in `folder`; when that is stopped, say how to go on."""
    try:
        return _complete(folder, data, console)
    except (KeyboardInterrupt, SystemExit):
        console.print(f"[bold]stopped[/]; what is done is saved, go on with: semipose resume {folder}", highlight=False)
        raise


def _complete(folder: Path, data: Data, console: Console) -> Run:
    """Train what is not trained yet, compare, write metrics.json and the report."""
    plan = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    settings = Settings.from_record(plan["settings"])
    device = choose_device(settings.device)
    stores = Stores.read(data, settings, device)
    skipped = len(stores.unlabeled.unreadable) if stores.unlabeled else 0
    if skipped:
        console.print(f"[yellow]{skipped} unlabeled image(s) could not be decoded and are left out")
    skeleton = Skeleton.from_dict(plan["skeleton"])
    updates = _train_one(folder, settings, plan["method_settings"], skeleton, stores, None, console)
    for name in TWINS if plan["twin"] else ():
        twin = replace(settings, method="supervised", deploy=None)
        options = methods.convert("supervised", {"augmentation": name})
        changes = {"twin": False, "method": "supervised", "method_settings": options, "settings": twin.record()}
        write_json(folder / "twin" / name / "run.json", plan | changes)
        _train_one(folder / "twin" / name, twin, options, skeleton, stores, updates, console)
    metrics = measure(folder, settings, skeleton, stores, plan["twin"])
    metrics["unreadable_unlabeled"] = list(stores.unlabeled.unreadable) if stores.unlabeled else []
    write_json(folder / "metrics.json", metrics)
    run = Run(folder)
    report = write_report(run, val=data.val, unlabeled=data.unlabeled)
    _print_answer(metrics, settings.metric, report, console)
    return run


def _train_one(folder: Path, settings: Settings, options: dict[str, Any], skeleton: Skeleton, stores: Stores,
               updates: int | None, console: Console) -> int:
    """Train one run of the plan, unless its folder says that it is done; returns its number of updates."""
    file = folder / "updates.json"
    if updates is None and file.is_file():
        updates = json.loads(file.read_text(encoding="utf-8"))["updates"]
    trainer = make_trainer(settings, options, skeleton, stores, folder, updates, console.print)
    write_json(file, {"updates": trainer.updates})
    trainer.run()
    return trainer.updates


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


def next_folder(data: Data, method: str) -> Path:
    """The next free folder runs/LABELS-METHOD-N."""
    stem = f"{Path(data.labeled.source).stem}-{method.rpartition(':')[2]}"
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


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
