"""Files of torch that hold more than tensors: what MMPose writes is passed over, everything else refused unrun."""

import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from semipose.errors import DataError
from semipose.networks.weight_file import read_weights

STATE = OrderedDict({"backbone.conv1.weight": torch.arange(3.0)})
# What MMEngine knows of a data set.
FACTS = {
    "dataset_name": "coco",
    "num_keypoints": 17,
    "flip_pairs": [(1, 2)],
    "sigmas": np.array([0.026, 0.025], np.float32),
    "keypoint_colors": np.zeros((17, 3), np.uint8),
    "mean": np.float64(0.5),
    "names": np.array(["nose", None], object),
}


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def assert_read(path: Path) -> None:
    tensors = read_weights(path).tensors
    assert tensors.keys() == STATE.keys()
    assert torch.equal(tensors["backbone.conv1.weight"], STATE["backbone.conv1.weight"])


@pytest.mark.parametrize("protocol", [True, False])
def test_numpy_arrays_beside_the_weights_are_passed_over(tmp_path: Path, protocol: bool) -> None:
    meta = {"mmengine_version": "0.10.7", "seed": 3, "dataset_meta": FACTS}
    torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "hrnet.pth", _use_new_zipfile_serialization=protocol)
    assert_read(tmp_path / "hrnet.pth")


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_numpy_1_and_2_are_passed_over(tmp_path: Path, core: bytes) -> None:
    torch.save({"meta": FACTS, "state_dict": STATE}, tmp_path / "hrnet.pth", _use_new_zipfile_serialization=False)
    content, changed = re.subn(rb"numpy\._?core\.multiarray", core, (tmp_path / "hrnet.pth").read_bytes())
    assert changed == 2
    (tmp_path / "hrnet.pth").write_bytes(content)
    assert_read(tmp_path / "hrnet.pth")


def test_the_log_of_a_training_run_of_mmpose_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mmengine.logging.history_buffer")
    buffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    module.HistoryBuffer = buffer  # type: ignore[attr-defined]
    log = buffer()
    log._log_history = np.arange(3.0)
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        torch.save({"state_dict": STATE, "message_hub": {"loss": log}}, tmp_path / "epoch_210.pth")
    assert module.__name__ not in sys.modules
    assert_read(tmp_path / "epoch_210.pth")


def test_no_array_of_the_file_is_ever_made(tmp_path: Path) -> None:
    """One that claims a petabyte would fail."""
    make, _, _ = np.zeros(1).__reduce__()
    huge = Call(make, np.ndarray, (10**15,), b"b")
    torch.save({"state_dict": STATE, "huge": huge}, tmp_path / "huge.pth")
    assert_read(tmp_path / "huge.pth")


def test_reading_leaves_torchs_list_of_what_is_safe_as_it_was(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "meta": FACTS}, tmp_path / "hrnet.pth")
    assert_read(tmp_path / "hrnet.pth")
    assert not any("numpy" in str(entry) for entry in torch.serialization.get_safe_globals())


@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.mkdir, "{}", "posix.mkdir|nt.mkdir"),
        (eval, "__import__('os').mkdir('{}')", "eval"),
        (exec, "import os; os.mkdir('{}')", "exec"),
        (Path.mkdir, "{}", "getattr|pathlib"),
        (torch.load, "{}", "torch.serialization.load"),
    ],
)
@pytest.mark.parametrize("place", ["beside", "among", "in an array"])
def test_code_is_refused_by_its_name_and_not_run(
    tmp_path: Path, function: Any, argument: str, named: str, place: str
) -> None:
    sprung = tmp_path / "sprung"
    trap = Call(function, argument.format(sprung))
    file = {"state_dict": dict(STATE)}
    if place == "beside":
        file["meta"] = trap  # type: ignore[assignment]
    elif place == "among":
        file["state_dict"]["extra"] = trap  # type: ignore[assignment]
    else:
        file["meta"] = np.array([trap], object)  # type: ignore[assignment]
    torch.save(file, tmp_path / "evil.pth")
    with pytest.raises(DataError, match=rf"holds ({named})\S*, which is no tensor") as caught:
        read_weights(tmp_path / "evil.pth")
    assert not sprung.exists()
    assert "save the network alone, torch.save(model.state_dict()" in str(caught.value)
    assert "weights_only" not in str(caught.value)
