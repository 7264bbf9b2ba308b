"""The result of a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """`text` says what was found and where, `remedy` what to do about it."""

    level: Literal["error", "warning", "note"]
    text: str
    remedy: str


def examples(values: Sequence[Any], maximum: int = 5) -> str:
    """List the first values, with "..." if there are more."""
    shown = ", ".join(str(value) for value in values[:maximum])
    return f"{shown}, ..." if len(values) > maximum else shown
