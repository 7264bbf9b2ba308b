"""Load the data of a run again."""

from semipose.errors import DataError
from semipose.formats.load import Data, load
from semipose.runs.plan import files_fingerprint, fingerprint
from semipose.runs.run import Run


def same_data(run: Run) -> Data:
    """Load the data of a run again; raise DataError if labels, boxes or image files have changed."""
    recorded = run.config["data"]
    arguments = recorded.get("arguments")
    if arguments is None:
        raise DataError(f"{run.folder}: run.json does not say which files the data came from, so it cannot be resumed.")
    data = load(**arguments)
    for what, found in (("fingerprint", fingerprint(data)), ("files", files_fingerprint(data))):
        if found != recorded.get(what, found):
            kind = "labels or boxes" if what == "fingerprint" else "image files"
            raise DataError(
                f"{arguments['labels']}: the {kind} are not those this run was started with (fingerprint {found}, "
                f"expected {recorded[what]}); restore the files, or start a new run."
            )
    return data
