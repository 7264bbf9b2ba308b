"""torchvision beside CPU torch: it imports, is left alone where it works, and other faults are passed on."""

import subprocess
import sys

import pytest
import torch

from semipose.networks import torchvision_loader
from tests.networks.named import needs_timm


@needs_timm
@pytest.mark.slow
def test_torchvision_and_timm_import_afterwards_and_nothing_else_loads_them() -> None:
    code = """
import sys, semipose, semipose.networks.build, semipose.networks.weights, semipose.engine.setup
assert not {"timm", "torchvision"} & set(sys.modules), "loaded too early"
from semipose.networks.torchvision_loader import load_torchvision
load_torchvision()
import gc, timm, torch, torchvision.transforms
gc.collect()
torch.ops.torchvision.nms
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_torchvision_that_imports_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_loader, "import_module", lambda name: None)
    monkeypatch.setattr(torch.library, "Library", None)  # to use it would fail
    torchvision_loader.load_torchvision()


@pytest.mark.parametrize("error", [RuntimeError("CUDA versions differ"), ModuleNotFoundError("no torchvision")])
def test_other_faults_of_its_import_are_passed_on(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(name: str) -> None:
        raise error

    monkeypatch.setattr(torchvision_loader, "import_module", broken)
    monkeypatch.setattr(torch.library, "Library", None)
    with pytest.raises(type(error), match=str(error)):
        torchvision_loader.load_torchvision()
