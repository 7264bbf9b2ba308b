"""Averaged copies: the reference tests E1 to E6 of EMAN, the gate, and resuming."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.operators import Operators
from semipose.networks.build import build_network
from semipose.networks.ema import Ema, ema_decay
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS

WARM = 10**9  # updates after which the warm-up plays no part


def small(seed: int = 0, name: str = "mobilenet_v1") -> PoseNetwork:
    """A network whose batch norm statistics are not those of birth."""
    network = build_network(name, PRESETS["lsp_14"], width=0.25, head_channels=8, seed=seed)
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    for _ in range(seed + 1):
        network(image)
    return network


def warmed(network: nn.Module, decay: float) -> Ema:
    ema = Ema(network, decay)
    ema.updates.fill_(WARM)
    return ema


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


@pytest.mark.parametrize("gate", [None, torch.tensor(True)])
def test_e1_decay_0_copies_weights_batch_norm_statistics_and_counters(gate: Tensor | None) -> None:
    ema, student = warmed(small(0), 0.0), small(3)
    before = state_of(student)
    ema.update(student, gate)
    assert_same(state_of(ema.network), before)
    assert_same(state_of(student), before)


def test_e1_decay_1_changes_nothing_but_the_counters() -> None:
    ema, student = warmed(small(0), 1.0), small(3)
    before = state_of(ema.network)
    ema.update(student)
    after = state_of(ema.network)
    for name in before:
        if before[name].is_floating_point():
            # What is left of the warm-up: the share 1e-9.
            torch.testing.assert_close(after[name], before[name], atol=1e-7, rtol=0)


def test_e2_a_difference_of_1_shrinks_by_the_decay_in_weights_and_in_statistics() -> None:
    student = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    ema = warmed(student, 0.999)
    with torch.no_grad():
        for name, value in ema.network.state_dict().items():
            if value.is_floating_point():
                value.copy_(student.state_dict()[name] + 1)
    for _ in range(1000):
        ema.update(student)
    for name, value in ema.network.state_dict().items():
        if value.is_floating_point():
            difference = value - student.state_dict()[name]
            torch.testing.assert_close(difference, torch.full_like(value, 0.367695), atol=1e-4, rtol=0)


def test_e3_the_answer_to_an_image_does_not_depend_on_the_others_in_the_batch() -> None:
    network = small(2)
    ema, images = Ema(network, 0.9), torch.rand(4, 3, 64, 64)
    ema.train()
    before = state_of(ema)
    together, alone = ema(images)["heatmap"].maps, ema(images[:1])["heatmap"].maps
    scale = together.abs().max()
    assert (together[:1] - alone).abs().max() < 1e-5 * scale
    assert_same(state_of(ema), before)
    # The same network in train mode violates both.
    with torch.no_grad():
        together, alone = network.train()(images)["heatmap"].maps, network(images[:1])["heatmap"].maps
    assert (together[:1] - alone).abs().max() > 1e-2 * together.abs().max()


def test_e4_counters_follow_and_stay_integer_and_the_student_never_reaches_the_copy() -> None:
    student = small(0)
    ema = Ema(student, 0.9)
    before = state_of(ema)
    student(torch.rand(2, 3, 32, 32))["heatmap"].maps.square().sum().backward()
    assert_same(state_of(ema), before)
    assert not any(p.requires_grad or p.grad is not None for p in ema.parameters())
    ema.update(student)
    for name, value in student.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert ema.network.state_dict()[name].dtype == torch.int64
            assert torch.equal(ema.network.state_dict()[name], value)


def test_e5_averaging_parameters_alone_differs_exactly_in_the_statistics() -> None:
    teacher, student = small(0), small(3)
    ema, plain = warmed(teacher, 0.9), copy.deepcopy(teacher)
    ema.update(student)
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), student.parameters(), strict=True):
            ours.lerp_(theirs, 0.1)
    eman, parameters_only = state_of(ema.network), state_of(plain)
    far = {n for n in eman if not torch.allclose(eman[n].float(), parameters_only[n].float(), atol=1e-6)}
    assert far == {name for name, _ in teacher.named_buffers() if name in eman}


def test_e5_without_statistics_the_weights_follow_alike_and_the_buffers_are_the_copys_own() -> None:
    teacher, student = small(0), small(3)
    eman, own = warmed(teacher, 0.9), Ema(teacher, 0.9, statistics=False)
    own.updates.fill_(WARM)
    before = state_of(own.network)
    for ema in (eman, own):
        ema.update(student, torch.tensor(True))
    buffers = {name for name, _ in teacher.named_buffers()} & before.keys()
    after = state_of(own.network)
    assert_same({name: after[name] for name in after if name in buffers}, {name: before[name] for name in buffers})
    weights = state_of(eman.network)
    assert_same({n: after[n] for n in after if n not in buffers}, {n: weights[n] for n in weights if n not in buffers})
    # In train mode the copy uses its batch's statistics and learns them; in eval mode it keeps them.
    own(torch.rand(2, 3, 32, 32))
    assert not torch.equal(own.network.backbone.stem.bn.running_mean, before["backbone.stem.bn.running_mean"])
    kept = state_of(own.eval())
    own(torch.rand(2, 3, 32, 32))
    assert_same(state_of(own), kept)
    assert own.train().network.training
    assert not eman.train().network.training


def test_e5_statistics_equal_to_the_students_stay_exactly_equal() -> None:
    student = small(3)
    ema = warmed(student, 0.9)
    for _ in range(20):
        ema.update(student)
    assert_same(state_of(ema.network), state_of(student))


@pytest.mark.parametrize(("updates", "share"), [(0, 1.0), (1, 0.5), (4, 0.2), (999, 0.001), (WARM, 0.001)])
def test_e6_the_decay_warms_up_as_1_minus_1_over_t_plus_1(updates: int, share: float) -> None:
    student = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(student.weight)
    ema = Ema(student, 0.999)
    ema.updates.fill_(updates)
    nn.init.ones_(student.weight)
    ema.update(student)
    assert ema.network.weight.item() == pytest.approx(share, rel=1e-5)


def broken(network: nn.Module) -> nn.Module:
    """The network with NaN and infinity in every parameter and statistic."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.fill_(7 if not value.is_floating_point() else float("inf" if "mean" in name else "nan"))
    return network


