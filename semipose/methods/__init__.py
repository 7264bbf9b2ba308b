"""The methods, found by their files: `mean_teacher.py` holds `class MeanTeacher(Method)` and is method mean_teacher.

Names, options and docstrings are read from the source without importing it, so that help and checks need no torch.
Somebody else's method is named by its place, `package.module:Class`.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from semipose.config.parsing import parse_value
from semipose.errors import UsageError, suggestion
from semipose.methods._source import REQUIRED, MethodInfo, Option, find_class, module_file, read_class
from semipose.networks import DETECTOR_FREE

__all__ = [
    "REQUIRED",
    "MethodInfo",
    "Option",
    "available",
    "describe",
    "load",
    "methods_for",
    "refuse_network",
    "typed_options",
]

FOLDER = Path(__file__).parent


@cache
def available(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of the methods in `folder`, sorted: files that define a subclass of Method of the same name."""
    files = sorted(file for file in folder.glob("[!_]*.py") if file.stem != "method")
    return tuple(file.stem for file in files if find_class(file) is not None)


@cache
def describe(name: str, folder: Path = FOLDER) -> MethodInfo:
    """Options, docstring and deployed network of method `name`, read from its source file.

    A UsageError names the nearest method when there is none of this name, and what is missing of package.module:Class.
    """
    if ":" in name:
        return _describe_elsewhere(name)
    if name not in available(folder):
        raise UsageError(
            f"--method {name}: no such method{suggestion(name, available(folder))}. "
            f"There are {', '.join(available(folder))}; your own is named package.module:Class."
        )
    file = folder / f"{name}.py"
    class_name = find_class(file)
    assert class_name is not None
    return read_class(name, file, class_name)


def load(name: str) -> type[Any]:
    """Import method `name` and return its class, a subclass of `semipose.methods.method.Method`."""
    from semipose.methods.method import Method

    info = describe(name)
    module = name.partition(":")[0] if ":" in name else f"{__name__}.{name}"
    found = getattr(importlib.import_module(module), info.class_name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UsageError(f"--method {name}: {info.class_name} is not a subclass of semipose.methods.method.Method")
    return found


def methods_for(network: str) -> tuple[str, ...]:
    """Names of the methods that can train `network`."""
    return tuple(name for name in available() if _trains(name, network))


def _trains(name: str, network: str) -> bool:
    info = describe(name)
    return info.detector_free if network in DETECTOR_FREE else info.top_down


def refuse_network(name: str, network: str) -> None:
    """Raise a UsageError where method `name` cannot train `network`: one person in a crop, or whole images."""
    if _trains(name, network):
        return
    whole, one = "sees whole images", "looks at one person in a crop"
    does, is_for = (whole, one) if network in DETECTOR_FREE else (one, whole)
    other = "" if network in DETECTOR_FREE else f" Networks for {name} are {', '.join(DETECTOR_FREE)}."
    raise UsageError(
        f"--method {name} {is_for}, and --network {network} {does}; methods that can train it: "
        f"{', '.join(methods_for(network))}.{other}"
    )


def typed_options(name: str, raw: Mapping[str, object], folder: Path = FOLDER) -> dict[str, Any]:
    """All options of method `name`, typed, paths absolute: those in `raw` (text or values), defaults of the others.

    One UsageError lists every unknown option, unusable value and missing option.
    """
    options = {option.name: option for option in describe(name, folder).options}
    values, faults = {}, []
    for key, value in raw.items():
        if key not in options:
            there = ", ".join(options) or "none"
            faults.append(f"--method.{key}: {name} has no such option{suggestion(key, options)}; it has {there}")
            continue
        try:
            found = parse_value(value, options[key].type)
            # A run is resumed from any folder.
            values[key] = found.absolute() if isinstance(found, Path) else found
        except ValueError as error:
            faults.append(f"--method.{key}: {error}")
    for key, option in options.items():
        if key not in raw and option.default is REQUIRED:
            faults.append(f"--method.{key}: {name} needs a value for it; {option.help}".rstrip("; "))
    if faults:
        raise UsageError("\n".join(faults))
    return {key: values.get(key, option.default) for key, option in options.items()}


def _describe_elsewhere(name: str) -> MethodInfo:
    """A method given as package.module:Class."""
    module, _, class_name = name.partition(":")
    file = module_file(module)
    if file is None:
        raise UsageError(
            f"--method {name}: no module {module!r} on Python's path. Install its package, or run where it lies."
        )
    try:
        return read_class(name, file, class_name)
    except KeyError as error:
        raise UsageError(f"--method {name}: {file} defines no class {class_name!r}{error.args[0]}") from error
