"""Several networks used as one, saved and read like one."""

from pathlib import Path

import pytest
import torch

from semipose.errors import DataError
from semipose.inference.model import Model
from semipose.networks.ensemble import Ensemble
from semipose.system.tensor_file import save
from tests.people import SIZE, SKELETON, builder


def record(config: object) -> dict[str, object]:
    return {"network": config, "skeleton": SKELETON.to_dict(), "input_size": list(SIZE), "name": "average", "update": 1}


def test_a_saved_ensemble_is_read_back_and_answers_the_same(tmp_path: Path) -> None:
    build = builder()
    ensemble = Ensemble([build("student"), build("peer")]).eval()
    save(tmp_path / "best-average.safetensors", ensemble.state_dict(), record(ensemble.config))
    read = Model.load(tmp_path / "best-average.safetensors").network
    image = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(read(image)["heatmap"].maps, ensemble(image)["heatmap"].maps)


@pytest.mark.parametrize("members", [0, 9])
def test_an_impossible_number_of_members_is_refused(members: int, tmp_path: Path) -> None:
    config = {"members": [builder()("student").config] * members}
    save(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, record(config))
    with pytest.raises(DataError, match="ensemble"):
        Model.load(tmp_path / "a.safetensors")


def test_an_ensemble_within_an_ensemble_is_refused(tmp_path: Path) -> None:
    config = {"members": [{"members": [builder()("student").config]}]}
    save(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, record(config))
    with pytest.raises(DataError, match="cannot be used"):
        Model.load(tmp_path / "a.safetensors")


def test_after_an_evaluation_each_member_is_back_in_the_mode_it_had() -> None:
    build = builder()
    trained, averaged = build("student").train(), build("peer").eval()
    ensemble = Ensemble([trained, averaged])
    assert (ensemble.training, trained.training, averaged.training) == (True, True, False)
    ensemble.eval()
    assert not trained.training
    ensemble.train(True)
    assert (trained.head.training, averaged.head.training) == (True, False)
