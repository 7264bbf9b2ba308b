"""Open a trained model: from a run, a checkpoint file, or as given."""

from pathlib import Path

from semipose.inference.model import Model
from semipose.inference.options import DEFAULTS, EvalOptions
from semipose.runs.rescoring import rescored
from semipose.runs.run import Run


def as_model(run: Run | Model | str | Path, which: str, options: EvalOptions = DEFAULTS) -> Model:
    """Return the model itself, network `which` of a run, or the model of a checkpoint file.

    With `options.rescore` its people's scores are learned, see `rescored`.
    """
    if options.rescore:
        return rescored(run, which, options.device)
    if isinstance(run, Model):
        return run
    if isinstance(run, Run):
        return run.model(which)
    return Model.load(run) if Path(run).suffix == ".safetensors" else Run(run).model(which)
