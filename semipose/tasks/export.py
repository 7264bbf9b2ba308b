"""Write the deployed network of a run as an ONNX file, checked against the original."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semipose.errors import SemiposeError, UsageError
from semipose.inference.model import Model
from semipose.runs.open_model import as_model
from semipose.runs.run import Run
from semipose.system.files import replacing

TOLERANCE = 1e-4  # of heatmap height, whose peaks are about 1
# The graph is traced with a batch of another size: a graph for that size alone fails the check.
CHECKED_BATCHES = (1, 3)


class Heatmaps(nn.Module):
    """Images (B, 3, H, W) to heatmaps (B, K, h, w): an ONNX graph takes and returns tensors, not `Fields`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = self.network(image)["heatmap"].maps
        return maps


def export(run: Run | Model | str | Path, out: str | Path, which: str = "best") -> Path:
    """Write network `which` of a run to the ONNX file `out` and return its path.

    The graph takes "image" (B, 3, H, W), RGB in 0..1, of the run's input size and any B. It returns "heatmap"
    (B, K, h, w). The file's metadata names the keypoints, input size and stride. Raises SemiposeError when
    onnxruntime and torch disagree by more than 1e-4; nothing is written then.
    """
    _need_extra()
    out = Path(out)
    if out.suffix != ".onnx":
        raise UsageError(f"--out {out}: expected a file name that ends in .onnx.")
    model = as_model(run, which)
    model.kind.check_export(model.network_name)
    network = Heatmaps(model.network).cpu().eval()
    graph = _trace(network, model.input_size)
    _describe(graph, model)
    data = graph.SerializeToString()
    check_export(network, data, model.input_size)
    with replacing(out) as temporary:
        temporary.write_bytes(data)
    return out


def check_export(network: nn.Module, data: bytes, size: tuple[int, int]) -> float:
    """Return the largest difference between the ONNX model `data` and `network` on noise of `size` (H, W) px.

    Raises SemiposeError if it is above `TOLERANCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in CHECKED_BATCHES:
        image = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = network(image).numpy()
        found = session.run(None, {"image": image.numpy()})[0]
        if found.shape != expected.shape:
            raise SemiposeError(
                f"the exported network gives maps {found.shape} for {batch} images, the original "
                f"{expected.shape}; {_REMEDY}"
            )
        worst = max(worst, float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max()))))
    if not worst <= TOLERANCE:
        raise SemiposeError(
            f"the exported network differs from the original by {worst:.2g} of a peak's height, "
            f"at most {TOLERANCE:g} is accepted; {_REMEDY}"
        )
    return worst


_REMEDY = "no file was written. Try other versions of torch, onnx and onnxruntime, and report it with their numbers."


def _need_extra() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            f"export needs the package {error.name!r}, which is not installed; "
            "install it with: pip install 'semipose[export]'"
        ) from error


def _trace(network: nn.Module, size: tuple[int, int]) -> Any:
    """Return the ONNX model of `network`, for any batch size."""
    # Two images: with one, torch.export takes the batch for a constant.
    example = torch.zeros(2, 3, *size)
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["heatmap"],
            dynamic_shapes=({0: "batch"},),
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress lines and warnings about its own parts; errors remain exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(graph: Any, model: Model) -> None:
    """Write what a program needs to use the file to the metadata of the ONNX model."""
    height, width = model.input_size
    facts = {
        "keypoints": json.dumps(model.skeleton.keypoints),
        "bones": json.dumps(model.skeleton.bones),
        "flip": json.dumps(model.skeleton.flip),
        "input_size": json.dumps([height, width]),
        "stride": str(model.network.stride),
        "input": "image (B, 3, H, W) float32, RGB in 0..1",
        "output": f"heatmap (B, {len(model.skeleton)}, H / {model.network.stride}, W / {model.network.stride}); "
        "map cell i lies at input pixel stride * i + (stride - 1) / 2",
        "network": json.dumps(model.network.config),
        "checkpoint": f"{model.name}, update {model.update}",
    }
    for key, value in facts.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
