"""The store gives the same crops wherever they are kept, and each image is decoded once."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.crops import decode, places
from semipose.crops.crop import CropFrame, read_image
from semipose.crops.places import Sharing, choose_cache
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.errors import DataError, UsageError
from tests import synthetic_people

SIZE = (64, 64)
FRAME = CropFrame(SIZE)
CROP_BYTES = 106 * 106 * 3
PLACES = ["ram", "device", "auto", "disk", "none"]
DISK = 10**9


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of crops lie."""
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "crops"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    files: list[str] = []
    monkeypatch.setattr(decode, "read_image", lambda path: files.append(path) or read_image(path))
    return files


def several(people: People) -> People:
    """Three people in the first image, one in the second, two in the third; each with a box of their own."""
    shared = people.select(np.array([0, 0, 0, 1, 2, 2]))
    boxes = shared.poses.boxes + np.array([[-9, 0, 0, 0], [3, 4, 5, 6], [20, -3, 9, 9]] * 2, np.float32)
    return replace(shared, poses=replace(shared.poses, boxes=boxes, ids=np.arange(1, 7)))


@pytest.mark.parametrize("broken", [False, True])
def test_every_place_gives_the_same_people_and_crops(tmp_path: Path, broken: bool) -> None:
    people = synthetic_people.people(tmp_path, 6)
    if broken:
        Path(people.images.files[2]).write_bytes(b"not a picture")
    rows = np.array([4, 0, 2, 4])
    # The second time the file on disk is there already.
    stores = [CropStore(people, SIZE, place, strict=False, disk_limit=DISK) for place in [*PLACES, "disk"]]
    assert [store.kept for store in stores] == ["ram", "ram", "ram", "disk", "none", "disk"]
    crops = [store.get(rows) for store in stores]
    assert crops[0].dtype == torch.uint8
    assert crops[0].shape == (4, 106, 106, 3)
    assert all(torch.equal(crops[0], other) for other in crops[1:])
    assert torch.equal(crops[0][0], crops[0][3])
    for store in stores:
        assert store.unreadable == ([people.images.files[2]] if broken else [])
        assert store.people.poses.ids.tolist() == ([1, 2, 4, 5, 6] if broken else [1, 2, 3, 4, 5, 6])
        assert torch.equal(store.keypoints(), stores[0].keypoints())


@pytest.mark.parametrize("place", PLACES)
def test_an_image_of_several_people_is_decoded_once(tmp_path: Path, read: list[str], place: str) -> None:
    people = several(synthetic_people.people(tmp_path, 3))
    store = CropStore(people, SIZE, place, disk_limit=DISK)
    assert sorted(read) == sorted(people.images.files)
    read.clear()
    for _ in range(2):  # an epoch: no decoding where crops are kept, else each image of a batch once
        store.get(np.array([0, 4, 2]))
        store.get(np.array([3, 5, 1]))
    files = people.images.files
    assert sorted(read) == (sorted([files[0], files[2], files[1], files[2], files[0]] * 2) if place == "none" else [])


def test_an_epoch_from_disk_decodes_nothing_in_the_next_run(tmp_path: Path, read: list[str]) -> None:
    people = synthetic_people.people(tmp_path, 5)
    CropStore(people, SIZE, "disk", disk_limit=DISK)
    read.clear()
    again = CropStore(people, SIZE, "disk", disk_limit=DISK)
    again.get(np.arange(5))
    assert read == []


def test_runs_that_divide_the_same_people_otherwise_share_a_file(tmp_path: Path, folder: Path, read: list[str]) -> None:
    people = several(synthetic_people.people(tmp_path, 3))
    crops = CropStore(people, SIZE, "ram").get(np.arange(6))
    for cut in (2, 4):
        parts = people.select(slice(None, cut)), people.select(slice(cut, None))
        first = CropStore(parts[0], SIZE, "disk", disk_limit=DISK, other_streams=[parts[1]])
        read.clear()
        second = CropStore(parts[1], SIZE, "disk", disk_limit=DISK, other_streams=[parts[0]])
        assert torch.equal(torch.cat([first.get(np.arange(cut)), second.get(np.arange(6 - cut))]), crops)
        assert read == []
    assert len(list(folder.glob("*.crops"))) == 1


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="elsewhere than on Linux each process has its own crops")
def test_processes_share_crops_in_memory(tmp_path: Path, read: list[str]) -> None:
    people = synthetic_people.people(tmp_path, 4)
    Path(people.images.files[1]).write_bytes(b"not a picture")
    told: list[tuple[int, int]] = []

    def store(first: bool) -> CropStore:
        def agree(numbers: tuple[int, int]) -> tuple[int, int]:
            told.append(numbers)
            return told[0]

        return CropStore(people, SIZE, "ram", strict=False, sharing=Sharing(first, agree))

    stores = [store(True), store(False)]
    assert sorted(read) == sorted(people.images.files)  # by the first alone
    assert told == [(os.getpid(), told[0][1]), (os.getpid(), -1)]
    expected = CropStore(people, SIZE, "ram", strict=False)
    for each in stores:
        assert torch.equal(each.get(np.arange(3)), expected.get(np.arange(3)))
        assert each.people.poses.ids.tolist() == [1, 3, 4]
        assert each.unreadable == [people.images.files[1]]
        assert each.kept == "ram"


