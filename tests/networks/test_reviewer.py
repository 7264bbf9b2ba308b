"""The reviewer's three rules: the reference tests T-R1 to T-R3, the gate, and its state."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from semipose.networks.ema import Ema
from semipose.networks.reviewer import Reviewer, Rule

WARM = 10**9  # updates after which the warm-up plays no part
RULES: list[Rule] = ["average", "snapshot", "best"]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def fill(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(value)


def value(module: nn.Module) -> float:
    """The one value of all floating weights and statistics."""
    found = torch.cat([tensor.flatten() for tensor in module.state_dict().values() if tensor.is_floating_point()])
    assert found.max() - found.min() < 1e-5
    return float(found.mean())


def test_tr1_the_average_of_a_constant_network_nears_it_geometrically_statistics_included() -> None:
    source = network()
    fill(source, 0.0)
    reviewer = Reviewer(source, "average", 0.999)
    reviewer.updates.fill_(WARM)
    fill(reviewer.network, 1.0)
    for update in range(1000):
        reviewer.review(source, update)
    assert value(reviewer.network) == pytest.approx(0.367695, abs=1e-4)
    assert not any(p.requires_grad for p in reviewer.parameters())


@pytest.mark.parametrize(("teacher_first", "expected"), [(True, 0.264609), (False, 0.264241)])
def test_tr2_an_average_of_an_average_tells_which_moved_first(teacher_first: bool, expected: float) -> None:
    source = network()
    fill(source, 0.0)
    teacher = Ema(source, 0.999)
    reviewer = Reviewer(teacher.network, "average", 0.999)
    for copy in (teacher, reviewer):
        copy.updates.fill_(WARM)
    fill(source, 1.0)
    for update in range(1000):
        steps = [lambda: teacher.update(source), lambda update=update: reviewer.review(teacher.network, update)]
        for step in steps if teacher_first else reversed(steps):
            step()
    assert value(teacher.network) == pytest.approx(0.632305, abs=1e-4)
    assert value(reviewer.network) == pytest.approx(expected, abs=4e-5)


def test_tr3_a_snapshot_is_the_network_at_the_end_of_the_last_period() -> None:
    source = network()
    fill(source, -1.0)
    reviewer, found = every(3, Reviewer(source, "snapshot")), []
    for update in range(8):
        fill(source, update)
        reviewer.review(source, update)
        found.append(value(reviewer.network))
    assert found == [-1, -1, 2, 2, 2, 5, 5, 5]


def test_the_best_one_stays_until_a_better_one_is_told() -> None:
    source = network()
    fill(source, -1.0)
    reviewer, found = Reviewer(source, "best"), []
    for update in range(6):
        fill(source, update)
        reviewer.review(source, update)
        if update in (1, 4):
            reviewer.found_best(source)
        found.append(value(reviewer.network))
    assert found == [-1, 1, 1, 1, 4, 4]


@pytest.mark.parametrize("rule", ["average", "snapshot"])
def test_the_best_on_validation_means_nothing_to_the_other_rules(rule: Rule) -> None:
    source = network()
    fill(source, 1.0)
    reviewer = Reviewer(source, rule, 0.9)
    fill(source, 2.0)
    reviewer.found_best(source)
    assert value(reviewer.network) == 1.0


@pytest.mark.parametrize("rule", RULES)
def test_a_bad_step_changes_nothing(rule: Rule) -> None:
    source = network()
    reviewer = Reviewer(source, rule, 0.9)
    before = deepcopy(reviewer.state_dict())
    fill(source, torch.nan)
    reviewer.review(source, 0, torch.zeros(()))
    assert same(reviewer.state_dict(), before)
    assert reviewer.ready == 0


def test_it_is_ready_once_it_has_followed() -> None:
    source, ready = network(), []
    for rule in RULES:
        reviewer = every(2, Reviewer(source, rule))
        reviewer.review(source, 0, torch.ones(()))
        ready.append(reviewer.ready.item())
        reviewer.review(source, 1)
        reviewer.found_best(source)
        assert reviewer.ready == 1
    assert ready == [1, 0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_one_that_was_saved_goes_on_as_if_nothing_had_happened(rule: Rule) -> None:
    source = network()
    fill(source, 0.0)
    whole = every(3, Reviewer(source, rule, 0.9))

    def go(reviewer: Reviewer[nn.Sequential], updates: range) -> None:
        for update in updates:
            fill(source, update)
            reviewer.review(source, update)
            if update == 2:
                reviewer.found_best(source)

    go(whole, range(4))
    resumed = every(3, Reviewer(network(), rule, 0.9))
    resumed.load_state_dict(whole.state_dict())
    go(whole, range(4, 7))
    go(resumed, range(4, 7))
    assert same(whole.state_dict(), resumed.state_dict())
    assert resumed.ready == 1


def test_the_length_of_the_run_sets_decay_and_period() -> None:
    average, snapshot = (Reviewer(network(), rule) for rule in ("average", "snapshot"))
    for reviewer in (average, snapshot):
        reviewer.prepare(1000)
    assert (average.decay, snapshot.decay, snapshot.period) == (0.95, 0.0, 50)
    given = Reviewer(network(), "average", 0.7, share=0.0)
    given.prepare(1000)
    assert (given.decay, given.period) == (0.7, 1)


def every(period: int, reviewer: Reviewer) -> Reviewer:
    """A reviewer with a period of so many updates."""
    reviewer.period = period
    return reviewer


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
