"""Open a trained model: from a run, a checkpoint file, or as given."""

from pathlib import Path
from typing import TYPE_CHECKING

from semipose.runs.run import Run

if TYPE_CHECKING:
    from semipose.inference.model import Model


def as_model(run: "Run | Model | str | Path", which: str, rescore: bool = False, device: str = "auto") -> "Model":
    """The model itself, the named network of a run, or the model of a checkpoint file; see `rescored`."""
    from semipose.inference.model import Model

    if rescore:
        from semipose.runs.rescoring import rescored

        return rescored(run, which, device)
    if isinstance(run, Model):
        return run
    if isinstance(run, Run):
        return run.model(which)
    return Model.load(run) if Path(run).suffix == ".safetensors" else Run(run).model(which)
