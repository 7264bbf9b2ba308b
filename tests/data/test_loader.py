"""The store gives the same crops in every mode; the sampler's order is a function of its key."""

from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.data.crops import read_image
from semipose.data.loader import CropStore, Sampler
from semipose.errors import DataError
from tests import drawn


def test_every_cache_gives_the_same_crops(tmp_path: Path) -> None:
    people = drawn.people(tmp_path, 6)
    rows = np.array([4, 0, 5, 4])
    crops = [CropStore(people, (64, 64), cache).get(rows) for cache in ("ram", "none", "auto", "device")]
    assert crops[0].dtype == torch.uint8
    assert crops[0].shape == (4, 106, 106, 3)
    assert all(torch.equal(crops[0], other) for other in crops[1:])
    assert torch.equal(crops[0][0], crops[0][3])


def test_a_shared_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = drawn.people(tmp_path, 3)
    shared = people.select(np.array([0, 0, 0, 1, 2, 2]))
    read: list[str] = []
    monkeypatch.setattr("semipose.data.loader.read_image", lambda path: read.append(path) or read_image(path))
    store = CropStore(shared, (64, 64), "ram")
    assert len(read) == 3
    assert len(store) == 6


def test_keypoints_lie_on_the_same_pixels_of_the_crop(tmp_path: Path) -> None:
    people = drawn.people(tmp_path, 4)
    store = CropStore(people, (64, 64))
    back = store.affines.inverse() @ torch.cat([store.keypoints(), torch.ones(4, 14, 1)], -1).mT
    found = back.mT[..., :2].numpy()
    assert np.abs(found - people.poses.keypoints).max() < 1e-3


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_unreadable_unlabeled_images_are_left_out_and_named(tmp_path: Path, cache: str) -> None:
    people = drawn.people(tmp_path, 5)
    Path(people.images.files[2]).write_bytes(b"not a picture")
    store = CropStore(people, (64, 64), cache, strict=False)
    assert store.unreadable == [people.images.files[2]]
    assert store.people.poses.ids.tolist() == [1, 2, 4, 5]
    assert len(store.get(np.arange(4))) == 4


def test_unreadable_labeled_images_are_refused(tmp_path: Path) -> None:
    people = drawn.people(tmp_path, 3)
    Path(people.images.files[1]).write_bytes(b"")
    with pytest.raises(DataError, match=r"1 labeled image.*0000001\.jpg"):
        CropStore(people, (64, 64))


def test_a_sampler_sees_everybody_once_an_epoch_in_an_order_of_its_own() -> None:
    sampler = Sampler(10, 4, seed=0, stream="labeled")
    rows = np.concatenate([sampler.rows(update) for update in range(5)])
    assert sorted(rows[:10]) == list(range(10))
    assert sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    again = Sampler(10, 4, seed=0, stream="labeled")
    assert again.rows(3).tolist() == sampler.rows(3).tolist()  # no state: any update may come first
    assert Sampler(10, 4, 0, "unlabeled").rows(0).tolist() != sampler.rows(0).tolist()
    assert Sampler(3, 8, 0, "labeled").rows(0).shape == (8,)  # fewer people than a batch
