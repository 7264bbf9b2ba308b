"""`semipose compare`: methods, amounts of labels and seeds in; runs under one protocol and their table out.

All files are in one folder. Calling a comparison again continues there: finished runs are not repeated.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from semipose.comparison.job import LABELED_ONLY, evaluation_people, is_done
from semipose.comparison.launch import Cluster, Launch, Local, gpus, run_all
from semipose.comparison.plan import BOUND, Job, plan, refuse_unlike
from semipose.comparison.records import Comparison, JobRecord
from semipose.comparison.rows import Scorer
from semipose.comparison.table import write_tables
from semipose.config.settings import DIFFERING, Settings
from semipose.data.make_split import make_split
from semipose.data.people import People
from semipose.data.splits import hold_out
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats import read_as_coco
from semipose.formats.labels import load_labels
from semipose.formats.video import Sampling
from semipose.runs.records import read_json_as, setting_records, to_json
from semipose.system.device import choose_device
from semipose.system.files import locked, read_json, write_json

Place = str | Path


def compare(
    labels: Place,
    images: Place,
    unlabeled: Place | Sequence[Place] | None = None,
    *,
    methods: str | Sequence[str] = "all",
    label_amounts: str | Sequence[str] = "10%",
    seeds: int = 3,
    by: Literal["image", "person", "group"] = "image",
    out: Place = "runs/comparison",
    val: Place | None = None,
    val_images: Place | None = None,
    test: Place | None = None,
    test_images: Place | None = None,
    skeleton: Place | None = None,
    detections: Place | None = None,
    video_stride: int = Sampling.stride,
    video_change: float = Sampling.change,
    launcher: Literal["local", "submitit"] = "local",
    jobs: int | None = None,
    cluster: Sequence[str] = (),
    settings: Settings | None = None,
    **values: Any,
) -> Comparison:
    """Train `methods` on parts of the `labels` under one protocol, and return the content of comparison.json in `out`.

    `methods`: "all", or names with options in brackets ("mean_teacher[decay=0.99]").

    `label_amounts`: shares ("5%") and numbers of the units named in `by`. The other images of `labels` are unlabeled,
    in addition to `unlabeled`. Each amount is drawn with seeds 0, 1, ...; smaller amounts are subsets of larger ones.
    The supervised baselines (weak and strong views) are trained too, and the bound (all labels).

    Without `val`, 20 % of the labeled people are held out for all rows. Everything is chosen on val; rows are scored on
    `test` where given, else on val. `values` are settings by name.

    `jobs` run in parallel; None means one per GPU. Raises UsageError where `out` holds runs of another protocol. If
    jobs fail, the table of the others is written, and then a SemiposeError is raised.

    >>> sp.compare("labels.json", "img/", methods="mean_teacher", label_amounts="5%,10%")  # doctest: +SKIP
    """
    settings = (settings or Settings()).chosen("flag", "given in Python", **values).validate()
    _check(settings, seeds, jobs, test, test_images, launcher, cluster)
    if settings.weights is not None:
        settings = replace(settings, weights=settings.weights.absolute())
    sources = [] if unlabeled is None else [unlabeled] if isinstance(unlabeled, str | Path) else list(unlabeled)
    planned = plan(methods, label_amounts, seeds, settings.network)
    folder, console = Path(out).absolute(), Console(stderr=True)
    data = {
        "labels": labels,
        "images": images,
        "unlabeled": sources,
        "val": val,
        "val_images": val_images,
        "skeleton": skeleton,
        "detections": detections,
        "video_stride": video_stride,
        "video_change": video_change,
    }
    data = {name: _absolute(value) for name, value in data.items()}
    test_data = {} if test is None else {"val": _absolute(test), "val_images": _absolute(test_images or images)}
    refuse_unlike(folder, settings)
    with locked(folder / ".lock", wait=False):
        _write_once(folder / "data.json", data | {"by": by})
        files = _write_jobs(folder, planned, data, test_data, settings, by)
        launch, max_jobs = _launcher(folder, launcher, jobs, cluster, settings, len(files))
        return _run(folder, files, launch, max_jobs, settings, console)


def _absolute(value: Any) -> Any:
    """Absolute paths, so that a job can run in any folder of this machine."""
    if isinstance(value, list):
        return [_absolute(one) for one in value]
    return str(Path(value).absolute()) if isinstance(value, str | Path) else value


def _check(
    settings: Settings,
    seeds: int,
    jobs: int | None,
    test: Place | None,
    test_images: Place | None,
    launcher: str,
    cluster: Sequence[str],
) -> None:
    """Refuse settings that make rows incomparable, and flags without effect."""
    fixed = [name for name in DIFFERING if getattr(settings, name) != getattr(Settings, name)]
    faults = [f"{name} differs from row to row and cannot be set for a comparison; leave it out" for name in fixed]
    if settings.duration.unit != "updates":
        faults.append(
            f"--duration {settings.duration}: rows must train for equally many updates; expected a number "
            "of updates such as 5000"
        )
    if seeds < 1:
        faults.append(f"--seeds {seeds}: must be at least 1")
    if jobs is not None and jobs < 1:
        faults.append(f"--jobs {jobs}: must be at least 1")
    if test is None and test_images is not None:
        faults.append(f"--test-images {test_images}: there is no --test; add it, or leave this out")
    if cluster and launcher != "submitit":
        faults.append(f"--cluster {cluster[0]}: is for --launcher submitit")
    if faults:
        raise UsageError("\n".join(faults))


def _launcher(
    folder: Path, name: str, jobs: int | None, cluster: Sequence[str], settings: Settings, planned: int
) -> tuple[Launch, int]:
    """A function that starts a job, and the number of jobs to run in parallel, of `planned` ones."""
    if name == "submitit":
        return Cluster(folder, cluster), jobs or max(1, planned)
    max_jobs = jobs or max(1, len(gpus(settings.device)))
    choose_device(settings.device)
    return Local(max_jobs, settings.device), max_jobs


def _run(
    folder: Path, files: dict[Path, Job], launch: Launch, max_jobs: int, settings: Settings, console: Console
) -> Comparison:
    """Run the jobs that are not done, and write the table after each."""
    records = {file: read_json_as(file, JobRecord) for file in files}
    first = next(iter(records.values()))
    scorer = Scorer(folder, evaluation_people(first), settings.metric, first.scored_on)
    waiting = [file for file, job in records.items() if not is_done(job, scorer.digest)]
    failed: dict[str, str] = {}

    def write() -> Comparison:
        result = scorer.result(failed, [files[file].name for file in waiting])
        write_tables(folder, result)
        return result

    def on_end(file: Path, fault: str) -> None:
        name = files[file].name
        if fault:
            failed[name] = fault
        waiting.remove(file)
        console.print(f"{name}: {fault or 'done'}, {len(waiting)} to go", highlight=False, markup=False)
        if not fault:
            write()

    console.print(
        f"{len(files)} jobs, {len(files) - len(waiting)} of them done, {max_jobs} in parallel: {folder}",
        highlight=False,
        markup=False,
    )
    try:
        run_all(list(waiting), launch, max_jobs, on_end)
    except (KeyboardInterrupt, SystemExit):
        console.print("stopped; finished jobs are saved, and the same command continues")
        raise
    result = write()
    if failed:
        listed = "\n".join(f"  {name}: {fault}" for name, fault in failed.items())
        raise SemiposeError(f"{len(failed)} of {len(files)} jobs failed; the same command tries them again.\n{listed}")
    return result


def _write_jobs(
    folder: Path,
    planned: Sequence[Job],
    data: dict[str, Any],
    test: dict[str, Any],
    settings: Settings,
    by: str,
) -> dict[Path, Job]:
    """Write the file of each job, its split and, without --val, the held-out people; return the jobs by file."""
    people = load_labels(data["labels"], data["images"], skeleton_file=data["skeleton"])
    if data["val"] is None:
        train, data["val"] = _divide(folder, people, data)
        people = load_labels(train, data["images"], skeleton_file=data["skeleton"])
        data = data | {"labels": train, "val_images": data["images"]}
    splits = {}
    for job in planned:
        key = (job.amount, job.seed)
        if job.amount != BOUND and key not in splits:
            splits[key] = folder / "splits" / f"{job.amount}-seed{job.seed}.json"
            _write_once(splits[key], _split(people, job, by))
    files = {}
    for job in planned:
        split = splits.get((job.amount, job.seed))
        streams = {"split": str(split)} if split else LABELED_ONLY
        row = replace(settings, method=job.method, seed=job.seed)
        run = str(folder / "runs" / job.place)
        file = folder / "jobs" / f"{job.name}.json"
        write_json(file, to_json(JobRecord(run, data | streams, test, setting_records(row), job.options)))
        files[file] = job
    return files


def _split(people: People, job: Job, by: Any) -> dict[str, Any]:
    try:
        return make_split(people, job.labeled, by, job.seed)
    except UsageError as error:
        raise UsageError(f"--label-amounts {job.amount}: {error}") from error


def _divide(folder: Path, people: People, data: dict[str, Any]) -> tuple[str, str]:
    """Divide the labels into two files, without and with the people held out for validation of all rows."""
    _, held = hold_out(people)
    if held is None:
        raise UsageError(f"{data['labels']}: {len(people)} labeled people are too few to hold some out: give --val.")
    chosen = set(held.images.ids.tolist())
    content = read_as_coco(data["labels"], data["images"], data["skeleton"])
    files = {}
    for name, inside in (("train", False), ("val", True)):
        parts = {
            key: [one for one in content[key] if (one[image] in chosen) == inside]
            for key, image in (("images", "id"), ("annotations", "image_id"))
        }
        files[name] = folder / f"{name}.json"
        _write_once(files[name], content | parts)
    return str(files["train"]), str(files["val"])


def _write_once(file: Path, value: dict[str, Any]) -> None:
    """Write `value` where there is no file yet. Raises DataError where there is one with another content."""
    if not file.is_file():
        write_json(file, value)
    old = read_json(file)
    if old != value:
        unlike = ", ".join(name for name in {**old, **value} if old.get(name) != value.get(name))
        raise DataError(
            f"{file}: the runs here were made with other {unlike} than are given now. Give the same files and --by, or "
            "choose another --out."
        )
