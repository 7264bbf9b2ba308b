"""Errors for users: each message says what was found, where, what was expected and how to fix it."""

import difflib
import os
import time
from collections.abc import Iterable


class SemiposeError(Exception):
    """A run cannot start or continue; the command line prints the message and exits with 1."""


class DataError(SemiposeError):
    """Labels, images or weights are invalid; exit code 1."""


class UsageError(SemiposeError):
    """A flag, a yaml key or an argument is wrong; exit code 2."""


class WriteError(SemiposeError):
    """A file cannot be written: disk full, no permission; exit code 1."""


def reports_errors() -> bool:
    """Return whether this process prints errors that all processes meet: under torchrun the first of each machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def let_other_report(seconds: float) -> None:
    """Wait before exiting, so that another process can print its error: torchrun kills all when one exits."""
    time.sleep(seconds)


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" with the known name most like `name`, or an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
