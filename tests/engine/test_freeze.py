"""Frozen stages and the multi-scale head in training: what stays, what learns, and that resuming is exact."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from semipose import methods
from semipose.config.settings import Settings
from semipose.engine.setup import make_method
from semipose.engine.trainer import Trainer
from semipose.errors import UsageError
from semipose.inference.model import Model
from semipose.methods.method import Method
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS
from semipose.system import processes
from tests import ranks, training
from tests.people import SKELETON

CHANGES = {"head": "multi_scale", "freeze": 2}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose statistics are not those of birth."""
    return write_weights(tmp_path_factory.mktemp("weights") / "backbone.safetensors")


def write_weights(file: Path, lacking: str = "none") -> Path:
    network = build_network("mobilenet_v1", PRESETS["coco_17"], width=0.125, seed=5)
    network(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    save_file({name: value for name, value in network.backbone.state_dict().items() if lacking not in name}, file)
    return file


def frozen(network: PoseNetwork) -> dict[str, Tensor]:
    """Weights, statistics and counters of the frozen stages: the stem and the blocks of strides 4 and 8."""
    names = [f"blocks.{number}." for number in range(5)] + ["stem."]
    return {name: value for name, value in network.backbone.state_dict().items() if name.startswith(tuple(names))}


def networks(method: Method) -> list[PoseNetwork]:
    """All networks of a method, also those that are not evaluated."""
    return [part for part in method.modules() if isinstance(part, PoseNetwork)]


@pytest.mark.parametrize("name", methods.methods_for("mobilenet_v1"))
def test_frozen_stages_stay_as_loaded_and_the_rest_learns(
    name: str, people: Path, weights: Path, tmp_path: Path
) -> None:
    trainer = training.trainer(people, tmp_path, method=name, weights=weights, **CHANGES)
    loaded = load_file(weights)
    before = [{key: value.clone() for key, value in net.state_dict().items()} for net in networks(trainer.method)]
    training.steps(trainer, 2)
    for network in networks(trainer.method):
        assert len(frozen(network)) == 66
        assert all(torch.equal(value, loaded[key]) for key, value in frozen(network).items())
    student, start = networks(trainer.method)[0], before[0]
    learned = student.state_dict()
    for key in ("head.neck.reduce.0.weight", "head.neck.bn.running_mean", "head.conv.weight", "head.final_layer.bias"):
        assert not torch.equal(learned[key], start[key]), key
    for key in ("backbone.blocks.5.dw.conv.weight", "backbone.blocks.12.pw.bn.running_var"):
        assert not torch.equal(learned[key], start[key]), key
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not optimized & {id(p) for network in networks(trainer.method) for p in early(network)}


def early(network: PoseNetwork) -> list[Tensor]:
    return [p for name, p in network.backbone.named_parameters() if name in frozen(network)]


def test_resuming_with_frozen_stages_is_exact(people: Path, weights: Path, tmp_path: Path) -> None:
    changes = {"weights": weights, "eval_every": 2, **CHANGES}
    whole = training.trainer(people, tmp_path / "whole", **changes)
    whole.run()
    first = training.trainer(people, tmp_path / "parts", **changes)
    first.end = 2
    first.run()
    second = training.trainer(people, tmp_path / "parts", **changes)
    second.run()
    assert second.update == 4
    expected, found = load_file(whole.checkpoint), load_file(second.checkpoint)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    file = tmp_path / "parts" / "checkpoints" / "best-teacher.safetensors"
    model = Model.load(file)
    assert model.network.config["head"] == "multi_scale"
    saved = load_file(file)
    assert all(torch.equal(value, saved[name]) for name, value in model.network.state_dict().items())


def test_a_nonfinite_update_leaves_the_rest_as_it_was(people: Path, weights: Path, tmp_path: Path) -> None:
    trainer = training.trainer(people, tmp_path, weights=weights, **CHANGES)
    training.steps(trainer, 1)
    before = training.digests(trainer)
    with torch.no_grad():
        bias = networks(trainer.method)[0].head.final_layer.bias
        kept = bias.clone()
        bias.fill_(torch.nan)
    training.steps(trainer, 1)
    with torch.no_grad():
        bias.copy_(kept)
    assert training.digests(trainer) == before


def distributed(people: Path, weights: Path, out: Path) -> dict[str, str]:
    with processes.group(training.CPU):
        trainer: Trainer = training.trainer(people, out, weights=weights, **CHANGES)
        training.steps(trainer, 2)
        return training.digests(trainer)


@pytest.mark.slow
def test_processes_agree_with_frozen_stages(people: Path, weights: Path, tmp_path: Path) -> None:
    first, second = ranks.together(distributed, people, weights, tmp_path)
    assert first == second


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (None, "--freeze 2 would keep random weights: 66 of 66 tensors"),
        ("blocks.4.pw.bn.running_mean", r"1 of 66 .* such as backbone.blocks.4.pw.bn.running_mean.* --weights"),
        ("blocks.9.pw.conv.weight", None),  # in a stage that trains
    ],
)
def test_stages_that_would_stay_random_are_not_frozen(tmp_path: Path, lacking: str | None, said: str | None) -> None:
    values: dict[str, Any] = {"method": "supervised", "network": "mobilenet_v1", "width": 0.125, "freeze": 2}
    if lacking:
        values["weights"] = write_weights(tmp_path / "part.safetensors", lacking)
    settings = Settings.from_values(values)
    if said is None:
        make_method(settings, {}, SKELETON, torch.device("cpu"))
        return
    with pytest.raises(UsageError, match=said):
        make_method(settings, {}, SKELETON, torch.device("cpu"))


def test_larger_teachers_get_the_head_where_they_can_and_are_not_frozen(weights: Path) -> None:
    values = {"method": "sspcm", "network": "mobilenet_v1", "width": 0.125, "weights": weights, **CHANGES}
    settings = Settings.from_values(values)
    for teacher, head in (("resnet18", "multi_scale"), ("hrnet_w32", None)):
        found = make_method(settings, {"teacher": teacher}, SKELETON, torch.device("cpu")).networks()
        assert found["student"].config["head"] == "multi_scale"
        assert found["first"].config.get("head") == head
        assert (found["student"].backbone.frozen, found["first"].backbone.frozen) == (2, 0)
