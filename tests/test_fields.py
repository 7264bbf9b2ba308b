"""Keypoint and center maps given as one tensor stay one, and are never older than their parts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from semipose.fields import Field, Fields, InstanceFields, stacked

FLIP = (0, 2, 1)


def maps(seed: int = 0, count: int = 2) -> Tensor:
    return torch.rand(count, 4, 6, 5, generator=torch.Generator().manual_seed(seed))


def apart(of: Tensor) -> Fields:
    """Two fields that are parts of nothing."""
    heatmap, center = of[:, :3].clone(), of[:, 3:].clone()
    return Fields({"heatmap": Field(heatmap, "scalar", 4, FLIP), "center": Field(center, "scalar", 4, (0,))})


def test_parts_of_one_tensor_are_joined_without_a_copy() -> None:
    whole = maps().requires_grad_()
    fields = Fields.paired(whole, FLIP)
    assert fields.joined is whole
    assert torch.equal(fields["heatmap"].maps, whole[:, :3])
    assert torch.equal(fields["center"].maps, whole[:, 3:])
    both = fields.merged()["heatmap"]
    assert both.maps is whole
    assert both.flip == (0, 2, 1, 3)
    fields["center"].maps.sum().backward()
    assert whole.grad is not None
    assert whole.grad.sum((0, 2, 3)).tolist() == [0, 0, 0, 60]


def test_fields_that_are_parts_of_nothing_are_joined_too() -> None:
    fields = apart(maps())
    assert torch.equal(fields.joined, maps())
    assert torch.equal(fields.merged()["heatmap"].maps, maps())
    del fields["center"]
    assert torch.equal(fields.joined, maps()[:, :3])
    assert fields.merged() is fields


@pytest.mark.parametrize("name", ["heatmap", "center"])
def test_a_field_put_in_anothers_place_is_what_is_joined(name: str) -> None:
    fields = Fields.paired(maps(), FLIP)
    fields[name] = replace(fields[name], maps=fields[name].maps + 1)
    expected = torch.cat([fields["heatmap"].maps, fields["center"].maps], 1)
    assert torch.equal(fields.joined, expected)
    assert not torch.equal(expected, maps())


def test_answers_are_stacked_whether_their_maps_are_one_tensor_or_not() -> None:
    one, other = maps(1), maps(2, count=3)
    tags = {"tags": Field(maps(3), "embedding", 4, FLIP)}, {"tags": Field(maps(4, 3), "embedding", 4, FLIP)}
    whole = stacked([Fields.paired(one, FLIP, tags[0]), Fields.paired(other, FLIP, tags[1])])
    mixed = stacked([Fields.paired(one, FLIP, tags[0]), Fields({**apart(other), **tags[1]})])
    for found in (whole, mixed):
        assert torch.equal(found.joined, torch.cat([one, other]))
        assert torch.equal(found["heatmap"].maps, torch.cat([one, other])[:, :3])
        assert torch.equal(found["tags"].maps, torch.cat([maps(3), maps(4, 3)]))
        assert found["heatmap"].flip == FLIP
    assert all(torch.equal(part.joined, of) for part, of in zip(whole.split(2), (one, other), strict=True))


def test_fields_that_draw_people_are_joined_and_stacked_as_others_are() -> None:
    answers = ((Fields.paired(maps(seed), FLIP), maps(seed), maps(seed)) for seed in (1, 2))
    fields = [InstanceFields(*each, lambda *_: maps()) for each in answers]
    assert torch.equal(fields[0].joined, maps(1))
    both = stacked(fields)
    assert isinstance(both, InstanceFields)
    assert torch.equal(both.joined, torch.cat([maps(1), maps(2)]))
    assert torch.equal(both.shared, torch.cat([maps(1), maps(2)]))
