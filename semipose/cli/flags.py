"""Flags of `train`, `check` and `compare`, made from the settings and the method's signature. Loads no torch.

Flags take precedence over the yaml file of `--config`, and that over the defaults. Each setting records its source.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import tyro

from semipose import methods
from semipose.config.parsing import metavar, parse_value
from semipose.config.settings import DIFFERING, Origin, Settings, refuse
from semipose.config.yaml_file import Config
from semipose.errors import UsageError, let_other_report, reports_errors
from semipose.formats.video import Sampling
from semipose.methods import REQUIRED, Option

# Annotated types are made at run time here, which mypy does not accept.
ANNOTATED: Any = Annotated
# Method options whose help begins with this are research switches; help lists them last.
ABLATION = "(ablation)"
# name -> (type, default, help) of the flags that are not settings.
INPUTS: dict[str, tuple[Any, Any, str]] = {
    "labels": (Path, REQUIRED, "COCO keypoint json."),
    "images": (Path, REQUIRED, "Folder of the labeled images."),
    "unlabeled": (tuple[str, ...], (), "Unlabeled images: folder, glob, list file, video, or a json with boxes."),
    "val": (Path | None, None, "COCO keypoint json for validation; by default a part of the labels is held out."),
    "val_images": (Path | None, None, "Folder of the images of --val; default: that of --images."),
    "split": (Path | None, None, 'Json {"labeled": [ids], "unlabeled": [ids]} that divides the images of LABELS.'),
    "skeleton": (Path | None, None, "Yaml that overrides keypoint names, flip partners, bones or sigmas."),
    "detections": (Path | None, None, "COCO detections json with people's boxes in the unlabeled images."),
    "video_stride": (int, Sampling.stride, "Use every N-th frame of unlabeled videos."),
    "video_change": (
        float,
        Sampling.change,
        "Drop video frames that change by less than this share of the color range.",
    ),
}
OUTPUTS: dict[str, tuple[Any, Any, str]] = {
    "baseline": (bool, False, "Also train on the labels alone, and report whether the unlabeled images helped."),
    "out": (Path | None, None, "Run folder; default: runs/LABELS-METHOD-N."),
    "config": (Path | None, None, "Yaml file with values for these flags; flags take precedence."),
}
CHECK: dict[str, tuple[Any, Any, str]] = {
    "out": (Path, Path("check"), "Folder for the contact sheet."),
    "quick": (bool, False, "Skip the checks that read images; training runs the others as well."),
}
COMPARE: dict[str, tuple[Any, Any, str]] = {
    "methods": (str, "all", "all, or names with commas; options in brackets: mean_teacher[decay=0.99]."),
    "label_amounts": (
        str,
        "10%",
        "Amounts of labels, separated by commas: shares such as 5%, or numbers in units of --by.",
    ),
    "seeds": (int, 3, "Number of seeds (0, 1, ...) for which each amount is sampled and trained."),
    "by": (Literal["image", "person", "group"], "image", "Unit of the amounts of labels, as in semipose split."),
    "test": (Path | None, None, "COCO keypoint json to score the runs on; default: the validation people."),
    "test_images": (Path | None, None, "Folder of the images of --test; default: that of --images."),
    "out": (Path, Path("runs/comparison"), "Folder of all runs and tables; the same command continues there."),
    "launcher": (Literal["local", "submitit"], "local", "Start runs on this machine, or through submitit (SLURM)."),
    "jobs": (int | None, None, "Runs at a time; none = one per GPU, or 1; all with submitit."),
    "cluster": (tuple[str, ...], (), "NAME=VALUE for submitit, e.g. timeout_min=600 or slurm_partition=gpu."),
}
TRAIN = """Train a pose model on labeled and unlabeled images.

Example: semipose train labels.json --images img/ --unlabeled frames/ --baseline"""


@dataclass(frozen=True)
class TrainCall:
    """Arguments of one `semipose train`."""

    inputs: dict[str, Any]
    settings: Settings
    method_settings: dict[str, Any]
    baseline: bool
    out: Path | None


def parse_train(argv: Sequence[str]) -> TrainCall:
    """Parse the arguments after `semipose train`; all problems of a yaml file are reported at once."""
    given = _given(argv)
    config = Config.read(given["config"]) if given.get("config") else Config(Path())
    method, origin = _method(given, config)
    options = {f"method.{option.name}": option for option in methods.describe(method).options}
    types = {name: row[0] for name, row in {**INPUTS, **OUTPUTS}.items() if name != "config"} | Settings.types()
    values = config.typed(types | {name: option.type for name, option in options.items()})
    from_yaml = {name: value for name, value in values.items() if name in Settings.types() and name not in given}
    settings = _settings(from_yaml, config)
    refuse(config.faults and config.faults + settings.faults())

    defaults = {name: value for name, value in values.items() if name not in given}
    parsed = _parse(_train_flags(method, defaults), TRAIN, "semipose train", argv)
    by_flag = {name: getattr(parsed, name) for name in Settings.types() if name in given}
    settings = settings.chosen("flag", "", **by_flag)
    settings = dataclasses.replace(settings, method=method, origins=settings.origins | {"method": origin}).validate()
    inputs = {name: getattr(parsed, name) for name in INPUTS}
    _check_streams(method, inputs, parsed.baseline)
    methods.refuse_network(method, settings.network)
    return TrainCall(inputs, settings, dataclasses.asdict(parsed.method_settings), parsed.baseline, parsed.out)


def _given(argv: Sequence[str]) -> dict[str, str]:
    """Find the names of the flags on the command line (batch_size, method.decay), with the text after each."""
    found = {}
    for token, after in zip(argv, [*argv[1:], ""], strict=True):
        if token.startswith("--"):
            name, equals, value = token[2:].partition("=")
            group, dot, last = name.replace("-", "_").rpartition(".")
            found[group + dot + last.removeprefix("no_")] = value if equals else after
    if "-h" in argv:
        found["help"] = ""
    return found


def _method(given: dict[str, str], config: Config) -> tuple[str, Origin]:
    """Find the method's name, and its source, before parsing: the method decides which flags exist."""
    if "method" in given:
        methods.describe(given["method"])
        return given["method"], Origin("flag", "")
    if "method" in config.entries:
        name = str(config.entries["method"])
        try:
            methods.describe(name)
            return name, Origin("yaml", config.place("method"))
        except UsageError as error:
            config.faults.append(f"{config.place('method')}: {error}")
    if {*given, *config.entries} & {"unlabeled", "split", "help"}:
        return Settings.usual_method(given.get("network", config.entries.get("network"))), Origin("default", "")
    return "supervised", Origin("data", "neither --unlabeled nor --split is given")


