"""MultiAugs: every path learns one target, losses add up, a pair teaches crosswise (T11 and T13 of the spec)."""

import pytest
import torch
from torch import nn

from semipose.errors import UsageError
from semipose.fields import Field, Fields
from semipose.methods.method import Progress
from semipose.methods.multi_augs import MultiAugs
from semipose.views.paths import PATHS
from tests.methods.test_pose_dual import Constant
from tests.people import SKELETON, batch, builder

NOW = Progress(0, 10)


def constants(first: float, second: float | None = None, **options: object) -> tuple[MultiAugs, list[Constant]]:
    networks = {"student": Constant(first, (5, 8)), "peer": Constant(second or 0.0, (10, 8))}
    options = {"ramp": 0.0, "dual": second is not None, **options}
    method = MultiAugs(lambda role: networks[role], SKELETON, **options)  # type: ignore[arg-type, return-value]
    return method, list(networks.values())


def gradient(method: nn.Module) -> list[torch.Tensor]:
    method.zero_grad()
    torch.stack(list(method(batch(), NOW).losses.values())).sum().backward()
    return [p.grad.clone() for p in method.parameters() if p.grad is not None]


def test_every_path_has_a_loss_and_they_are_added_not_averaged() -> None:
    def losses(paths: str) -> dict[str, torch.Tensor]:
        method, (network, _) = constants(0.4, paths=paths)

        def forward(image: torch.Tensor) -> Fields:
            maps = torch.full((len(image), len(SKELETON), 16, 16), 0.1 if torch.is_grad_enabled() else 0.0)
            return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)})

        network.forward = forward  # type: ignore[method-assign]
        return method(batch(), NOW).losses

    many, one = losses("joco, jccm,cutout,cutout"), losses("joco")
    assert list(many) == ["labeled", "joco", "jccm", "cutout"]
    assert one["joco"] > 0
    torch.testing.assert_close(many["joco"], one["joco"])
    torch.testing.assert_close(many["cutout"], 2 * one["joco"])


def test_all_paths_see_the_same_strong_view_each_in_its_own_way() -> None:
    method, (network, _) = constants(0.2, paths=",".join(PATHS))
    both = batch()
    strong = both.unlabeled.strong(both.unlabeled.weak()).image
    method(both, NOW)
    hard = network.seen[2:]
    assert len(hard) == len(PATHS)
    for name, image in zip(PATHS, hard, strict=True):
        same = (image - strong).abs().amax(1) < 1e-6
        assert not same.all(), name
        if name in ("cutout", "cutmix", "joint_cutout", "joint_cut_occlude", "joco", "jccm"):
            assert same.float().mean() > 0.4, name
    for number, image in enumerate(hard):
        assert all(not torch.equal(image, other) for other in hard[:number])


def test_a_pair_teaches_crosswise_and_halves_the_labeled_loss() -> None:
    method, (first, second) = constants(0.2, 0.6)
    losses = method(batch(), NOW).losses
    assert list(losses) == ["labeled", "joco_second", "jccm_second", "joco_first", "jccm_first"]
    sum(loss for name, loss in losses.items() if name != "labeled").backward()
    assert first.value.grad < 0 < second.value.grad  # type: ignore[operator]
    one = constants(0.4)[0](batch(), NOW).losses["labeled"]
    other = constants(0.0)[0](batch(), NOW).losses["labeled"]
    shared = constants(0.4, 0.0)[0](batch(), NOW).losses["labeled"]
    torch.testing.assert_close(shared, (one + other) / 2)


def test_a_network_learns_from_the_other_alone() -> None:
    method, (first, second) = constants(0.2, 0.6)
    losses = method(batch(), NOW).losses
    (losses["joco_first"] + losses["jccm_first"]).backward()
    assert first.value.grad is not None
    assert second.value.grad is None


@pytest.mark.parametrize("dual", [False, True])
def test_computing_passes_again_gives_the_same_gradients_and_statistics(dual: bool) -> None:
    found = []
    for recompute in (False, True):
        method = MultiAugs(builder(), SKELETON, ramp=0.0, dual=dual, recompute=recompute).train()
        method.load_state_dict(MultiAugs(builder(), SKELETON, dual=dual).state_dict())
        found.append((gradient(method), method.state_dict()))
    for kept, again in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(kept, again)
    for kept, again in zip(found[0][1].values(), found[1][1].values(), strict=True):
        assert torch.equal(kept, again)


def test_the_weight_grows_from_nothing_over_the_ramp() -> None:
    method = MultiAugs(builder(), SKELETON, ramp=0.5)
    assert method(batch(), Progress(0, 10)).losses["joco"] == 0
    assert method(batch(), Progress(3, 10)).losses["joco"] > 0


def test_one_network_or_a_pair_and_its_average_can_be_deployed() -> None:
    assert list(MultiAugs(builder(), SKELETON).networks()) == ["first"]
    assert list(MultiAugs(builder(), SKELETON, dual=True).networks()) == ["first", "second", "average"]


def test_an_unknown_path_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no path 'joko'.*joco.*yoco"):
        MultiAugs(builder(), SKELETON, paths="jccm,joko")
