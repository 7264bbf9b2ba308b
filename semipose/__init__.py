"""semipose: 2D pose models from a few labeled and many unlabeled images.

>>> import semipose as sp
>>> data = sp.load("labels.json", images="img/", unlabeled="frames/")
>>> run = sp.train(data, method="mean_teacher")
>>> poses = run.model().predict("pictures/")

Names are imported on first use, so `import semipose` is fast and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from semipose.checks.checks import check
    from semipose.comparison.compare import compare
    from semipose.formats.load import Data, load
    from semipose.inference.model import Model
    from semipose.pose.poses import Poses
    from semipose.pose.skeleton import Skeleton
    from semipose.runs.run import Run
    from semipose.tasks.evaluate import evaluate
    from semipose.tasks.train import resume, train

__all__ = ["Data", "Model", "Poses", "Run", "Skeleton", "check", "compare", "evaluate", "load", "resume", "train"]

_HOME = {
    "Data": "formats.load",
    "Model": "inference.model",
    "Poses": "pose.poses",
    "Run": "runs.run",
    "Skeleton": "pose.skeleton",
    "check": "checks.checks",
    "compare": "comparison.compare",
    "evaluate": "tasks.evaluate",
    "load": "formats.load",
    "resume": "tasks.train",
    "train": "tasks.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'semipose' has no attribute {name!r}")
    value = getattr(import_module(f"semipose.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
