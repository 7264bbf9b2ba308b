"""A training step reads nothing back from its device, for every method, and has as many operators for any batch.

Public code for these methods waits for hundreds of blocking reads a step, most of them in loops over samples (SSPCM,
MultiAugs). A CPU's clock hides them, a GPU's does not.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.limit import Limit
from benchmarks.operators import Operators, counted, on_meta
from semipose import methods
from semipose.config.settings import Settings
from semipose.data.people import People
from semipose.engine.setup import Stores, make_trainer
from semipose.engine.trainer import Trainer
from semipose.formats.load import Data
from semipose.networks import DETECTOR_FREE
from semipose.networks.backbone import Backbone
from tests import scenes, synthetic_people

ALL = methods.methods_for("resnet18")
# Operators of a step, to those of its networks' bare passes: against loops, as torch.compile takes care of launches.
MOST = 2.5


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return synthetic_people.people(tmp_path_factory.mktemp("drawn"), 12)


CPU = torch.device("cpu")


def late(people: People, name: str, batch_size: int = 4, device: torch.device = CPU, **changes: object) -> Trainer:
    """A trainer of a narrow ResNet-18 near the end of its run, when all parts of a method are at work."""
    settings = Settings.from_values(
        {
            "method": name,
            "network": "resnet18",
            "width": 0.125,
            "head_channels": 8,
            "input_size": "64x64",
            "batch_size": batch_size,
            "duration": 1000,
            "cache": "ram",
            "workers": 1,
            **changes,
        }
    )
    data = Data(people.select(np.arange(8)), synthetic_people.unlabeled(people), None, "given")
    stores = Stores.read(data, settings, device)
    trainer = make_trainer(settings, {}, people.skeleton, stores, Path("nowhere"))
    trainer.update = 900
    return trainer


# Of one and of two networks, and with the most views.
@pytest.mark.parametrize(
    "name", ["mean_teacher", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sspcm", "multi_augs"))]
)
def test_operators_are_few_and_as_many_for_any_batch(people: People, name: str) -> None:
    trainer = late(people, name)
    seen = counted(trainer)
    limit = Limit(trainer)
    with Operators() as bare:
        limit.step()
    assert seen.count <= MOST * bare.count, f"{seen.count} operators, the networks' passes alone {bare.count}"
    assert counted(late(people, name, 8)).count == seen.count


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return scenes.crowds(tmp_path_factory.mktemp("crowds"))


# On a light backbone, whose passes are few.
@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("instance_pseudo_label", "cid"),
        pytest.param("supervised", "cid", marks=pytest.mark.slow),
        *(
            pytest.param("instance_pseudo_label", network, marks=pytest.mark.slow)
            for network in DETECTOR_FREE
            if network != "cid"
        ),
    ],
)
def test_a_step_on_whole_images_reads_nothing_back_and_asks_for_little_whatever_the_batch(
    crowds: Data, name: str, network: str
) -> None:
    def late_in(batch_size: int, device: torch.device, log_every: int = 1000, update: int = 90) -> Trainer:
        changes = {"batch_size": batch_size, "duration": 100, "log_every": log_every}
        settings = scenes.SETTINGS.chosen("flag", "", network=network, method=name, **changes)
        stores = Stores.read(crowds, settings, device)
        trainer = make_trainer(settings, {}, crowds.skeleton, replace(stores, val=None), Path("nowhere"))
        trainer.update = update
        return trainer

    trainer = late_in(2, CPU)
    seen, limit = counted(trainer), Limit(trainer)
    with Operators() as bare:
        limit.step()
    assert seen.count <= MOST * bare.count, f"{seen.count} operators, the networks' passes alone {bare.count}"
    assert counted(late_in(4, CPU)).count == seen.count
    with on_meta() as meta:
        # While weights of losses grow, and numbers are logged.
        assert counted(late_in(2, meta, log_every=1, update=44)).blocking == []


class OneLayer(Backbone):
    """Torch's meta kernels of large networks take seconds, and what surrounds a network is in question here."""

    channels = (8, 8, 8, 8)
    earlier = ((8, 32), (8, 32))

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 1, stride=32)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.convolution(image)] * 4

    def stages(self) -> list[nn.Module]:
        return [self.convolution]


@pytest.mark.parametrize("name", ALL)
def test_no_step_reads_anything_back_from_its_device(
    people: People, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semipose.networks.resnet.resnet18", lambda width: OneLayer())
    with on_meta() as meta:
        assert counted(late(people, name, device=meta)).blocking == []


def test_nor_does_one_with_clipping_the_batch_cut_into_parts_and_other_colors(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semipose.networks.resnet.resnet18", lambda width: OneLayer())
    with on_meta() as meta:
        changes = {"clip": 1.0, "accumulate": 2, "color": "randaugment"}
        assert counted(late(people, "mean_teacher", device=meta, **changes)).blocking == []


@pytest.mark.parametrize(
    "read",
    [
        lambda values: values.sum().item(),
        lambda values: values.cpu(),
        lambda values: values.tolist(),
        lambda values: bool((values > 0).any()),
        lambda values: torch.linalg.inv(values),
        lambda values: torch.tensor([1.0], device=values.device),
        lambda values: torch.ones(2).to(values.device),
        lambda values: torch.ones(2, 2).copy_(values),
    ],
)
def test_a_read_is_noticed(read: Callable[[Tensor], object]) -> None:
    with on_meta() as meta:
        values = torch.ones(2, 2, device=meta)
        with Operators() as seen:
            read(values)
    assert len(seen.blocking) == 1


@pytest.mark.parametrize("read", [lambda values: values[values > 0], lambda values: values.nonzero()])
def test_a_shape_that_depends_on_numbers_is_noticed(read: Callable[[Tensor], object]) -> None:
    with Operators() as seen:
        read(torch.ones(2, 2))
    assert seen.blocking


def test_what_the_host_need_not_wait_for_is_not_counted_as_a_read() -> None:
    with on_meta() as meta:
        values = torch.ones(2, 2, device=meta)
        with Operators() as seen:
            torch.where(values > 0, values, 2.0).add_(torch.ones(2, 2).to(meta, non_blocking=True))
            values.gather(1, values.argmax(1, keepdim=True))
    assert seen.blocking == []
    assert seen.count >= 6


def test_the_limit_repeats_the_passes_of_a_step(people: People) -> None:
    limit = Limit(late(people, "mean_teacher"))
    told = sorted((each.network, each.shapes[0][0], each.graded, each.training) for each in limit.passes)
    assert told == [("student", 4, True, True), ("student", 4, True, True), ("teacher.network", 4, False, False)]
    weights = list(limit.networks["student"].parameters())
    before = [weight.clone() for weight in weights]
    limit.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, weights, strict=True))
