"""Training methods: a batch of weak and strong views goes in, named losses come out.

Each file here is a method: `mean_teacher.py` holds `class MeanTeacher(Method)` and is the method mean_teacher. A
method of your own is named `package.module:Class`; this package exports what it needs to import.
Methods build on views, networks, codecs and losses; they know no files, devices, optimizer or log.

Names, options and docstrings are read from the source, so that help and checks need no torch. The trailing comment of
an option is its `--help` text. The exported classes and functions load on first use.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semipose.config.parsing import parse_value
from semipose.errors import UsageError, suggestion
from semipose.methods._source import REQUIRED, MethodInfo, Option, find_class, module_file, read_class
from semipose.networks import DETECTOR_FREE

if TYPE_CHECKING:
    from semipose.fields import Field, Fields
    from semipose.losses.heatmap import field_loss, heatmap_loss
    from semipose.methods.method import (
        Build,
        Method,
        Progress,
        Step,
        as_teacher,
        confidence_mask,
        forward_pair,
        peak_confidence,
        teacher_forward,
    )
    from semipose.networks.ema import Ema
    from semipose.networks.ensemble import Ensemble
    from semipose.networks.network import PoseNetwork
    from semipose.pose.skeleton import Skeleton
    from semipose.views.view import Batch, Crops, View

__all__ = [
    "REQUIRED",
    "Batch",
    "Build",
    "Crops",
    "Ema",
    "Ensemble",
    "Field",
    "Fields",
    "Method",
    "MethodInfo",
    "Option",
    "PoseNetwork",
    "Progress",
    "Skeleton",
    "Step",
    "View",
    "as_teacher",
    "available",
    "confidence_mask",
    "describe",
    "field_loss",
    "forward_pair",
    "heatmap_loss",
    "load",
    "methods_for",
    "peak_confidence",
    "refuse_network",
    "teacher_forward",
    "typed_options",
]

FOLDER = Path(__file__).parent

# The module of each name that loads on first use.
_HOME = {
    "Batch": "views.view",
    "Build": "methods.method",
    "Crops": "views.view",
    "Ema": "networks.ema",
    "Ensemble": "networks.ensemble",
    "Field": "fields",
    "Fields": "fields",
    "Method": "methods.method",
    "PoseNetwork": "networks.network",
    "Progress": "methods.method",
    "Skeleton": "pose.skeleton",
    "Step": "methods.method",
    "View": "views.view",
    "as_teacher": "methods.method",
    "confidence_mask": "methods.method",
    "field_loss": "losses.heatmap",
    "forward_pair": "methods.method",
    "heatmap_loss": "losses.heatmap",
    "peak_confidence": "methods.method",
    "teacher_forward": "methods.method",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"semipose.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


@cache
def available(folder: Path = FOLDER) -> tuple[str, ...]:
    """List the methods in `folder`, sorted: files that define a subclass of Method of the same name."""
    files = sorted(file for file in folder.glob("[!_]*.py") if file.stem != "method")
    return tuple(file.stem for file in files if find_class(file) is not None)


@cache
def describe(name: str, folder: Path = FOLDER) -> MethodInfo:
    """Read options, docstring and deployed network of method `name` from its source file.

    Raises UsageError for an unknown name, with the nearest one, and for a package.module:Class that is not there.
    """
    if ":" in name:
        return _describe_third_party(name)
    if name not in available(folder):
        raise UsageError(
            f"--method {name}: no such method{suggestion(name, available(folder))}. "
            f"The methods are {', '.join(available(folder))}; name a method of your own as package.module:Class."
        )
    file = folder / f"{name}.py"
    class_name = find_class(file)
    assert class_name is not None
    return read_class(name, file, class_name)


def load(name: str) -> type[Any]:
    """Import method `name` and return its class, a subclass of `semipose.methods.Method`.

    Raises UsageError where it is no such subclass.
    """
    from semipose.methods.method import Method

    info = describe(name)
    module = name.partition(":")[0] if ":" in name else f"{__name__}.{name}"
    method = getattr(importlib.import_module(module), info.class_name)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UsageError(f"--method {name}: {info.class_name} is not a subclass of semipose.methods.Method")
    return method


def methods_for(network: str) -> tuple[str, ...]:
    """List the methods that can train `network`."""
    return tuple(name for name in available() if _trains(name, network))


def _trains(name: str, network: str) -> bool:
    info = describe(name)
    return info.detector_free if network in DETECTOR_FREE else info.top_down


def refuse_network(name: str, network: str) -> None:
    """Raise UsageError where method `name` cannot train `network`: one person in a crop, or whole images."""
    if _trains(name, network):
        return
    whole, one = "sees whole images", "sees one person in a crop"
    found, expected = (whole, one) if network in DETECTOR_FREE else (one, whole)
    other = "" if network in DETECTOR_FREE else f" Networks for {name} are {', '.join(DETECTOR_FREE)}."
    raise UsageError(
        f"--method {name} {expected}, and --network {network} {found}; methods that can train it: "
        f"{', '.join(methods_for(network))}.{other}"
    )


def typed_options(name: str, raw: Mapping[str, object], folder: Path = FOLDER) -> dict[str, Any]:
    """Return all options of method `name`, typed: those in `raw` (text or values), and defaults for the others.

    Paths become absolute. One UsageError lists every unknown option, unusable value and missing option.
    """
    options = {option.name: option for option in describe(name, folder).options}
    values, faults = {}, []
    for key, value in raw.items():
        if key not in options:
            known = ", ".join(options) or "none"
            faults.append(f"--method.{key}: {name} has no such option{suggestion(key, options)}; it has {known}")
            continue
        try:
            parsed = parse_value(value, options[key].type)
            # A run is resumed from any folder.
            values[key] = parsed.absolute() if isinstance(parsed, Path) else parsed
        except ValueError as error:
            faults.append(f"--method.{key}: {error}")
    for key, option in options.items():
        if key not in raw and option.default is REQUIRED:
            faults.append(f"--method.{key}: {name} needs this option; {option.help}".rstrip("; "))
    if faults:
        raise UsageError("\n".join(faults))
    return {key: values.get(key, option.default) for key, option in options.items()}


def _describe_third_party(name: str) -> MethodInfo:
    """Describe a method given as package.module:Class."""
    module, _, class_name = name.partition(":")
    file = module_file(module)
    if file is None:
        raise UsageError(
            f"--method {name}: no module {module!r} on Python's path. Install its package, or run in its folder."
        )
    try:
        return read_class(name, file, class_name)
    except KeyError as error:
        raise UsageError(f"--method {name}: {file} defines no class {class_name!r}{error.args[0]}") from error
