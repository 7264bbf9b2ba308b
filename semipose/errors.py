"""The errors a user sees: each says what was found, where, what was expected and what to do."""

import difflib
import os
import time
from collections.abc import Iterable


class SemiposeError(Exception):
    """A run cannot start or go on; the command line prints the text and exits with 1."""


class DataError(SemiposeError):
    """Labels, images or weights are not what they should be; exit code 1."""


class UsageError(SemiposeError):
    """A flag, a yaml key or an argument is wrong; exit code 2."""


class WriteError(SemiposeError):
    """A file cannot be written: no room, no permission; exit code 1."""


def tells_errors() -> bool:
    """Whether this process is the one to tell a fault that all find: under torchrun the first on each machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def give_way(seconds: float) -> None:
    """Let another process tell what is wrong: torchrun ends all as soon as one has ended."""
    time.sleep(seconds)


def suggestion(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, or an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