@pytest.mark.parametrize("updates", [0, 3, WARM])
@pytest.mark.parametrize("gate", [torch.tensor(False), torch.tensor(0.0), torch.tensor([0])])
def test_a_shut_gate_changes_nothing_even_when_the_student_is_broken(gate: Tensor, updates: int) -> None:
    ema = Ema(small(1), 0.99)
    ema.updates.fill_(updates)
    before = state_of(ema)
    ema.update(broken(small(3)), gate)
    assert_same(state_of(ema), before)


@pytest.mark.parametrize("gate", [torch.tensor(True), torch.tensor(1.0)])
def test_an_open_gate_is_as_no_gate(gate: Tensor) -> None:
    gated, plain = Ema(small(1), 0.9), Ema(small(1), 0.9)
    for seed in (2, 3, 4):
        gated.update(small(seed), gate)
        plain.update(small(seed))
    assert_same(state_of(gated), state_of(plain))
    assert gated.updates.item() == 3


def test_resuming_from_the_state_goes_on_exactly() -> None:
    ema = Ema(small(0), 0.9)
    ema.update(small(1))
    ema.update(small(2))
    again = Ema(small(5), 0.9)
    again.load_state_dict(ema.state_dict(), strict=True)
    for copied in (ema, again):
        copied.update(small(3))
    assert_same(state_of(again), state_of(ema))
    assert again.updates.item() == 3


def test_a_student_in_another_memory_format_is_followed_all_the_same() -> None:
    student = small(3, "resnet18")
    expected = warmed(small(0, "resnet18"), 0.9)
    expected.update(student)
    ema = warmed(small(0, "resnet18"), 0.9)
    ema.update(student.to(memory_format=torch.channels_last), torch.tensor(True))
    assert_same(state_of(ema.network), state_of(expected.network))


@pytest.mark.gpu
def test_on_a_gpu_an_update_waits_for_nothing_and_the_gate_holds() -> None:
    network = small(0, "resnet18").to("cuda", memory_format=torch.channels_last)
    student = small(3, "resnet18").to("cuda", memory_format=torch.channels_last)
    ema, bad = warmed(network, 0.9), broken(student)
    before = state_of(ema)
    shut, opened = torch.tensor(False, device="cuda"), torch.tensor(True, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        ema.update(bad, shut)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same(state_of(ema), before)
    ema.update(student, opened)
    expected = warmed(small(0, "resnet18"), 0.9)
    expected.update(small(3, "resnet18"))
    for name, value in expected.network.state_dict().items():
        torch.testing.assert_close(ema.network.state_dict()[name].cpu(), value)


def test_an_update_reads_nothing_back() -> None:
    student = small(3)
    ema = Ema(student, 0.9)
    with Operators() as seen:
        ema.update(student, torch.tensor(True))
    assert seen.blocking == []


@pytest.mark.parametrize(
    ("updates", "decay"),
    [(3000, 1 - 1 / 60), (50_000, 0.999), (10**7, 0.999), (100, 0.5), (50, 0), (10, 0), (1, 0), (0, 0)],
)
def test_the_decay_follows_the_length_of_the_run(updates: int, decay: float) -> None:
    assert ema_decay(updates) == pytest.approx(decay)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_that_is_no_share_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        Ema(nn.Linear(1, 1), decay)
