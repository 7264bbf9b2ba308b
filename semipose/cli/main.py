"""`semipose VERB ...`: one function a verb, its flags made from its signature; what it needs loads inside.

Exit codes: 0 done, 1 the data or the run is bad, 2 wrong usage, 130 stopped by Ctrl-C, 141 nobody reads what it prints.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from semipose import __version__
from semipose.config.parsing import suggestion
from semipose.errors import SemiposeError, UsageError, give_way, tells_errors

RunFolder = Annotated[Path, arg(metavar="RUN", help="Run folder, or a checkpoint file.")]
Labels = Annotated[Path, arg(metavar="LABELS", help="COCO-keypoint json.")]
File = Annotated[Path | None, arg(metavar="PATH")]


def train(argv: Sequence[str]) -> int:
    """Train a pose model on labeled and unlabeled images."""
    from semipose.cli.flags import parse_train

    call = parse_train(argv)
    from semipose.formats.load import load
    from semipose.tasks.train import train as start

    data = load(**call.inputs, seed=call.settings.seed, whole_images=call.settings.kind.whole_images)
    start(
        data,
        settings=call.settings,
        method_settings=call.method_settings,
        out=call.out,
        baseline=call.baseline,
        command=["semipose", "train", *argv],
    )
    return 0


def evaluate(
    run: RunFolder,
    labels: Labels,
    /,
    *,
    images: Path,
    flip_test: bool = False,
    out: File = None,
    detections: File = None,
    decode: Literal["dark", "quarter"] = "dark",
    which: str = "best",
    device: str = "auto",
    batch_size: int = 64,
    easy_below: Annotated[float | None, arg(metavar="NUMBER")] = None,
    scales: tuple[float, ...] = (1.0,),
    rescore: bool = False,
) -> int:
    """Score a run on labeled images: PCK, pixel error, OKS-AP; of detector-free networks OKS-AP alone.

    Args:
        images: Folder of its images.
        flip_test: Average each prediction with that of the mirrored image.
        out: Json file to write the numbers to.
        detections: COCO detections json whose boxes are used instead of the labels'.
        decode: How a peak's sub-pixel place is read from a map.
        which: "best" or "last" of the deployed network, or a network's name.
        device: auto, cpu, cuda, cuda:1 or mps.
        batch_size: People, or whole images, per pass.
        easy_below: CrowdPose's images are easy below this crowdIndex; none = 0.2, as published, the paper says 0.1.
        scales: Sizes in which detector-free networks look at an image, as shares of their own, such as 1 0.5 2.
        rescore: Learn from the run's labeled images how good a pose found by dekr is, and score people by that.
    """
    from semipose.tasks.evaluate import evaluate as score

    result = score(
        run,
        labels,
        images,
        flip_test=flip_test,
        decode=decode,
        out=out,
        device=device,
        batch_size=batch_size,
        which=which,
        detections=detections,
        easy_below=easy_below,
        scales=scales,
        rescore=rescore,
    )
    for metric, value in result.values.items():
        low, high = result.intervals.get(metric, (None, None))
        span = "" if low is None else f"   [{low:.2f}, {high:.2f}]"
        print(f"{metric:16s}{value:8.2f}{span}")
    print("\n".join(result.notes))
    return 0


def predict(
    run: RunFolder,
    inputs: Annotated[tuple[str, ...], arg(metavar="INPUT...")],
    /,
    *,
    out: Path,
    detections: File = None,
    flip_test: bool = False,
    draw: bool = True,
    device: str = "auto",
    scales: tuple[float, ...] = (1.0,),
    rescore: bool = False,
) -> int:
    """Find poses in images and write them as COCO json, with drawings.

    Args:
        inputs: Images, folders or globs.
        out: Folder for the results.
        detections: COCO detections json of people's boxes; without it each image is one person, or a detector-free
            network finds everybody in it.
        flip_test: Average each prediction with that of the mirrored image.
        draw: Also write pictures with the poses drawn.
        device: auto, cpu, cuda, cuda:1 or mps.
        scales: Sizes in which detector-free networks look at an image, as shares of their own, such as 1 0.5 2.
        rescore: Learn from the run's labeled images how good a pose found by dekr is, and score people by that.
    """
    if not inputs:
        raise UsageError("no INPUT is given; expected images, folders or globs after the run.")
    from semipose.tasks.predict import predict as find

    looking: dict[str, Any] = {"device": device, "flip_test": flip_test, "scales": scales, "rescore": rescore}
    print(find(run, list(inputs), out, detections=detections, draw=draw, **looking))
    return 0


def check(argv: Sequence[str]) -> int:
    """Look for faults in data before training, and draw a contact sheet."""
    from semipose.cli.flags import parse_check

    inputs = parse_check(argv)
    from semipose.formats.load import load
    from semipose.tasks.check import check as look

    out, quick = inputs.pop("out"), inputs.pop("quick")
    return look(load(**inputs), out, quick=quick)


def compare(argv: Sequence[str]) -> int:
    """Train several methods under one protocol and write one table."""
    from semipose.cli.flags import parse_compare

    call = parse_compare(argv)
    from semipose.comparison.compare import compare as measure

    measure(**call)
    return 0


def split(
    labels: Labels,
    /,
    *,
    images: Path,
    out: Path,
    labeled: float = 0.1,
    by: Literal["image", "person", "group", "first"] = "image",
    group: Annotated[str | None, arg(metavar="TEXT")] = None,
    seed: int = 0,
) -> int:
    """Divide one json's images into a labeled and an unlabeled stream, for --split.

    Args:
        images: Folder of the json's images.
        out: Json file to write.
        labeled: How many stay labeled: a share below 1, or a number.
        by: What is counted and kept whole: images; person = people, in whole images; group = images, in whole groups
            (photos, videos); first = exactly the first people of the file, as the published COCO 1K, 5K and 10K.
        group: With --by group: the images' field that names it, or a pattern for file names such as '(.*)_'.
        seed: Draw; with one seed a smaller split is part of a larger one.
    """
    from semipose.tasks.split import split as divide

    print(divide(labels, images, out, labeled, by, group, seed))
    return 0


def resume(
    run: Annotated[Path, arg(metavar="RUN", help="Run folder.")],
    /,
    *,
    duration: Annotated[str | None, arg(metavar="DURATION")] = None,
    device: Annotated[str | None, arg(metavar="DEVICE")] = None,
) -> int:
    """Go on with a run that was stopped, as if it had not been; or train a finished one longer.

    Args:
        duration: Train a finished run and its baselines this much longer, as a new phase with its own schedule.
        device: Another device than the run was started on.
    """
    from semipose.tasks.train import resume as go_on

    go_on(run, duration, device)
    return 0


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Train on people drawn by the program, with and without unlabeled images; a few minutes.

    Args:
        out: Folder for the pictures and the run.
        seed: Start of all random numbers.
    """
    from semipose.tasks.demo import demo as show

    show(out, seed)
    return 0


