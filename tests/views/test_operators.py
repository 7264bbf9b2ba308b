"""Views need as many operators for any batch, none that waits; and are slices of one whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks.operators import Operators, on_meta
from semipose.views.color import jitter
from semipose.views.cut_occlude import cut_occlude
from semipose.views.keypoint_mix import keypoint_mix
from semipose.views.mix import cutmix, mixup
from semipose.views.occlude import cutout, joint_cutout
from semipose.views.policies import augment
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles
from tests.people import SKELETON, crops

Change = Callable[[Tensor, Tensor, RandomKey], Tensor]

CHANGES: dict[str, Change] = {
    "jitter": lambda image, keypoints, random: jitter(image, random, "c", 0.4),
    "randaugment": lambda image, keypoints, random: augment(image, random, "c", "randaugment"),
    "trivialaugment": lambda image, keypoints, random: augment(image, random, "c", "trivialaugment"),
    "cutout": lambda image, keypoints, random: cutout(image, random, "c"),
    "joint_cutout": lambda image, keypoints, random: joint_cutout(image, keypoints, random, "c"),
    "visible": lambda image, keypoints, random: joint_cutout(
        image, keypoints, random, "c", exists=keypoints[..., 0] > 20
    ),
    "cutmix": lambda image, keypoints, random: cutmix(image, random, "c")[0],
    "cutmix_keypoints": lambda image, keypoints, random: cutmix(image, random, "c", keypoints=keypoints)[0],
    "keypoint_mix": lambda image, keypoints, random: keypoint_mix(image, keypoints, random, "c"),
    "cut_occlude": lambda image, keypoints, random: cut_occlude(image, keypoints, random, "c"),
    "mixup": lambda image, keypoints, random: mixup(image, random, "c")[0],
    "tiles": lambda image, keypoints, random: Tiles.sampled(random, "c", (4, 3)).mix(image),
}


def operators(code: Callable[[], object]) -> Operators:
    """What `code` calls once its constants are in place."""
    code()
    with Operators() as counting:
        code()
    return counting


def inputs(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, 32, 24, generator=generator), torch.rand(count, 7, 2, generator=generator) * 28


@pytest.mark.parametrize("name", CHANGES)
def test_changes_cost_the_same_operators_for_any_batch_and_none_waits(name: str) -> None:
    change = CHANGES[name]
    small, large = (
        operators(lambda count=count: change(*inputs(count), RandomKey(0, 0, "u", count, count))) for count in (4, 16)
    )
    assert small.count == large.count
    assert not small.blocking


@pytest.mark.parametrize("name", CHANGES)
def test_changes_need_no_number_of_their_device(name: str) -> None:
    """On the meta device there are none."""
    change, (image, keypoints) = CHANGES[name], inputs()
    with on_meta() as device:
        image, keypoints, random = image.to(device), keypoints.to(device), RandomKey(0, 0, "u", 8, 8, device=device)
        assert change(image, keypoints, random).is_meta
        assert not operators(lambda: change(image, keypoints, random)).blocking


@pytest.mark.parametrize("name", CHANGES)
def test_two_processes_change_the_two_halves_of_what_one_changes(name: str) -> None:
    change, (image, keypoints) = CHANGES[name], inputs()
    whole = change(image, keypoints, RandomKey(3, 5, "u", 8, 8))
    halves = [
        change(image[rows], keypoints[rows], RandomKey(3, 5, "u", 4, 8, rows.start))
        for rows in (slice(0, 4), slice(4, 8))
    ]
    assert torch.equal(torch.cat(halves), whole)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_follow_the_seed_and_the_update(name: str) -> None:
    change, (image, keypoints) = CHANGES[name], inputs()
    first = change(image, keypoints, RandomKey(3, 5, "u", 8, 8))
    assert torch.equal(change(image, keypoints, RandomKey(3, 5, "u", 8, 8)), first)
    for other in (RandomKey(4, 5, "u", 8, 8), RandomKey(3, 6, "u", 8, 8), RandomKey(3, 5, "v", 8, 8)):
        assert not torch.equal(change(image, keypoints, other), first)


def test_views_cost_the_same_operators_for_any_batch_and_none_waits() -> None:
    people = {count: crops(count, labeled=True) for count in (4, 16)}
    weak = {count: people[count].weak() for count in people}
    for view in (
        lambda count: people[count].weak(),
        lambda count: people[count].strong(weak[count]),
        lambda count: people[count].canonical(),
        lambda count: people[count].labels(weak[count], SKELETON.flip),
    ):
        small, large = (operators(lambda count=count, view=view: view(count)) for count in (4, 16))
        assert small.count == large.count
        assert not small.blocking
