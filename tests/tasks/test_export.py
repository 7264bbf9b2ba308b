"""The exported file answers as the network does, or there is no file."""

import builtins
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.errors import SemiposeError, UsageError
from semipose.inference.model import Model
from semipose.networks.build import build_network
from semipose.runs.run import Run
from semipose.tasks.export import Heatmaps, check_export, export
from tests.finished_run import SIZE, SKELETON

pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("onnxscript", reason="needs the extra `export`")


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Run(finished), tmp_path_factory.mktemp("export") / "pose.onnx")


def test_the_file_takes_any_batch_and_agrees(exported: Path, run: Run) -> None:
    network = Heatmaps(run.model().network)
    assert check_export(network, exported.read_bytes(), SIZE) < 1e-5
    import onnxruntime

    session = onnxruntime.InferenceSession(exported)
    image = torch.rand(5, 3, *SIZE)
    with torch.no_grad():
        expected = network(image).numpy()
    assert np.allclose(session.run(["heatmap"], {"image": image.numpy()})[0], expected, atol=1e-4)


@pytest.mark.slow
def test_a_network_with_the_multi_scale_head_is_exported(tmp_path: Path) -> None:
    network = build_network("mobilenet_v1", SKELETON, width=0.125, head="multi_scale", head_channels=8).eval()
    file = export(Model(network, SKELETON, SIZE), tmp_path / "pose.onnx")
    assert check_export(Heatmaps(network), file.read_bytes(), SIZE) < 1e-5


def test_the_file_says_how_to_use_it(exported: Path) -> None:
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(facts["keypoints"]) == list(SKELETON.keypoints)
    assert json.loads(facts["input_size"]) == list(SIZE)
    assert facts["stride"] == "4"


def test_a_network_that_differs_is_refused(exported: Path, run: Run) -> None:
    network = run.model().network
    with torch.no_grad():
        next(network.head.parameters()).mul_(1.01)
    with pytest.raises(SemiposeError, match="differs from the original"):
        check_export(Heatmaps(network), exported.read_bytes(), SIZE)


def test_a_disagreement_leaves_no_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Path
) -> None:
    import onnx

    def other_network(*_: object) -> onnx.ModelProto:
        model = onnx.load(exported)
        weight = next(entry for entry in model.graph.initializer if len(entry.dims) == 4)
        weight.raw_data = np.zeros(weight.dims, np.float32).tobytes()
        return model

    monkeypatch.setattr("semipose.tasks.export._trace", other_network)
    with pytest.raises(SemiposeError, match="no file was written"):
        export(run, tmp_path / "pose.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_endings_and_a_missing_extra_are_usage_errors(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export(run, tmp_path / "pose.pt")
    real = builtins.__import__

    def without_onnx(name: str, *args: object, **options: object) -> object:
        if name == "onnxruntime":
            raise ModuleNotFoundError("no", name=name)
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(UsageError, match=r"semipose\[export\]"):
        export(run, tmp_path / "pose.onnx")