def export(run: RunFolder, /, *, out: Path, which: str = "best") -> int:
    """Write the deployed network as an ONNX file, checked against the original.

    Args:
        out: File to write, ending in .onnx.
        which: "best" or "last" of the deployed network, or a network's name.
    """
    from semipose.tasks.export import export as write

    print(write(run, out, which))
    return 0


def methods(name: Annotated[str, arg(metavar="NAME")] = "", /, *, markdown: bool = False) -> int:
    """List the methods and their options, or explain one.

    Args:
        name: Method to explain, also package.module:Class; without it all are listed.
        markdown: As the table in the README.
    """
    from semipose.methods._table import explain, table

    print(explain(name) if name else table(markdown))
    return 0


VERBS: dict[str, Callable[..., int]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "check": check,
    "split": split,
    "resume": resume,
    "compare": compare,
    "demo": demo,
    "methods": methods,
    "export": export,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is without the program's name."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # The current folder last: `--method my_module:Class` finds what lies here, but nothing here shadows a package.
    sys.path.append(os.getcwd())
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, as `| head` does: what is still to be printed goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SemiposeError as error:
        # Under torchrun a fault found before the processes join is mostly found by all. Later only one raises, with a
        # note that says which.
        notes = getattr(error, "__notes__", [])
        if not notes and not tells_errors():
            give_way(5)
        print(f"semipose: {error}", *notes, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130


def _run(argv: list[str]) -> int:
    verb, rest = (argv[0], argv[1:]) if argv else ("", [])
    if verb in ("-h", "--help", "--version"):
        print(f"semipose {__version__}" if verb == "--version" else _help())
        return 0
    if verb not in VERBS:
        found = f"{verb!r} is no verb{suggestion(verb, VERBS)}" if verb else "a verb is missing"
        raise UsageError(f"{found}; expected one of {', '.join(VERBS)}. See semipose --help.")
    if verb not in ("train", "resume") and os.environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        raise UsageError(f"{verb} works in one process: start it without torchrun, which is for train and resume.")
    if verb in ("train", "check", "compare"):
        return VERBS[verb](rest)
    return tyro.cli(VERBS[verb], prog=f"semipose {verb}", args=rest, config=())


def _help() -> str:
    lines = [f"  {name:9s}{(verb.__doc__ or '').partition(chr(10))[0]}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: semipose VERB ...",
            "",
            "2D pose models from a few labeled and many unlabeled images.",
            "",
            *lines,
            "",
            "semipose VERB --help shows the flags of a verb; semipose train --method NAME --help those of a method.",
            "semipose demo needs no data; with your own, start with",
            "  semipose train labels.json --images img/ --unlabeled frames/ --baseline",
        ]
    )
