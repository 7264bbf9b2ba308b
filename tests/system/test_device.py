"""Choice of the device."""

import pytest
import torch

from semipose.errors import UsageError
from semipose.system import device


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(UsageError, match=f"--device {name}: torchrun started 2 .* --nproc-per-node 1"):
            device.choose_device(name)
    assert device.choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device._own_device("cuda") == "cuda:1"
