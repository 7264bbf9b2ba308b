"""One file of crops: whole or absent, made by one of many, checked, and never more than the limit."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semipose.crops.cache import CropFile, key, shared
from semipose.crops.crop import CropFrame

SIZE = (9, 7)
FRAME = CropFrame((64, 64))
LIMIT = 10**6


def crop(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 255, (*SIZE, 3), np.uint8)


def empty(file: int) -> CropFile:
    return CropFile(file, 5, SIZE)


def fill(new: CropFile) -> None:
    for row in (3, 0, 1, 4):
        new.put(row, crop(row))
    new.readable = np.arange(5) != 2


def refuse(new: CropFile) -> None:
    raise AssertionError("was there already")


def opened(path: Path, how: Callable[[CropFile], None] = fill, limit: int = LIMIT, sound: bool = True) -> CropFile:
    return shared(path, limit, empty, how, lambda file: sound)


def crops(file: CropFile) -> list[np.ndarray]:
    found = [np.empty((*SIZE, 3), np.uint8) for _ in range(5)]
    assert all(file.get(row, found[row]) for row in (0, 1, 3, 4))
    return [found[row] for row in (0, 1, 3, 4)]


def same(file: CropFile) -> bool:
    expected = [crop(row) for row in (0, 1, 3, 4)]
    return np.array_equal(crops(file), expected) and file.readable.tolist() == [True, True, False, True, True]


def test_what_was_put_in_comes_out_also_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "a.crops"
    assert same(opened(path))
    assert same(opened(path, refuse))
    assert path.stat().st_size == opened(path).nbytes


def test_a_file_that_does_not_hold_any_more_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.crops"
    opened(path)
    with pytest.raises(AssertionError):
        opened(path, refuse, sound=False)
    assert same(opened(path, sound=False))


@pytest.mark.parametrize("place", [0, 20, 47, 52, 70])
def test_a_damaged_beginning_is_noticed(tmp_path: Path, place: int) -> None:
    path = tmp_path / "a.crops"
    opened(path)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(AssertionError):
        opened(path, refuse)
    assert same(opened(path))


@pytest.mark.parametrize("length", [0, 30, 60, 4096, 4500])
def test_a_file_that_was_cut_off_is_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.crops"
    opened(path)
    os.truncate(path, length)
    assert same(opened(path))


def test_a_damaged_crop_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.crops"
    file = opened(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found, pixels = opened(path, refuse), np.empty((*SIZE, 3), np.uint8)
    assert found.get(0, pixels)
    assert not found.get(4, pixels)
    os.truncate(path, file.nbytes - 1)  # while it is open
    assert not found.get(4, pixels)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def dies(new: CropFile) -> None:
        new.put(0, crop(0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path / "a.crops", dies)
    assert [file.name for file in tmp_path.iterdir()] == ["a.lock"]
    assert same(opened(tmp_path / "a.crops"))


def test_what_a_killed_process_left_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 5000)
    assert same(opened(tmp_path / "a.crops"))
    assert not (tmp_path / "a.part").exists()


def slowly(folder: Path, number: int, started: object) -> None:
    def fill_slowly(new: CropFile) -> None:
        (folder / f"built-{number}").touch()
        started.set()  # type: ignore[attr-defined]
        time.sleep(0.3)
        fill(new)

    if same(opened(folder / "a.crops", fill_slowly)):
        (folder / f"good-{number}").touch()


def test_of_processes_that_come_together_one_makes_the_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    first, second = (context.Process(target=slowly, args=(tmp_path, number, started)) for number in range(2))
    first.start()
    assert started.wait(10)
    second.start()
    for process in (first, second):
        process.join(10)
    assert sorted(file.name for file in tmp_path.glob("*-*")) == ["built-0", "good-0", "good-1"]


def test_one_that_is_killed_makes_room_for_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=slowly, args=(tmp_path, 0, started))
    process.start()
    assert started.wait(10)
    process.kill()
    process.join(10)
    assert (tmp_path / "a.part").exists()
    assert same(opened(tmp_path / "a.crops"))
    assert sorted(file.suffix for file in tmp_path.glob("a.*")) == [".crops", ".lock"]


def test_files_that_were_not_used_for_longest_are_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = opened(tmp_path / "a.crops").nbytes
    for name in "bc":
        opened(tmp_path / f"{name}.crops", limit=3 * size)
    assert capsys.readouterr().err == ""
    for age, name in enumerate("cb"):
        os.utime(tmp_path / f"{name}.crops", (age, age))
    old = opened(tmp_path / "b.crops", refuse)  # used just now
    os.utime(tmp_path / "a.crops", (2, 2))
    opened(tmp_path / "d.crops", limit=2 * size)
    assert sorted(file.stem for file in tmp_path.glob("*.crops")) == ["b", "d"]
    assert "deleted" in capsys.readouterr().err
    opened(tmp_path / "e.crops", limit=size)
    assert [file.stem for file in tmp_path.glob("*.crops")] == ["e"]
    assert same(old)  # who has it open goes on


def test_the_name_changes_with_all_that_pixels_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    for file in files:
        Path(file).write_bytes(b"1234")
        os.utime(file, (5, 5))
    regions = np.array([[0, 0, 10, 20], [1, 2, 3, 4]], np.float64)
    names = [key(files, regions, FRAME)]
    assert key(files, regions.copy(), CropFrame((64, 64))) == names[0]
    names += [
        key(files[::-1], regions, FRAME),
        key(files, regions + 1, FRAME),
        key(files, regions, CropFrame((64, 32))),
    ]
    os.utime(files[1], (5, 6))
    names.append(key(files, regions, FRAME))
    os.utime(files[1], (5, 5))
    assert key(files, regions, FRAME) == names[0]
    Path(files[1]).write_bytes(b"12345")
    os.utime(files[1], (5, 5))
    names.append(key(files, regions, FRAME))
    Path(files[1]).unlink()
    names.append(key(files, regions, FRAME))
    monkeypatch.setattr("cv2.__version__", "0.0")
    names.append(key(files, regions, FRAME))
    monkeypatch.setattr("semipose.crops.cache.EDITION", 99)
    names.append(key(files, regions, FRAME))
    assert len(set(names)) == len(names)
