"""What every method must keep, over every file in semipose/methods and one from elsewhere.

The slips these catch were published: Mean Teacher comparing the teacher with itself (USB #102, #226), an average that
ignores BatchNorm statistics (U2PL #64), a checkpoint without the teacher (YOLOX #1318).
"""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semipose import methods
from semipose.config.settings import Settings
from semipose.engine.checkpoint import load_training, save_training
from semipose.engine.trainer import make_optimizer
from semipose.losses.heatmap import heatmap_loss
from semipose.methods.method import Method, Progress, Step
from semipose.views.view import Batch
from tests.people import SIZE, SKELETON
from tests.whole import batch_of, builder_of, kinds

THIRD_PARTY = "tests.contract.third_party:TwoViews"
KINDS = [*kinds(), THIRD_PARTY]


def marked(names: list[str]) -> list[Any]:
    """Kinds as parameters; of those for detector-free networks one is in the quick suite, the others are slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if "@" in name and name != "instance_pseudo_label@cid" else ())
        for name in names
    ]


ALL = marked(KINDS)
SEMI = marked([name for name in KINDS if methods.load(name.partition("@")[0]).uses_unlabeled])
LATE = Progress(900, 1000)


def make(name: str, **options: object) -> Method:
    torch.manual_seed(0)
    method: Method = methods.load(name.partition("@")[0])(builder_of(name), SKELETON, **options)
    method.prepare(1000)
    method.train()
    return method


def train(name: str, method: Method, optimizer: torch.optim.Optimizer, updates: range) -> None:
    # From the middle of a run on, when all parts of a method are at work.
    for update in range(500 + updates.start, 500 + updates.stop):
        step: Step = method(batch_of(name, update), Progress(update, 1000))
        torch.stack(list(step.losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(Progress(update, 1000, torch.ones(())))


@pytest.mark.parametrize("name", ALL)
def test_losses_are_named_finite_scalars_and_signals_carry_no_graph(name: str) -> None:
    step = make(name)(batch_of(name), LATE)
    assert "labeled" in step.losses
    for loss in step.losses.values():
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert loss.requires_grad
    for signal in step.signals.values():
        assert signal.shape == ()
        assert not signal.requires_grad
    silent = make(name)(batch_of(name), replace(LATE, logged=False))
    assert silent.losses == step.losses
    assert silent.signals == {} or silent.signals == step.signals


@pytest.mark.parametrize("name", SEMI)
def test_the_unlabeled_loss_moves_the_student(name: str) -> None:
    method = make(name)
    step = method(batch_of(name), LATE)
    unlabeled = [loss for term, loss in step.losses.items() if term != "labeled"]
    torch.stack(unlabeled).sum().backward()
    moved = [
        p.numel()
        for where, p in method.named_parameters()
        if ".backbone." in where and p.grad is not None and p.grad.abs().max() > 0
    ]
    assert sum(moved) > 0.9 * sum(p.numel() for p in next(iter(method.networks().values())).backbone.parameters())


@pytest.mark.parametrize("name", SEMI)
def test_the_unlabeled_pixels_change_the_students_gradient(name: str) -> None:
    """A method that quietly trains on labels alone would pass every other test."""

    def gradient(unlabeled_update: int) -> torch.Tensor:
        method = make(name)
        first, other = batch_of(name), batch_of(name, unlabeled_update)
        both = Batch(first.labeled, replace(other.unlabeled, random=first.unlabeled.random))
        torch.stack(list(method(both, LATE).losses.values())).sum().backward()
        return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])

    assert not torch.allclose(gradient(0), gradient(1), rtol=1e-3, atol=0)
    assert torch.equal(gradient(0), gradient(0))


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_reaches_a_teacher_and_every_trained_weight_gets_one(name: str) -> None:
    method = make(name)
    torch.stack(list(method(batch_of(name), LATE).losses.values())).sum().backward()
    for parameter_name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name


@pytest.mark.parametrize(
    "name", marked([name for name in KINDS if "@" not in name and methods.load(name).uses_unlabeled])
)
def test_targets_are_constants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def spy(predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append(target)
        return heatmap_loss(predicted, target, weight)

    monkeypatch.setattr("semipose.losses.heatmap.heatmap_loss", spy)
    make(name)(batch_of(name), LATE)
    assert len(seen) >= 2
    assert not any(target.requires_grad for target in seen)


@pytest.mark.parametrize("name", ALL)
def test_the_step_reads_no_label_of_unlabeled_people(name: str) -> None:
    assert batch_of(name).unlabeled.keypoints is None
    clean = batch_of(name)
    corrupted = replace(
        clean.unlabeled,
        keypoints=torch.full((4, len(SKELETON), 2), torch.nan),
        visible=torch.full((4, len(SKELETON)), 2),
    )
    first = make(name)(clean, LATE).losses
    second = make(name)(Batch(clean.labeled, corrupted), LATE).losses
    assert all(torch.equal(first[term], second[term]) for term in first)


@pytest.mark.parametrize("name", ALL)
def test_a_resumed_run_equals_one_never_interrupted(name: str, tmp_path: Path) -> None:
    whole, settings = make(name), Settings()
    optimizer = make_optimizer(whole, settings)
    train(name, whole, optimizer, range(2))
    save_training(tmp_path / "last.safetensors", whole, optimizer, {"update": 2})
    train(name, whole, optimizer, range(2, 4))

    fresh = methods.load(name.partition("@")[0])(builder_of(name, seed=99), SKELETON)
    fresh.prepare(1000)
    fresh.train()
    optimizer = make_optimizer(fresh, settings)
    assert load_training(tmp_path / "last.safetensors", fresh, optimizer) == {"update": 2}
    train(name, fresh, optimizer, range(2, 4))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.parametrize("name", ALL)
def test_an_update_that_was_not_finite_moves_no_teacher(name: str) -> None:
    method = make(name)
    optimizer = make_optimizer(method, Settings())
    train(name, method, optimizer, range(1))
    averaged = [key for key in method.state_dict() if not key.startswith(tuple(trained_roots(method)))]
    before = deepcopy({key: method.state_dict()[key] for key in averaged})
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.fill_(torch.nan)
    method.after_update(Progress(1, 1000, healthy=torch.zeros(())))
    for key, value in before.items():
        assert torch.equal(value, method.state_dict()[key]), key


def trained_roots(method: Method) -> set[str]:
    return {name.split(".")[0] for name, parameter in method.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", ALL)
def test_networks_are_of_the_skeleton_and_one_of_them_is_deployed(name: str) -> None:
    method = make(name)
    networks = method.networks()
    assert method.deployed is None or method.deployed in networks
    for network in networks.values():
        with torch.no_grad():
            fields = network.eval()(torch.rand(2, 3, *SIZE))
        assert fields["heatmap"].maps.shape == (2, len(SKELETON), SIZE[0] // 4, SIZE[1] // 4)


@pytest.mark.parametrize("name", ALL)
def test_it_works_without_unlabeled_crops_and_under_bf16(name: str) -> None:
    alone = Batch(batch_of(name).labeled, None)
    with torch.autocast("cpu", torch.bfloat16):
        losses = make(name)(alone, LATE).losses
    assert set(losses) == {"labeled"}
    with torch.autocast("cpu", torch.bfloat16):
        losses = make(name)(batch_of(name), LATE).losses
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize("name", methods.available())
def test_the_docstring_states_the_teacher_rules(name: str) -> None:
    text = methods.describe(name).docstring
    for rule in ("Teacher BatchNorm:", "EMA", "Deployed:"):
        assert rule in text, f"{name}: the class docstring does not say {rule!r}"
