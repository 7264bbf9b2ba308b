"""Video files in, image files out: every n-th frame that differs from the last one kept.

The kept frames are written once, as JPEG files, into a cache folder that all runs share; from there on they are images
like others. The same video gives the same frames in the same order, also in a run that is resumed after the cache was
emptied.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from numpy.typing import NDArray

from semipose.data.paths import cache_folder
from semipose.errors import DataError, UsageError, WriteError
from semipose.system.files import locked, write_json

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
CELLS = 32
"""Frames are compared as CELLS x CELLS average colors: noise averages out, a moving limb does not."""
QUALITY = 95
"""Of the JPEG files; the frames were compressed before, and far more."""

_LAYOUT = 1  # Part of the cache's key: raise it when other frames would be kept, or kept otherwise.
_ABOUT = "frames.json"
_ABANDONED = 24 * 3600  # s


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are used: every `stride`-th one, from the first, that is no near-duplicate.

    A near-duplicate is a frame in which no part of the picture (one of 32 x 32) changed its average color by `change`
    of the full range since the last frame kept. 0 keeps every frame that is looked at.
    """

    stride: int = 5
    change: float = 0.06

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise UsageError(f"--video-stride {self.stride}: must be at least 1, which looks at every frame")
        if not 0 <= self.change < 1:
            raise UsageError(f"--video-change {self.change}: is a share of the full range of color, 0 to below 1")

    def refuse_without(self, videos: Sequence[str]) -> None:
        """Raise UsageError where something was chosen and there is no video to use it on."""
        if self != EVERY_FIFTH and not videos:
            raise UsageError("--video-stride and --video-change are for videos; there is none among --unlabeled.")


EVERY_FIFTH = Sampling()


class Clip:
    """The frames of a video file in order. `read` counts them as they come; `announced` is what the file says, or 0."""

    def __init__(self, path: str | Path) -> None:
        import cv2

        if not os.path.isfile(path):
            raise DataError(f"{path}: no such video.")
        self.path, self.read = str(path), 0
        self._video = cv2.VideoCapture(self.path)
        said = self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(said) if 0 < said < 2**31 else 0

    def frames(self, stride: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(number from 0, picture (H, W, 3) BGR) of every `stride`-th frame that can be decoded, once.

        Raises DataError where there is none at all.
        """
        try:
            while self._video.grab():
                self.read += 1
                if (self.read - 1) % stride == 0:
                    decoded, frame = self._video.retrieve()
                    if decoded:
                        yield self.read - 1, np.asarray(frame, np.uint8)
        finally:
            self._video.release()
        if self.read == 0:
            raise DataError(
                f"{self.path}: no frame could be decoded: it is no video, cut off, or of a kind OpenCV cannot read. "
                "Take it out, convert it (ffmpeg -i VIDEO new.mp4), or write its frames into a folder and give that."
            )

    @property
    def fault(self) -> str:
        """What to say when fewer frames came than announced; empty otherwise."""
        if self.read >= self.announced:
            return ""
        return f"it announces {self.announced} frames and gave {self.read}: cut off or damaged; what it gave is used"


@dataclass(frozen=True)
class Frames:
    """The kept frames of a video as image files, VIDEO'S NAME/NUMBER.jpg, and a sentence on the others."""

    files: list[str]
    note: str


def is_video(source: object) -> bool:
    """Whether `source` is a path that ends like a video's."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES


def frame_name(video: str | Path, number: int) -> str:
    """How frame `number` (from 0) of a video is called, here and in json files: "clip.mp4/000123.jpg"."""
    return f"{os.path.basename(video)}/{number:06d}.jpg"


def frame_files(video: str, sampling: Sampling) -> Frames:
    """The frames of `video` that `sampling` keeps, written to the cache if they are not there yet.

    Raises DataError for a file without a decodable frame, and where the cache cannot be written.
    """
    parent = cache_folder() / "frames"
    folder = parent / _key(video, sampling)
    about = _read(folder)
    try:
        if about is None:
            # One of several processes decodes, the others wait for it.
            with locked(parent / f"{folder.name}.lock"):
                about = _read(folder)
                if about is None:
                    _build(video, sampling, folder)
                    about = _read(folder)
    except (OSError, WriteError) as error:
        raise WriteError(
            f"{video}: its frames cannot be kept in {parent}: {error} Set SEMIPOSE_CACHE to a folder with room, or "
            "look at fewer frames with a larger --video-stride."
        ) from error
    if about is None:
        raise DataError(f"{folder}: files written a moment ago are gone; is another program emptying the cache?")
    return Frames([str(folder / name) for name in about.kept], about.note(video, sampling, folder))


class _About(msgspec.Struct):
    """What frames.json of a cached video says; `kept` gives each file's size in bytes."""

    read: int
    looked_at: int
    fault: str
    kept: dict[str, int]

    def note(self, video: str, sampling: Sampling, folder: Path) -> str:
        dropped = self.looked_at - len(self.kept)
        size = sum(self.kept.values()) / 1e6
        return (
            f"{video}: {self.read} frames, {self.looked_at} looked at (stride {sampling.stride}), {len(self.kept)} "
            f"kept, {dropped} near-duplicates dropped (change below {sampling.change:g}); {size:.0f} MB in {folder}"
            + (f"; {self.fault}" if self.fault else "")
        )


def _key(video: str, sampling: Sampling) -> str:
    """Everything that the kept frames depend on."""
    import cv2

    found = os.stat(video)
    parts = (_LAYOUT, os.path.realpath(video), found.st_size, found.st_mtime_ns, sampling, cv2.__version__)
    return blake2b(repr(parts).encode(), digest_size=10).hexdigest()


def _read(folder: Path) -> _About | None:
    """What is in the cache, or None where anything is missing: a crash or a cleaner may have taken part of it."""
    with suppress(OSError, msgspec.MsgspecError):
        about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=_About)
        if all(os.path.getsize(folder / name) == size for name, size in about.kept.items()):
            return about
    return None


def _build(video: str, sampling: Sampling, folder: Path) -> None:
    """Decode `video` into `folder`, which appears whole or not at all."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - old.stat().st_mtime > _ABANDONED:  # Its process was killed.
            shutil.rmtree(old, ignore_errors=True)
    clip = Clip(video)
    print(f"semipose: decoding {video} ({clip.announced or 'unknown number of'} frames)", file=sys.stderr)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as name:
        temporary = Path(name)
        (temporary / "new" / os.path.basename(video)).mkdir(parents=True)
        looked_at, kept = _write(clip, sampling, temporary / "new")
        about = _About(clip.read, looked_at, clip.fault, kept)
        write_json(temporary / "new" / _ABOUT, msgspec.to_builtins(about))
        # Where the disk has no locks another process may have been quicker.
        if _read(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            (temporary / "new").rename(folder)


def _write(clip: Clip, sampling: Sampling, folder: Path) -> tuple[int, dict[str, int]]:
    """The number of frames looked at, and name and size in bytes of those kept."""
    import cv2

    looked_at, kept = 0, dict[str, int]()
    last: NDArray[np.int16] | None = None
    for number, frame in clip.frames(sampling.stride):
        looked_at += 1
        cells = cv2.resize(frame, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.int16)
        if last is not None and np.abs(cells - last).max() < sampling.change * 255:
            continue
        last = cells
        data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        name = frame_name(clip.path, number)
        (folder / name).write_bytes(data)
        kept[name] = len(data)
    return looked_at, kept
