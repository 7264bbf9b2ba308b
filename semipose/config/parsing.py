"""Typed values from text, yaml and Python: one set of rules for flags, config files and keyword arguments.

Supported types: int, float, bool, str, Path, Literal[...], X | None, tuple[X, ...], tuple[X, Y], and any class with the
classmethods `parse(value)`, which raises ValueError, and `expected()`, which describes what it reads.
"""

import difflib
import math
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

# type -> its name in messages and in the help of flags
PLAIN: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "INT"),
    float: ("a number", "NUMBER"),
    bool: ("true or false", "BOOL"),
    str: ("text", "TEXT"),
    Path: ("a path", "PATH"),
}


def parse_value(value: object, wanted: Any) -> Any:
    """Convert `value`, or its text, to type `wanted`; a ValueError names what was expected and found.

    >>> parse_value("1e-3", float), parse_value("none", float | None), parse_value([1, 2], tuple[float, float])
    (0.001, None, (1.0, 2.0))
    """
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _optional(value, wanted)
    if origin is Literal:
        return _choice(value, wanted)
    if origin is tuple:
        return _tuple(value, wanted)
    if hasattr(wanted, "parse"):
        return value if isinstance(value, wanted) else wanted.parse(value)
    return _plain(value, wanted)


def expected(wanted: Any) -> str:
    """Describe `wanted` for messages: "a number", "one of a, b", "a whole number or none"."""
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is types.NoneType else expected(part) for part in get_args(wanted))
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(wanted))
    if origin is tuple:
        return "a list of values" if ... in get_args(wanted) else f"{len(get_args(wanted))} values"
    return str(wanted.expected()) if hasattr(wanted, "parse") else PLAIN[wanted][0]


def metavar(wanted: Any) -> str:
    """Return the placeholder for `wanted` in a flag's help: "PATH", "NUMBER", "SIZE"."""
    parts = [part for part in get_args(wanted) if part is not types.NoneType]
    if get_origin(wanted) in (Union, types.UnionType) and len(parts) == 1:
        return metavar(parts[0])
    return PLAIN[wanted][1] if wanted in PLAIN else str(getattr(wanted, "__name__", "value")).upper()


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the most similar known name, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _optional(value: object, wanted: Any) -> Any:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        return None
    parts = [part for part in get_args(wanted) if part is not types.NoneType]
    for part in parts[:-1]:
        try:
            return parse_value(value, part)
        except ValueError:
            continue
    return parse_value(value, parts[-1])


def _choice(value: object, wanted: Any) -> Any:
    for choice in get_args(wanted):
        if value == choice or (isinstance(value, str) and value == str(choice)):
            return choice
    hint = suggestion(str(value), (str(choice) for choice in get_args(wanted)))
    raise ValueError(f"expected {expected(wanted)}, found {value!r}{hint}")


def _tuple(value: object, wanted: Any) -> tuple[Any, ...]:
    parts = get_args(wanted)
    items = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"expected {expected(wanted)}, found {value!r}")
    if len(parts) == 2 and parts[1] is ...:
        return tuple(parse_value(item, parts[0]) for item in items)
    if len(items) != len(parts):
        raise ValueError(f"expected {len(parts)} values, found {len(items)} in {value!r}")
    return tuple(parse_value(item, part) for item, part in zip(items, parts, strict=True))


def _plain(value: object, wanted: type) -> Any:
    if wanted is bool:
        if isinstance(value, bool):
            return value
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        found = words.get(str(value).lower())
        if found is not None:
            return found
    elif wanted in (int, float) and not isinstance(value, bool):
        number = _number(value, wanted)
        if number is not None:
            return number
    elif (wanted is str and isinstance(value, str)) or (wanted is Path and isinstance(value, (str, Path))):
        return wanted(value)
    raise ValueError(f"expected {expected(wanted)}, found {value!r}")


def _number(value: object, wanted: type) -> int | float | None:
    """Return a finite number, or None; for `wanted` int a fraction gives None instead of being dropped."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (wanted is int and number != int(number)):
        return None
    return int(number) if wanted is int else number
