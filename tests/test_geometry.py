"""There and back, mirrors, strides: the mistakes of HRNet #22 and UDP-Pose #12."""

import math

import numpy as np
import pytest
import torch

from semipose.fields import Field, Fields, mirrored_mean
from semipose.geometry import Affine, constant

FLIP = (0, 2, 1)


def random_affine(count: int = 4, seed: int = 0) -> Affine:
    generator = torch.Generator().manual_seed(seed)
    angle = (torch.rand(count, generator=generator) - 0.5) * 2 * math.pi
    scale = 0.7 + 0.6 * torch.rand(count, generator=generator)
    return Affine.about(angle, scale, torch.arange(count) % 2 == 0, (30.0, 40.0), (24.0, 32.0))


def blobs(xy: torch.Tensor, size: tuple[int, int], sigma: float = 2.0) -> torch.Tensor:
    """Gaussian blobs (B, K, h, w) at `xy` (B, K, 2) in cells."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    square = (x - xy[..., 0, None, None]) ** 2 + (y - xy[..., 1, None, None]) ** 2
    return torch.exp(-square / (2 * sigma**2))


def centroid(maps: torch.Tensor) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(maps.shape[-2]), torch.arange(maps.shape[-1]), indexing="ij")
    mass = maps.sum((-1, -2))
    return torch.stack([(maps * x).sum((-1, -2)) / mass, (maps * y).sum((-1, -2)) / mass], -1)


def test_there_and_back_is_the_identity() -> None:
    affine = random_affine()
    points = torch.randn(4, 7, 2) * 50
    torch.testing.assert_close(affine.inverse().points(affine.points(points)), points, atol=1e-3, rtol=0)
    torch.testing.assert_close((affine.inverse() @ affine).matrix, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)


def test_inverse_and_scale_are_those_of_linear_algebra() -> None:
    affine = random_affine()
    torch.testing.assert_close(affine.inverse().matrix, torch.linalg.inv(affine.matrix), atol=1e-4, rtol=1e-5)
    area = torch.linalg.det(affine.matrix).abs()
    torch.testing.assert_close(affine.scale.flatten(), area.sqrt(), atol=1e-5, rtol=1e-5)
    assert affine.mirrored.tolist() == [True, False, True, False]


def test_about_takes_its_source_to_its_destination_and_turns_clockwise_on_the_screen() -> None:
    quarter = torch.full((2,), math.pi / 2)
    affine = Affine.about(quarter, torch.tensor([1.0, 2.0]), torch.tensor([False, True]), (30.0, 40.0), (24.0, 32.0))
    points = torch.tensor([[[30.0, 40.0], [31.0, 40.0]]]).expand(2, 2, 2)
    expected = torch.tensor([[[24.0, 32.0], [24.0, 33.0]], [[24.0, 32.0], [24.0, 34.0]]])
    torch.testing.assert_close(affine.points(points), expected, atol=1e-4, rtol=0)
    up = affine.points(torch.tensor([[[30.0, 39.0]]]).expand(2, 1, 2))[:, 0, 0]
    torch.testing.assert_close(up, torch.tensor([25.0, 22.0]), atol=1e-4, rtol=0)


def test_composition_applies_the_right_hand_map_first() -> None:
    first, second = random_affine(seed=1), random_affine(seed=2)
    points = torch.randn(4, 5, 2) * 20
    torch.testing.assert_close((second @ first).points(points), second.points(first.points(points)), atol=1e-3, rtol=0)


def test_mirror_exchanges_left_and_right_and_cancels_itself() -> None:
    mirror = Affine.mirror(48, 2)
    assert mirror.mirrored.all()
    assert not (mirror @ mirror).mirrored.any()
    moved = mirror.keypoints(torch.tensor([[[0.0, 1.0], [5.0, 2.0], [47.0, 3.0]]]).expand(2, 3, 2), FLIP)
    assert moved[0].tolist() == [[47.0, 1.0], [0.0, 3.0], [42.0, 2.0]]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_moving_maps_equals_moving_keypoints(stride: int, autocast: bool) -> None:
    """Also under bf16 autocast, which rounds coordinates above 256 to 2 px when it gets hold of them."""
    size, cells = (320, 288), (320 // stride, 288 // stride)
    angle, scale = torch.tensor([0.5, -0.3, 2.0]), torch.tensor([1.1, 0.9, 1.0])
    affine = Affine.about(angle, scale, torch.tensor([False, True, True]), (140.0, 150.0), (143.5, 159.5))
    keypoints = torch.tensor([[120.0, 130.0], [170.3, 140.6], [150.0, 190.25]]).expand(3, 3, 2)
    on_map = (keypoints - (stride - 1) / 2) / stride
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        field = Field(blobs(on_map, cells, 8 / stride), "scalar", stride, FLIP).moved(affine)
        expected = affine.keypoints(keypoints, FLIP)
    found = centroid(field.maps) * stride + (stride - 1) / 2
    assert (expected > 20).all()
    assert (expected < size[1] - 20).all()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_identity_returns_the_image_and_covers_all_of_it() -> None:
    image = torch.rand(2, 3, 16, 12)
    identity = Affine.identity(2)
    torch.testing.assert_close(identity.image(image, (16, 12)), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(identity.inside((16, 12), (16, 12)), torch.ones(2, 1, 16, 12), atol=1e-5, rtol=0)


def test_inside_is_what_sampling_an_image_of_ones_gives() -> None:
    turned = (torch.tensor(values) for values in ([0.4, 2.0], [1.2, 0.5], [True, False]))
    affine = Affine.about(*turned, (20.0, 9.0), (11.0, 13.0))
    ones = affine.image(torch.ones(2, 1, 20, 30), (24, 26))
    assert 0.1 < ones.mean() < 0.9
    torch.testing.assert_close(affine.inside((20, 30), (24, 26)), ones, atol=1e-4, rtol=0)


def test_kept_constants_can_be_used_in_training_after_an_inference() -> None:
    constant.cache_clear()
    values = torch.rand(2, 3, 2, requires_grad=True)
    with torch.inference_mode():
        some_mirrored((True, False)).exchanged(values, FLIP)
    some_mirrored((True, False)).exchanged(values, FLIP).sum().backward()
    assert values.grad is not None


def test_maps_of_different_strides_agree_on_the_same_pixel() -> None:
    affine = random_affine()
    pixel = torch.tensor([[[37.0, 21.0]]]).expand(4, 1, 2)
    cell = (pixel - 1.5) / 4
    moved = affine.between(4, 2).points(cell) * 2 + 0.5
    torch.testing.assert_close(moved, affine.points(pixel), atol=1e-3, rtol=0)


def test_only_mirrored_samples_exchange_left_and_right() -> None:
    values, where = torch.arange(24.0).reshape(4, 3, 2), some_mirrored((True, False, False, True))
    moved = where.exchanged(values, FLIP)
    assert moved[0].tolist() == [[0, 1], [4, 5], [2, 3]]
    assert torch.equal(moved[1:3], values[1:3])
    assert torch.equal(moved[3], values[3, [0, 2, 1]])
    # The same of people of an image, and with other partners.
    assert torch.equal(where.exchanged(values[:, None].expand(-1, 5, -1, -1), FLIP, dim=2)[:, 4], moved)
    assert torch.equal(where.exchanged(values, (1, 0, 2))[0], values[0, [1, 0, 2]])
    assert where.exchanged(values, (0, 1, 2)) is values


def some_mirrored(which: tuple[bool, ...]) -> Affine:
    still = np.zeros(len(which))
    return Affine.about(still, still + 1, np.array(which), (1.0, 1.0), (1.0, 1.0))


def test_flip_test_of_a_perfect_network_changes_nothing() -> None:
    xy = torch.tensor([[[3.0, 4.0], [8.0, 5.0], [2.0, 9.0]]])
    straight = Fields({"heatmap": Field(blobs(xy, (16, 12)), "scalar", 4, FLIP)})
    mirrored_xy = torch.stack([11 - xy[..., 0], xy[..., 1]], -1)[:, list(FLIP)]
    mirrored = Fields({"heatmap": Field(blobs(mirrored_xy, (16, 12)), "scalar", 4, FLIP)})
    mean = mirrored_mean(straight, mirrored, 48)["heatmap"].maps
    torch.testing.assert_close(mean, straight["heatmap"].maps, atol=1e-5, rtol=0)


def test_only_scalar_fields_can_be_moved() -> None:
    field = Field(torch.zeros(1, 3, 4, 4), "vector", 4, FLIP)
    with pytest.raises(ValueError, match="vector field"):
        field.moved(Affine.identity(1))