def test_auto_takes_the_fastest_place_with_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(places, "free_memory", lambda: 100 * CROP_BYTES)
    monkeypatch.setattr(places.crop_cache, "free_bytes", lambda folder: 200 * CROP_BYTES)
    assert choose_cache(39, FRAME, cpu) == "ram"
    assert choose_cache(41, FRAME, cpu) == "none"  # nobody said how much disk may be used
    assert choose_cache(41, FRAME, cpu, disk_limit=60 * CROP_BYTES) == "disk"
    assert choose_cache(41, FRAME, cpu, disk_limit=60 * CROP_BYTES, other_count=20) == "none"
    assert choose_cache(99, FRAME, cpu, disk_limit=DISK) == "disk"
    assert choose_cache(101, FRAME, cpu, disk_limit=DISK) == "none"  # half of the disk stays free
    monkeypatch.setattr(places.crop_cache, "free_bytes", lambda folder: 0)
    assert choose_cache(41, FRAME, cpu, disk_limit=DISK) == "none"


def test_more_than_the_disk_limit_is_refused(tmp_path: Path, folder: Path) -> None:
    people = synthetic_people.people(tmp_path, 3)
    with pytest.raises(UsageError, match=r"--cache disk: the crops take .* Use a larger --cache-limit"):
        CropStore(people, SIZE, "disk", disk_limit=2 * CROP_BYTES)


def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="SEMIPOSE_CACHE"):
        CropStore(synthetic_people.people(tmp_path, 3), SIZE, "disk", disk_limit=DISK)


def test_crops_that_were_damaged_on_disk_are_decoded_and_made_anew(
    tmp_path: Path, folder: Path, read: list[str]
) -> None:
    people = synthetic_people.people(tmp_path, 4)
    expected = CropStore(people, SIZE, "disk", disk_limit=DISK).get(np.arange(4))
    (file,) = folder.glob("*.crops")
    with open(file, "r+b") as stream:
        stream.seek(-CROP_BYTES // 2, os.SEEK_END)
        stream.write(b"damage")
    read.clear()
    store = CropStore(people, SIZE, "disk", disk_limit=DISK)
    assert torch.equal(store.get(np.arange(4)), expected)
    assert len(read) == 1
    assert not file.exists()
    assert torch.equal(CropStore(people, SIZE, "disk", disk_limit=DISK).get(np.arange(4)), expected)
    assert file.exists()


@pytest.mark.parametrize("place", PLACES[1:])
def test_keypoints_lie_on_the_same_pixels_of_the_crop(tmp_path: Path, place: str) -> None:
    people = synthetic_people.people(tmp_path, 4)
    store = CropStore(people, SIZE, place, disk_limit=DISK)
    back = store.affines.inverse() @ torch.cat([store.keypoints(), torch.ones(4, 14, 1)], -1).mT
    found = back.mT[..., :2].numpy()
    assert np.abs(found - people.poses.keypoints).max() < 1e-3


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_unreadable_labeled_images_are_refused(tmp_path: Path, place: str) -> None:
    people = synthetic_people.people(tmp_path, 3)
    Path(people.images.files[1]).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 labeled image.*0000001\.jpg"):
            CropStore(people, SIZE, place, disk_limit=DISK)


@pytest.mark.parametrize("place", ["disk", "ram"])
def test_an_image_that_was_mended_is_used_by_the_next_run(tmp_path: Path, place: str) -> None:
    people = synthetic_people.people(tmp_path, 3)
    file = Path(people.images.files[1])
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"?" * len(content))
    os.utime(file, ns=times)
    assert len(CropStore(people, SIZE, place, strict=False, disk_limit=DISK)) == 2
    # Not to be told from before by size and time, as where a disk did not answer for a moment.
    file.write_bytes(content)
    os.utime(file, ns=times)
    assert len(CropStore(people, SIZE, place, strict=False, disk_limit=DISK)) == 3


def test_a_file_that_vanishes_during_training_is_named(tmp_path: Path) -> None:
    people = synthetic_people.people(tmp_path, 3)
    store = CropStore(people, SIZE, "none")
    Path(people.images.files[1]).unlink()
    store.get(np.array([0, 2]))
    with pytest.raises(DataError, match=r"0000001\.jpg could be decoded when the run started and cannot now"):
        store.get(np.array([0, 1]))


def test_a_fault_in_a_decoding_thread_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CropStore(synthetic_people.people(tmp_path, 3), SIZE, "none")

    def dies(*_: object) -> None:
        raise MemoryError("no room for the picture")

    monkeypatch.setattr(decode, "cut", dies)
    with pytest.raises(MemoryError, match="no room"):
        store.get(np.array([0, 1]))


@pytest.mark.slow
def test_crops_are_in_memory_once(tmp_path: Path) -> None:
    """270 MB of them, in a process of its own; also where an unreadable image leaves a gap."""
    synthetic_people.people(tmp_path, 3)
    script = """
import json, resource, sys
import numpy as np, torch
from semipose.formats.labels import load_labels
from semipose.crops.store import CropStore
labels, images = sys.argv[1:]
people = load_labels(labels, images)
open(people.images.files[2], "wb").close()
many = people.select(np.resize(np.arange(3), 900))
CropStore(people, (192, 192), "ram", workers=2, strict=False).get(np.arange(2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = CropStore(many, (192, 192), "ram", workers=2, strict=False)
for start in range(0, 320, 64):
    store.get(np.arange(start, start + 64))
print(json.dumps([(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, 900 * store.frame.crop_bytes]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "labels.json"), str(tmp_path / "images")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    grown, crops = json.loads(done.stdout)
    assert grown < crops + 60e6  # a batch or two of 20 MB