def _settings(values: dict[str, Any], config: Config) -> Settings:
    settings = dataclasses.replace(Settings(), **values)
    return dataclasses.replace(settings, origins={name: Origin("yaml", config.place(name)) for name in values})


def parse_check(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments after `semipose check`: the inputs, and `out` and `quick`."""
    flags = [_flag(name, *row) for name, row in {**INPUTS, **CHECK}.items()]
    doc = "Check labels and images before training, and draw a contact sheet."
    return dataclasses.asdict(_parse(flags, doc, "semipose check", argv))


def parse_compare(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments after `semipose compare`: those of `semipose.compare`, with the settings as `settings`."""
    given = _given(argv)
    kinds = {name: kind for name, kind in Settings.types().items() if name not in DIFFERING}
    rows = {name: row for name, row in {**INPUTS, **COMPARE}.items() if name != "split"}
    rows |= {name: (kind, getattr(Settings, name), Settings.help(name)) for name, kind in kinds.items()}
    doc = (
        "Train several methods on parts of the labels with the same settings, and write one table.\n\n"
        "Example: semipose compare labels.json --images img/ --methods all --label-amounts 5%,10% --seeds 3"
    )
    parsed = _parse([_flag(name, *row) for name, row in rows.items()], doc, "semipose compare", argv)
    settings = Settings().chosen("flag", "", **{name: getattr(parsed, name) for name in kinds if name in given})
    return {name: getattr(parsed, name) for name in rows if name not in kinds} | {"settings": settings}


def _train_flags(method: str, defaults: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Make the fields of `semipose train --method METHOD`; `defaults` from yaml replace the usual ones."""
    info = methods.describe(method)
    rows: list[tuple[Any, ...]] = [(name, *row) for name, row in {**INPUTS, **OUTPUTS}.items()]
    rows += [(name, kind, getattr(Settings, name), Settings.help(name)) for name, kind in Settings.types().items()]
    flags = [_flag(name, kind, defaults.get(name, default), help) for name, kind, default, help in rows]
    ordered = sorted(info.options, key=_is_ablation)
    options = [_flag(o.name, o.type, defaults.get(f"method.{o.name}", o.default), o.help) for o in ordered]
    group = dataclasses.make_dataclass("MethodFlags", options, kw_only=True, namespace={"__doc__": info.summary})
    return [*flags, ("method_settings", ANNOTATED[group, tyro.conf.arg(name="method")])]


def _is_ablation(option: Option) -> bool:
    return option.help.startswith(ABLATION)


def _parse(flags: list[tuple[Any, ...]], doc: str, prog: str, argv: Sequence[str]) -> Any:
    """Parse `argv` as a dataclass with fields `flags`; wrong usage prints its reason and exits with 2."""
    kind = dataclasses.make_dataclass("Flags", flags, kw_only=True, namespace={"__doc__": doc})
    try:
        return tyro.cli(kind, prog=prog, args=list(argv), config=(), console_outputs=reports_errors())
    except SystemExit:
        if not reports_errors():
            let_other_report(5)
        raise


def _flag(name: str, kind: Any, default: Any, help: str) -> tuple[Any, ...]:
    """Make (name, type) or (name, type, default) for make_dataclass."""
    annotated: Any = kind
    if kind == tuple[str, ...]:
        annotated = ANNOTATED[kind, tyro.conf.UseAppendAction]
    elif kind is not bool and get_origin(kind) is not Literal and get_origin(kind) is not tuple:
        annotated = ANNOTATED[kind, _one_word(kind)]
    if name == "labels":
        annotated = ANNOTATED[annotated, tyro.conf.Positional]
    annotated = ANNOTATED[annotated, tyro.conf.arg(help=help, metavar="LABELS" if name == "labels" else None)]
    return (name, annotated) if default is REQUIRED else (name, annotated, default)


def _one_word(kind: Any) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """Make tyro parse one word of the command line with `parse_value`, as yaml values are."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar(kind),
        instance_from_str=lambda texts: parse_value(texts[0], kind),
        is_instance=lambda value: True,
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def _check_streams(method: str, inputs: dict[str, Any], baseline: bool) -> None:
    """Refuse a method or a baseline that needs unlabeled images when there are none."""
    if inputs["unlabeled"] or inputs["split"]:
        return
    if methods.describe(method).uses_unlabeled:
        raise UsageError(
            f"--method {method} needs unlabeled images, and none are given. Add --unlabeled FOLDER or --split FILE, or "
            "choose --method supervised."
        )
    if baseline:
        raise UsageError(
            "--baseline measures whether unlabeled images help, and none are given. Add --unlabeled FOLDER or --split "
            "FILE, or leave --baseline out."
        )
