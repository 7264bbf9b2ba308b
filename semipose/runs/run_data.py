"""Load the data of a run again."""

from semipose.errors import DataError
from semipose.formats.load import Data, load
from semipose.runs.plan import files_fingerprint, fingerprint
from semipose.runs.run import Run


def same_data(run: Run) -> Data:
    """Load the data of a run again; anything else than it was started with is refused."""
    recorded = run.record.data
    arguments = recorded.arguments
    if arguments is None:
        raise DataError(f"{run.folder}: run.json does not say which files the data came from, so it cannot be resumed.")
    data = load(**arguments)
    for kind, found, expected in (
        ("labels or boxes", fingerprint(data), recorded.fingerprint),
        ("image files", files_fingerprint(data), recorded.files),
    ):
        if found != expected:
            raise DataError(
                f"{arguments['labels']}: the {kind} are not those this run was started with (fingerprint {found}, "
                f"expected {expected}); restore the files, or start a new run."
            )
    return data
