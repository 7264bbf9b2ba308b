"""The errors a user sees: each says what was found, where, what was expected and what to do."""


class SemiposeError(Exception):
    """A run cannot start or go on; the command line prints the text and exits with 1."""


class DataError(SemiposeError):
    """Labels, images or weights are not what they should be; exit code 1."""


class UsageError(SemiposeError):
    """A flag, a yaml key or an argument is wrong; exit code 2."""
