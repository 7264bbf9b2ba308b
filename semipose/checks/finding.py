"""One thing found in the data, and how a sentence names examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """`text` says what was found and where, `remedy` what to do."""

    level: Literal["error", "warning", "note"]
    text: str
    remedy: str


def examples(values: Sequence[Any], most: int = 5) -> str:
    """The first few values, with "..." when there are more."""
    shown = ", ".join(str(value) for value in values[:most])
    return f"{shown}, ..." if len(values) > most else shown
