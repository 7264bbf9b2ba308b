"""`semipose compare`: methods, numbers of labels and seeds in; runs under one protocol and their table out.

Everything lies in one folder, and a comparison that is called again goes on there: finished runs are not repeated.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from semipose.comparison.job import LABELS_ALONE, evaluation_people, is_done
from semipose.comparison.launch import Cluster, Launch, Local, gpus, run_all
from semipose.comparison.plan import BOUND, Job, plan, refuse_unlike
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
from semipose.system.device import choose_device
from semipose.system.files import locked, read_json, write_json

Place = str | Path


def compare(
    labels: Place,
    images: Place,
    unlabeled: Place | Sequence[Place] | None = None,
    *,
    methods: str | Sequence[str] = "all",
    labeled: str | Sequence[str] = "10%",
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
) -> dict[str, Any]:
    """Train `methods` on parts of the `labels` under one protocol, and return what comparison.json in `out` holds.

    `methods`: "all", or names with options in brackets ("mean_teacher[decay=0.99]"). `labeled`: shares ("5%") and
    numbers of what `by` says; the other images of the json are unlabeled, and `unlabeled` ones come on top. Each part
    is drawn with seeds 0, 1, ..., nested. The baselines (labels alone, weak and strong views) run too, and
    the bound (all labels). Without `val` 20 % of the labeled people are held out, the same for all. Everything is
    chosen on val; rows are judged on `test` where given, else on val. `values` are settings by name.

    `jobs` run side by side: None is one a GPU. Raises UsageError where `out` holds runs of another protocol, and a
    SemiposeError at the end when jobs failed; the table of the others is written by then.

    >>> sp.compare("labels.json", "img/", methods="mean_teacher,pose_cons", labeled="5%,10%")  # doctest: +SKIP
    """
    settings = (settings or Settings()).chosen("flag", "given in Python", **values).validate()
    _check(settings, seeds, jobs, test, test_images, launcher, cluster)
    if settings.weights is not None:
        settings = replace(settings, weights=settings.weights.absolute())
    sources = [] if unlabeled is None else [unlabeled] if isinstance(unlabeled, str | Path) else list(unlabeled)
    planned = plan(methods, labeled, seeds, settings.network)
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
    data = {name: _place(value) for name, value in data.items()}
    judged = {} if test is None else {"val": _place(test), "val_images": _place(test_images or images)}
    refuse_unlike(folder, settings)
    with locked(folder / ".lock", wait=False):
        _write_once(folder / "data.json", data | {"by": by})
        files = _write_jobs(folder, planned, data, judged, settings, by)
        launch, most = _launcher(folder, launcher, jobs, cluster, settings, len(files))
        return _run(folder, files, launch, most, settings, console)


def _place(value: Any) -> Any:
    """Paths absolute, so that a job can run anywhere on this machine."""
    if isinstance(value, list):
        return [_place(one) for one in value]
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
    """Refuse what would make rows unlike, and flags that would do nothing."""
    fixed = [name for name in DIFFERING if getattr(settings, name) != getattr(Settings, name)]
    faults = [f"{name} differs from row to row and is not for a comparison; leave it out" for name in fixed]
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
    folder: Path, name: str, jobs: int | None, cluster: Sequence[str], settings: Settings, waiting: int
) -> tuple[Launch, int]:
    """What starts a job, and how many run at a time."""
    if name == "submitit":
        return Cluster(folder, cluster), jobs or max(1, waiting)
    most = jobs or max(1, len(gpus(settings.device)))
    choose_device(settings.device)
    return Local(most, settings.device), most


def _run(
    folder: Path, files: dict[Path, Job], launch: Launch, most: int, settings: Settings, console: Console
) -> dict[str, Any]:
    """Run the jobs that are not done, writing the table after each."""
    first = read_json(next(iter(files)))
    judge = Scorer(folder, evaluation_people(first), settings.metric, "test" if first["judges"] else "val")
    waiting = [file for file in files if not is_done(read_json(file), judge.digest)]
    failed: dict[str, str] = {}

    def tables() -> dict[str, Any]:
        result = judge.result() | {"failed": failed, "open": [files[file].name for file in waiting]}
        write_tables(folder, result)
        return read_json(folder / "comparison.json")

    def tell(file: Path, how: str) -> None:
        name = files[file].name
        if how:
            failed[name] = how
        waiting.remove(file)
        console.print(f"{name}: {how or 'done'}, {len(waiting)} to go", highlight=False, markup=False)
        if not how:
            tables()

    console.print(
        f"{len(files)} jobs, {len(files) - len(waiting)} of them done, {most} at a time: {folder}",
        highlight=False,
        markup=False,
    )
    try:
        run_all(list(waiting), launch, most, tell)
    except (KeyboardInterrupt, SystemExit):
        console.print("stopped; what is done is saved, and the same command goes on with it")
        raise
    result = tables()
    if failed:
        listed = "\n".join(f"  {name}: {how}" for name, how in failed.items())
        raise SemiposeError(f"{len(failed)} of {len(files)} jobs failed; the same command tries them again.\n{listed}")
    return result


def _write_jobs(
    folder: Path, planned: Sequence[Job], data: dict[str, Any], judged: dict[str, Any], settings: Settings, by: str
) -> dict[Path, Job]:
    """The file of each job, with the splits and, without --val, the held-out people that it names."""
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
        streams = {"split": str(split)} if split else LABELS_ALONE
        file = folder / "jobs" / f"{job.name}.json"
        row = replace(settings, method=job.method, seed=job.seed)
        write_json(
            file,
            {
                "run": str(folder / "runs" / job.place),
                "data": data | streams,
                "judges": judged,
                "settings": row.record(),
                "options": job.options,
            },
        )
        files[file] = job
    return files


def _split(people: People, job: Job, by: Any) -> dict[str, Any]:
    try:
        return make_split(people, job.labeled, by, job.seed)
    except UsageError as error:
        raise UsageError(f"--labels {job.amount}: {error}") from error


def _divide(folder: Path, people: People, data: dict[str, Any]) -> tuple[str, str]:
    """The labels as two json files, without and with the people held out for validation; the same for all rows."""
    _, held = hold_out(people)
    if held is None:
        raise UsageError(f"{data['labels']}: {len(people)} labeled people are too few to hold some out: give --val.")
    chosen = set(held.images.ids.tolist())
    content = read_as_coco(data["labels"], data["images"], data["skeleton"])
    places = {}
    for name, inside in (("train", False), ("val", True)):
        parts = {
            key: [one for one in content[key] if (one[image] in chosen) == inside]
            for key, image in (("images", "id"), ("annotations", "image_id"))
        }
        places[name] = folder / f"{name}.json"
        _write_once(places[name], content | parts)
    return str(places["train"]), str(places["val"])


def _write_once(file: Path, value: dict[str, Any]) -> None:
    """Write `value`; where the file is there and says something else, the data is not what earlier runs saw."""
    if not file.is_file():
        write_json(file, value)
    old = read_json(file)
    if old != value:
        unlike = ", ".join(name for name in {**old, **value} if old.get(name) != value.get(name))
        raise DataError(
            f"{file}: the runs here were made with other {unlike} than are given now. Give the same files and --by, or "
            "choose another --out."
        )
