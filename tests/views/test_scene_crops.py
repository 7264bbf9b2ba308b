"""Views of whole images: everybody, and what is known, follow the pixels; parts of a batch see what the whole sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from semipose.engine.batches import split
from semipose.scene import Labels
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Batch, SceneCrops

FLIP = (1, 0)
STRONG = Augmentation(rotation=30, scale=0.25, flip=0.5, color="none", shift=0.2)


def scenes(count: int = 8, augmentation: Augmentation = STRONG, labeled: bool = True) -> SceneCrops:
    """Crops of 72x72 px for views of 64x64: two people of two keypoints each, of whom one may be nobody.

    Every keypoint is a spot of a color of its own; the upper and lower eighth lie beyond the image.
    """
    generator = torch.Generator().manual_seed(3)
    keypoints = 14 + 44 * torch.rand(count, 2, 2, 2, generator=generator)
    visible = torch.ones(count, 2, 2)
    visible[1, 1] = 0
    y, x = torch.meshgrid(torch.arange(72), torch.arange(72), indexing="ij")
    images = torch.zeros(count, 72, 72, 3)
    for color, person, keypoint in ((0, 0, 0), (1, 0, 1), (2, 1, 0)):
        at = keypoints[:, person, keypoint, :, None, None]
        images[..., color] = 255 * torch.exp(-((x - at[:, 0]) ** 2 + (y - at[:, 1]) ** 2) / 12)
    valid = torch.ones(count, 1, 18, 18)
    valid[:, :, :2] = valid[:, :, -2:] = 0
    random = RandomKey(0, 5, "labeled", count, count)
    crops = SceneCrops(images.to(torch.uint8), (64, 64), 72 / 64, augmentation, random, valid=valid)
    if not labeled:
        return crops
    people = Labels(keypoints.numpy(), visible.numpy() > 0, np.full((count, 2, 2), 20.0, np.float32))
    return replace(crops, people=people)


def spots(image: torch.Tensor) -> torch.Tensor:
    """(B, 3, 2) where each color is."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    mass = image.sum((2, 3))
    return torch.stack([(image * x).sum((2, 3)) / mass, (image * y).sum((2, 3)) / mass], -1)


@pytest.mark.parametrize("kind", ["canonical", "weak", "strong"])
def test_everybody_follows_the_pixels(kind: str) -> None:
    crops = scenes()
    weak = crops.weak()
    view = {"canonical": crops.canonical, "weak": lambda: weak, "strong": lambda: crops.strong(weak)}[kind]()
    scene = crops.scene(view, FLIP)
    # In a mirrored view the left keypoint is where the right one's color is.
    mirrored = view.affine.mirrored
    assert kind == "canonical" or (mirrored.any() and not mirrored.all())
    first = torch.where(mirrored[:, None, None], scene.keypoints[:, :, 1], scene.keypoints[:, :, 0])
    second = torch.where(mirrored[:, None], scene.keypoints[:, 0, 0], scene.keypoints[:, 0, 1])
    found, expected = spots(view.image), torch.stack([first[:, 0], second, first[:, 1]], 1)
    # A spot at the border is cut: its middle says nothing.
    whole = ((expected > 8) & (expected < 55)).all(-1)
    assert whole.float().mean() > 0.4
    torch.testing.assert_close(found[whole], expected[whole], atol=0.35, rtol=0)
    zoom = view.affine.scale.flatten()
    torch.testing.assert_close(scene.box_size[:, 0, 0], 20 * zoom)
    assert scene.weight[1, 1] == 0


def test_keypoints_outside_of_the_view_are_not_visible() -> None:
    crops = scenes(augmentation=replace(STRONG, shift=0.6))
    scene = crops.scene(crops.weak(), FLIP)
    inside = ((scene.keypoints > -0.5) & (scene.keypoints < 63.5)).all(-1)
    assert not inside.all()
    assert not scene.visible[~inside].any()
    assert scene.visible[inside & (torch.arange(8) != 1)[:, None, None]].all()
    assert (scene.weight == scene.visible.amax(-1)).all()


def test_what_is_known_moves_with_the_view_and_ends_with_the_image() -> None:
    for crops in (scenes(), scenes(labeled=False)):
        plain = crops.valid_region(crops.canonical())
        assert plain.shape == (8, 1, 16, 16)
        assert plain[0, 0, :, 8].tolist() == [0, 0, *[1] * 12, 0, 0]
        view = crops.weak()
        there = crops.valid_region(view)
        # The crop itself as a picture that is white where something is known.
        white = crops.valid.repeat_interleave(4, 2).repeat_interleave(4, 3)
        seen = torch.nn.functional.avg_pool2d(view.affine.image(white, (64, 64)), 4)
        assert set(there.unique().tolist()) == {0.0, 1.0}
        assert ((there > 0.5) != (seen > 0.5)).float().mean() < 0.03
    labeled = scenes()
    view = labeled.weak()
    assert torch.equal(labeled.scene(view, FLIP).valid, labeled.valid_region(view))


def test_unlabeled_images_have_no_people() -> None:
    crops = scenes(labeled=False)
    with pytest.raises(ValueError, match="unlabeled"):
        crops.scene(crops.canonical(), FLIP)


def test_views_are_moved_by_up_to_their_share_and_without_one_not_at_all() -> None:
    many = scenes(400, Augmentation(0, 0, 0, "none", shift=0.2))
    steps = many.weak().affine.matrix[:, :2, 2] - many.canonical().affine.matrix[:, :2, 2]
    assert 12 < steps.amax() <= 12.8
    assert -12.8 <= steps.amin() < -12
    assert steps.mean(0).abs().max() < 1
    still = replace(many, augmentation=Augmentation(0, 0, 0, "none"))
    torch.testing.assert_close(still.weak().affine.matrix, still.canonical().affine.matrix)
    moved = replace(many, augmentation=STRONG)
    turned = replace(many, augmentation=replace(STRONG, shift=0.0))
    # The shift has numbers of its own: all others stay as they are without it.
    assert torch.equal(moved.weak().affine.matrix[:, :2, :2], turned.weak().affine.matrix[:, :2, :2])


def test_parts_of_a_batch_see_what_the_whole_sees() -> None:
    whole = Batch(scenes(), scenes(labeled=False))
    parts = split(whole, 4)
    view = whole.labeled.strong(whole.labeled.weak())
    views = [part.labeled.strong(part.labeled.weak()) for part in parts]
    torch.testing.assert_close(torch.cat([each.image for each in views]), view.image, atol=1e-5, rtol=0)
    here = whole.labeled.scene(view, FLIP)
    there = [part.labeled.scene(each, FLIP) for part, each in zip(parts, views, strict=True)]
    for name in ("keypoints", "visible", "weight", "box_size", "valid"):
        cut = torch.cat([getattr(scene, name) for scene in there])
        torch.testing.assert_close(cut, getattr(here, name), atol=1e-4, rtol=0)
    assert parts[1].unlabeled is not None
    assert len(parts[1].unlabeled.valid) == 2
