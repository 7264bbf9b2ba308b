"""Fields are moved, split and detached by name; fields that draw people stay so."""

import torch
from torch import Tensor

from semipose.fields import Field, Fields, InstanceFields, heatmap_and_center
from semipose.geometry import Affine

FLIP = (0, 2, 1)


def maps(seed: int = 0, count: int = 2) -> Tensor:
    return torch.rand(count, 4, 6, 5, generator=torch.Generator().manual_seed(seed))


def test_keypoint_and_center_maps_are_two_fields_and_learn_in_one_tensor() -> None:
    both = maps().requires_grad_()
    fields = heatmap_and_center(both, FLIP)
    assert torch.equal(fields["heatmap"].maps, both[:, :3])
    assert torch.equal(fields["center"].maps, both[:, 3:])
    assert (fields["heatmap"].flip, fields["center"].flip) == (FLIP, (0,))
    fields["center"].maps.sum().backward()
    assert both.grad is not None
    assert both.grad.sum((0, 2, 3)).tolist() == [0, 0, 0, 60]


def test_only_scalar_fields_are_moved() -> None:
    fields = Fields(heatmap_and_center(maps(), FLIP) | {"tags": Field(maps(), "embedding", 4, FLIP)})
    moved = fields.moved(Affine.mirror(20, 2))
    assert set(moved) == {"heatmap", "center"}
    torch.testing.assert_close(moved["heatmap"].maps, maps()[:, [0, 2, 1]].flip(-1))


def test_fields_with_maps_of_single_people_are_split_and_detached_as_others_are() -> None:
    both = maps().requires_grad_()
    fields = InstanceFields(heatmap_and_center(both, FLIP), 2 * both, 3 * both, lambda parameters, shared, _: shared)
    one, other = fields.split(1)
    assert torch.equal(one["center"].maps, both[:1, 3:])
    assert torch.equal(other.features, 2 * both[1:])
    cells = torch.zeros(1, 2)
    person = other.person_maps(other.parameters(torch.zeros(1, 1, dtype=torch.int64)), cells)
    assert torch.equal(person, 3 * both[1:])
    assert person.requires_grad
    still = other.detach()
    assert not any(
        each.requires_grad for each in (still["heatmap"].maps, still.features, still.person_maps(cells, cells))
    )
