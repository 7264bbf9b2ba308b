"""Labels alone: the loss of every level, and what is left of the auxiliary heads."""

import pytest
import torch

from semipose.errors import UsageError
from semipose.losses.heatmap import heatmap_loss
from semipose.methods.method import Progress
from semipose.methods.supervised import Supervised
from semipose.networks.levels import MultiLevel
from tests.people import SKELETON, batch, builder
from tests.whole import builder_of

FIRST = Progress(0, 10)


def made(levels: tuple[float, float]) -> Supervised:
    return Supervised(builder(), SKELETON, levels=levels).train()


def test_the_loss_of_earlier_stages_is_added_by_their_shares() -> None:
    plain, method = made((0.0, 0.0)), made((0.2, 0.5))
    seen = batch().labeled.weak()
    fields = method.raw(seen.image)
    target, weight = method.labeled_target(fields, batch().labeled, seen)
    want = plain(batch(), FIRST).losses["labeled"]
    for name, share in (("level0", 0.2), ("level1", 0.5)):
        want = want + share * heatmap_loss(fields[name].maps, target["heatmap"].maps, weight)
    torch.testing.assert_close(method(batch(), FIRST).losses["labeled"], want)


def test_the_heads_learn_and_are_in_no_network_that_is_saved() -> None:
    method = made((0.1, 0.3))
    assert isinstance(method.raw, MultiLevel)
    method(batch(), FIRST).losses["labeled"].backward()
    assert all(value.grad is not None and value.grad.any() for value in method.raw.heads.parameters())
    plain = made((0.0, 0.0)).networks()
    for name, network in method.networks().items():
        assert network.state_dict().keys() == plain[name].state_dict().keys()


def test_networks_for_whole_images_have_no_such_heads() -> None:
    with pytest.raises(UsageError, match=r"--method.levels .*leave it out"):
        Supervised(builder_of("x@dekr"), SKELETON, levels=(0.1, 0.3))
