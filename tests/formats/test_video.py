"""Frames of videos: which are kept, how they are named, that they stay the same, and what damage does."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.crops.crop import read_image
from semipose.errors import DataError, UsageError, WriteError
from semipose.formats import video
from semipose.formats.video import Clip, Frames, Sampling, frame_files, frame_name
from tests.synthetic_people import people

SIZE = (120, 160)
Picture = np.ndarray


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Six synthetic people, all different."""
    found = people(tmp_path_factory.mktemp("drawn"), 6, size=SIZE)
    return [cv2.imread(file) for file in found.images.files]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(file: Path, frames: Sequence[Picture]) -> str:
    """A video of `frames` (H, W, 3) BGR, of the kind its name says."""
    code = {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80"}[file.suffix]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*code), 25, (SIZE[1], SIZE[0]))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return str(file)


def noisy(picture: Picture, seed: int) -> Picture:
    """`picture` as a camera sees it: gray levels that tremble by 4 (standard deviation)."""
    noise = np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def still(pictures: Sequence[Picture], times: int) -> list[Picture]:
    """Every picture shown `times` times, with noise."""
    return [noisy(picture, 100 * i + k) for i, picture in enumerate(pictures) for k in range(times)]


def numbers(frames: Frames) -> list[int]:
    return [int(Path(file).stem) for file in frames.files]


@pytest.mark.parametrize("kind", [".mp4", ".avi", ".webm"])
def test_a_scene_that_stands_still_gives_one_frame(tmp_path: Path, pictures: list[Picture], kind: str) -> None:
    clip = write(tmp_path / f"clip{kind}", still(pictures[:3], 8))
    frames = frame_files(clip, Sampling(stride=1))
    assert numbers(frames) == [0, 8, 16]
    assert "24 frames, 24 compared (stride 1), 3 kept, 21 near-duplicates dropped" in frames.note
    assert clip in frames.note


def test_every_pose_of_a_moving_person_is_kept(tmp_path: Path, pictures: list[Picture]) -> None:
    clip = write(tmp_path / "clip.avi", [np.roll(pictures[0], 4 * i, 1) for i in range(20)])
    assert numbers(frame_files(clip, Sampling(stride=4))) == [0, 4, 8, 12, 16]


def test_slow_motion_is_measured_from_the_last_frame_kept(tmp_path: Path) -> None:
    # Frame after frame differs by 3 levels of 255, which alone is nothing; every fifth adds up to 15.
    clip = write(tmp_path / "clip.avi", [np.full((*SIZE, 3), 20 + 3 * i, np.uint8) for i in range(21)])
    assert numbers(frame_files(clip, Sampling(stride=1, change=0.055))) == [0, 5, 10, 15, 20]


def test_a_small_part_that_changes_is_a_change(tmp_path: Path, pictures: list[Picture]) -> None:
    hand = pictures[0].copy()
    cv2.circle(hand, (30, 30), 5, (255, 255, 255) if hand[30, 30].mean() < 128 else (0, 0, 0), -1)
    clip = write(tmp_path / "clip.avi", still([pictures[0], hand], 3))
    assert numbers(frame_files(clip, Sampling(stride=1))) == [0, 3]


def test_a_threshold_of_zero_keeps_every_frame(tmp_path: Path, pictures: list[Picture]) -> None:
    clip = write(tmp_path / "clip.avi", [pictures[0]] * 7)
    assert numbers(frame_files(clip, Sampling(stride=2, change=0))) == [0, 2, 4, 6]
    assert numbers(frame_files(clip, Sampling(stride=2))) == [0]


def test_frames_are_the_videos_pictures_under_their_own_numbers(tmp_path: Path, pictures: list[Picture]) -> None:
    clip = write(tmp_path / "my clip.avi", pictures)
    frames = frame_files(clip, Sampling(stride=2))
    assert [str(Path(file).relative_to(Path(file).parents[1])) for file in frames.files] == [
        "my clip.avi/000000.jpg",
        "my clip.avi/000002.jpg",
        "my clip.avi/000004.jpg",
    ]
    assert frame_name("a/my clip.avi", 4) == "my clip.avi/000004.jpg"
    decoded = dict(Clip(clip).frames())
    for number, file in zip(numbers(frames), frames.files, strict=True):
        image = read_image(file)
        assert image is not None
        assert np.abs(image[..., ::-1].astype(int) - decoded[number]).mean() < 2
        assert np.abs(image[..., ::-1].astype(int) - pictures[number]).mean() < 6


def test_frames_are_decoded_once_and_again_where_the_cache_lost_some(
    tmp_path: Path, cache: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write(tmp_path / "clip.avi", pictures)
    first = frame_files(clip, Sampling(stride=1))
    content = [Path(file).read_bytes() for file in first.files]
    with monkeypatch.context() as blind:
        blind.setattr(Clip, "frames", None)
        assert frame_files(clip, Sampling(stride=1)) == first
    # What a power cut or a cleaner may leave: a file gone, a file empty, the list gone, everything gone.
    losses = [
        lambda: Path(first.files[2]).unlink(),
        lambda: Path(first.files[1]).write_bytes(b""),
        lambda: next(cache.rglob("frames.json")).unlink(),
        lambda: shutil.rmtree(cache),
    ]
    for lose in losses:
        lose()
        assert frame_files(clip, Sampling(stride=1)) == first
        assert [Path(file).read_bytes() for file in first.files] == content


def test_another_video_or_choice_never_gets_the_frames_of_the_first(tmp_path: Path, pictures: list[Picture]) -> None:
    clip = write(tmp_path / "clip.avi", pictures)
    first = frame_files(clip, Sampling(stride=1))
    assert len(frame_files(clip, Sampling(stride=3)).files) == 2
    assert len(frame_files(clip, Sampling(stride=1, change=0.99)).files) == 1
    (tmp_path / "b").mkdir()
    copy = shutil.copy2(clip, tmp_path / "b" / "clip.avi")  # The same name, size and time.
    assert not set(frame_files(str(copy), Sampling(stride=1)).files) & set(first.files)
    write(Path(clip), pictures[:2])
    assert len(frame_files(clip, Sampling(stride=1)).files) == 2


def test_a_killed_decoding_leaves_nothing_behind_that_is_used(
    tmp_path: Path, cache: Path, pictures: list[Picture]
) -> None:
    clip = write(tmp_path / "clip.avi", still(pictures, 4))
    code = (
        "import os, sys; import semipose.formats.video as v; old = v.frame_name\n"
        "def name(path, number):\n"
        "    if number == 12: os.kill(os.getpid(), 9)\n"
        "    return old(path, number)\n"
        "v.frame_name = name; v.frame_files(sys.argv[1], v.Sampling(stride=1))"
    )
    assert subprocess.run([sys.executable, "-c", code, clip]).returncode == -9
    assert len(list(cache.rglob("*.jpg"))) == 3
    assert numbers(frame_files(clip, Sampling(stride=1))) == [0, 4, 8, 12, 16, 20]
    assert len(list(cache.rglob("*.jpg"))) == 3 + 6
    # Two days later the leftovers go, when the frames are needed anew.
    for folder in (cache / "frames").iterdir():
        os.utime(folder, (time.time() - 2 * 86400,) * 2)
    next(cache.rglob("frames.json")).unlink()
    assert numbers(frame_files(clip, Sampling(stride=1))) == [0, 4, 8, 12, 16, 20]
    assert len(list(cache.rglob("*.jpg"))) == 6


def test_several_processes_share_one_decoding(tmp_path: Path, cache: Path, pictures: list[Picture]) -> None:
    clip = write(tmp_path / "clip.avi", still(pictures, 4))
    code = "import sys; from semipose.formats.video import *; print(frame_files(sys.argv[1], Sampling(stride=1)).files)"
    started = [
        subprocess.Popen([sys.executable, "-c", code, clip], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert said[0][0] == said[1][0]
    assert sum(b"decoding" in errors for _, errors in said) == 1
    assert len(list(cache.rglob("*.jpg"))) == 6


def test_on_a_disk_without_locks_frames_in_use_are_not_replaced(
    tmp_path: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "clip.avi", pictures)
    monkeypatch.setattr("semipose.system.files.fcntl", None)
    usual, quick = video._write, dict[str, int]()

    def slow(clip: Clip, sampling: Sampling, folder: Path) -> tuple[int, dict[str, int]]:
        monkeypatch.setattr(video, "_write", usual)
        quick.update({file: os.stat(file).st_ino for file in frame_files(path, Sampling()).files})
        return usual(clip, sampling, folder)

    monkeypatch.setattr(video, "_write", slow)
    assert {file: os.stat(file).st_ino for file in frame_files(path, Sampling()).files} == quick


@pytest.mark.parametrize("kind", [".avi", ".webm"])
def test_a_video_cut_off_gives_what_is_left_and_says_so(tmp_path: Path, pictures: list[Picture], kind: str) -> None:
    whole = Path(write(tmp_path / f"whole{kind}", still(pictures, 5)))
    cut = tmp_path / f"cut{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = frame_files(str(cut), Sampling(stride=1))
    found = re.search(r"it announces 30 frames and gave (\d+): cut off or damaged", frames.note)
    assert found is not None
    assert 5 < int(found[1]) < 25
    assert numbers(frames) == [n for n in (0, 5, 10, 15, 20, 25) if n < int(found[1])]
    assert "announces" not in frame_files(str(whole), Sampling(stride=1)).note


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100, "half"])
def test_what_is_no_video_is_refused_and_leaves_no_frames(
    tmp_path: Path, cache: Path, pictures: list[Picture], content: bytes | str
) -> None:
    if content == "half":  # An mp4 file's list of frames is at its end.
        whole = Path(write(tmp_path / "whole.mp4", pictures)).read_bytes()
        content = whole[: len(whole) // 2]
    assert isinstance(content, bytes)
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.mp4: no frame could be decoded.*convert it"):
        frame_files(str(tmp_path / "clip.mp4"), Sampling())
    assert [file.suffix for file in cache.rglob("*") if file.is_file()] == [".lock"]
    with pytest.raises(DataError, match="no such video"):
        Clip(tmp_path / "gone.mp4")


def test_a_full_or_closed_cache_is_one_clear_error(
    tmp_path: Path, cache: Path, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write(tmp_path / "clip.avi", pictures)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match=r"No space left.*SEMIPOSE_CACHE.*stride"):
            frame_files(clip, Sampling())
    assert [file.suffix for file in cache.rglob("*") if file.is_file()] == [".lock"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEMIPOSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(WriteError, match=r"Not a directory.*SEMIPOSE_CACHE"):
        frame_files(clip, Sampling())


@pytest.mark.parametrize(("stride", "change"), [(0, 0.1), (-1, 0.1), (1, -0.1), (1, 1.0), (1, float("nan"))])
def test_impossible_choices_are_usage_errors(stride: int, change: float) -> None:
    with pytest.raises(UsageError, match="--video-"):
        Sampling(stride, change)


def test_a_real_video_gives_a_fifth_of_its_frames(data_root: Path) -> None:
    frames = frame_files(str(data_root / "animal" / "mirror_mouse" / "test_vid.mp4"), Sampling())
    assert 190 <= len(frames.files) <= 199
    assert "994 frames, 199 compared (stride 5)" in frames.note
    assert all(os.path.getsize(file) > 1000 for file in frames.files)
