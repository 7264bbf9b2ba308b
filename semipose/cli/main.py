"""`semipose COMMAND ...`: one function per command, whose signature gives its flags and which imports what it needs.

Exit codes: 0 success, 1 bad data or a failed run, 2 wrong usage, 130 Ctrl-C, 141 the output's reader has closed it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from semipose import __version__
from semipose.errors import SemiposeError, UsageError, let_other_report, reports_errors, suggestion

RunFolder = Annotated[Path, arg(metavar="RUN", help="Run folder, or a checkpoint file.")]
Labels = Annotated[Path, arg(metavar="LABELS", help="COCO keypoint json.")]
File = Annotated[Path | None, arg(metavar="PATH")]


def train(argv: Sequence[str]) -> int:
    """Train a pose model on labeled and unlabeled images."""
    from semipose.cli.flags import parse_train

    call = parse_train(argv)
    from semipose.formats.load import load
    from semipose.tasks.train import train as run_task

    data = load(**call.inputs, seed=call.settings.seed, whole_images=call.settings.kind.whole_images)
    run_task(
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
    """Score a run on labeled images: PCK, pixel error and OKS-AP with intervals.

    Args:
        images: Folder of the images of LABELS.
        flip_test: Average each prediction with that of the mirrored image.
        out: Json file to write the scores to.
        detections: COCO detections json whose boxes are used instead of those of the labels.
        decode: Sub-pixel decoding of heatmap peaks.
        which: "best" or "last" checkpoint of the deployed network, or the name of a network.
        device: auto, cpu, cuda, cuda:1 or mps.
        batch_size: People (or whole images) per forward pass.
        easy_below: crowdIndex below which CrowdPose's images are easy; none = 0.2, as published (0.1 in the paper).
        scales: Test scales of detector-free networks, relative to the image size, e.g. 1 0.5 2.
        rescore: (dekr) Score people by a predicted pose quality, learned from the run's labeled images.
    """
    from semipose.tasks.evaluate import evaluate as run_task

    result = run_task(
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
    """Predict poses in images, and write them as COCO json and as pictures.

    Args:
        inputs: Images, folders or globs.
        out: Folder for the results.
        detections: COCO detections json with people's boxes; default: each image is one person. Detector-free networks
            need no boxes.
        flip_test: Average each prediction with that of the mirrored image.
        draw: Also write pictures with the poses drawn.
        device: auto, cpu, cuda, cuda:1 or mps.
        scales: Test scales of detector-free networks, relative to the image size, e.g. 1 0.5 2.
        rescore: (dekr) Score people by a predicted pose quality, learned from the run's labeled images.
    """
    if not inputs:
        raise UsageError("no INPUT is given; expected images, folders or globs after the run.")
    from semipose.tasks.predict import predict as run_task

    options: dict[str, Any] = {"device": device, "flip_test": flip_test, "scales": scales, "rescore": rescore}
    print(run_task(run, list(inputs), out, detections=detections, draw=draw, **options))
    return 0


def check(argv: Sequence[str]) -> int:
    """Check labels and images before training, and draw a contact sheet."""
    from semipose.cli.flags import parse_check

    inputs = parse_check(argv)
    from semipose.formats.load import load
    from semipose.tasks.check import check as run_task

    out, quick = inputs.pop("out"), inputs.pop("quick")
    return run_task(load(**inputs), out, quick=quick)


def compare(argv: Sequence[str]) -> int:
    """Train several methods with the same settings, and write one table."""
    from semipose.cli.flags import parse_compare

    call = parse_compare(argv)
    from semipose.comparison.compare import compare as run_task

    run_task(**call)
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
    """Divide the images of one json into labeled and unlabeled ones, for --split.

    Args:
        images: Folder of the images of LABELS.
        out: Json file to write.
        labeled: Amount to keep labeled: a share below 1, or a number in units of --by.
        by: Unit of the amount. image: images. person: people, in whole images. group: images, in whole groups (photos,
            videos). first: exactly the first people of the file, as in the published COCO 1K, 5K and 10K.
        group: For --by group: field of the images that names the group, or a pattern for file names such as '(.*)_'.
        seed: Random seed; with the same seed a smaller split is part of a larger one.
    """
    from semipose.tasks.split import split as run_task

    print(run_task(labels, images, out, labeled, by, group, seed))
    return 0


def resume(
    run: Annotated[Path, arg(metavar="RUN", help="Run folder.")],
    /,
    *,
    duration: Annotated[str | None, arg(metavar="DURATION")] = None,
    device: Annotated[str | None, arg(metavar="DEVICE")] = None,
) -> int:
    """Continue a stopped run exactly where it stopped, or train a finished one longer.

    Args:
        duration: Train a finished run and its baselines this much longer, as a new phase with its own schedule.
        device: Device to use instead of the one that the run was started on.
    """
    from semipose.tasks.train import resume as run_task

    run_task(run, duration, device)
    return 0


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> int:
    """Train on synthetic people, with and without unlabeled images, in a few minutes.

    Args:
        out: Folder for the pictures and the run.
        seed: Random seed.
    """
    from semipose.tasks.demo import demo as run_task

    run_task(out, seed)
    return 0


def export(run: RunFolder, /, *, out: Path, which: str = "best") -> int:
    """Export the deployed network to an ONNX file, and compare its outputs with the original's.

    Args:
        out: File to write, ending in .onnx.
        which: "best" or "last" checkpoint of the deployed network, or the name of a network.
    """
    from semipose.tasks.export import export as run_task

    print(run_task(run, out, which))
    return 0


def methods(name: Annotated[str, arg(metavar="NAME")] = "", /, *, markdown: bool = False) -> int:
    """List all methods, or explain one and its options.

    Args:
        name: Method to explain, or your own as package.module:Class; default: list all.
        markdown: Print the table of the README.
    """
    from semipose.methods._table import explain, table

    print(explain(name) if name else table(markdown))
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
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
    # Last, so that `--method my_module:Class` is found in the current folder, but no file there shadows a package.
    sys.path.append(os.getcwd())
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe, as `| head` does: discard the remaining output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SemiposeError as error:
        # Under torchrun an error before the processes join usually occurs in all of them. Later only one raises, with a
        # note of its number.
        notes = getattr(error, "__notes__", [])
        if not notes and not reports_errors():
            let_other_report(5)
        print(f"semipose: {error}", *notes, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130


def _run(argv: list[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command in ("-h", "--help", "--version"):
        print(f"semipose {__version__}" if command == "--version" else _help())
        return 0
    if command not in COMMANDS:
        problem = f"unknown command {command!r}{suggestion(command, COMMANDS)}" if command else "no command is given"
        raise UsageError(f"{problem}; expected one of {', '.join(COMMANDS)}. See semipose --help.")
    if command not in ("train", "resume") and os.environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        raise UsageError(f"{command} runs in one process: start it without torchrun, which is for train and resume.")
    if command in ("train", "check", "compare"):
        return COMMANDS[command](rest)
    return tyro.cli(COMMANDS[command], prog=f"semipose {command}", args=rest, config=())


def _help() -> str:
    lines = [f"  {name:9s}{(command.__doc__ or '').partition(chr(10))[0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: semipose COMMAND ...",
            "",
            "2D pose models from a few labeled and many unlabeled images.",
            "",
            *lines,
            "",
            "semipose COMMAND --help shows the flags of a command;",
            "semipose train --method NAME --help includes the options of a method.",
            "",
            "semipose demo needs no data. With your own data, start with",
            "  semipose train labels.json --images img/ --unlabeled frames/ --baseline",
        ]
    )
