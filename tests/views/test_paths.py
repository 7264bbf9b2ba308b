"""Hard paths: what each may change, and that chains are their links."""

import pytest
import torch

from semipose.views.cut_occlude import cut_occlude
from semipose.views.mix import cutmix
from semipose.views.occlude import cutout, joint_cutout
from semipose.views.paths import PATHS, yoco
from semipose.views.policies import augment
from semipose.views.random_key import RandomKey

DRAW = RandomKey(0, 3, "unlabeled", 8, 8)
IMAGE = torch.rand(8, 3, 64, 48, generator=torch.Generator().manual_seed(1))
KEYPOINTS = torch.rand(8, 6, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([47.0, 63.0])


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_a_function_of_its_key_and_leaves_what_it_was_given(name: str) -> None:
    image, keypoints = IMAGE.clone(), KEYPOINTS.clone()
    first, again = (PATHS[name](image, keypoints, DRAW, "p") for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == IMAGE.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(image, IMAGE)
    assert torch.equal(keypoints, KEYPOINTS)
    assert not torch.equal(first, PATHS[name](image, keypoints, DRAW, "q"))
    assert not torch.equal(first, IMAGE)


def test_joco_occludes_and_then_cuts_and_jccm_cuts_and_then_mixes() -> None:
    occluded = cut_occlude(IMAGE, KEYPOINTS, DRAW, "p/occlude")
    assert torch.equal(PATHS["joco"](IMAGE, KEYPOINTS, DRAW, "p"), cutout(occluded, DRAW, "p/cutout"))
    cut = joint_cutout(IMAGE, KEYPOINTS, DRAW, "p/cutout")
    assert torch.equal(PATHS["jccm"](IMAGE, KEYPOINTS, DRAW, "p"), cutmix(cut, DRAW, "p/mix")[0])


def test_yoco_joins_two_copies_along_the_lower_or_the_right_half() -> None:
    random = RandomKey(0, 0, "unlabeled", 64, 64)
    image = IMAGE.repeat(8, 1, 1, 1)
    first, second = (augment(image, random, f"y/{copy}", "trivialaugment") for copy in ("first", "second"))
    joined = yoco(image, random, "y", "trivialaugment")
    lower = (joined[:, :, 32:] == second[:, :, 32:]).all(-1).all(-1).all(-1)
    right = (joined[..., 24:] == second[..., 24:]).all(-1).all(-1).all(-1)
    assert (lower | right).all()
    assert 16 < lower.sum() < 56
    assert 16 < right.sum() < 56
    assert torch.equal(joined[:, :, :32, :24], first[:, :, :32, :24])
    assert torch.equal(joined[lower & ~right][:, :, :32], first[lower & ~right][:, :, :32])
    assert torch.equal(joined[right & ~lower][..., :24], first[right & ~lower][..., :24])
