"""Extract frames of videos as image files: every n-th frame that differs from the last one kept.

Frames are written once, as JPEG files, into a cache folder that all runs share; from there on they are images like
others. The same video gives the same frames in the same order, also if a run is resumed after the cache was emptied.
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

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
CELLS = 32
"""Frames are compared as CELLS x CELLS average colors: noise averages out, a moving limb does not."""
JPEG_QUALITY = 95
"""Far above the quality of the video's own compression."""

_LAYOUT = 2  # Part of the cache's key: raise it when the choice of frames or the way they are stored changes.
_INDEX_FILE = "frames.json"
_ABANDONED_AFTER = 24 * 3600  # seconds


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are used: every `stride`-th frame, from the first, except near-duplicates.

    Frames are compared by the average color of each of 32 x 32 cells. A near-duplicate differs in all of them by less
    than `change` of the full range from the last kept frame. 0 keeps every `stride`-th frame.
    """

    stride: int = 5
    change: float = 0.06

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise UsageError(f"--video-stride {self.stride}: must be at least 1, which uses every frame")
        if not 0 <= self.change < 1:
            raise UsageError(f"--video-change {self.change}: expected a share of the color range, from 0 to below 1")

    def refuse_if_unused(self, videos: Sequence[str]) -> None:
        """Raise UsageError if options differ from the defaults and there is no video."""
        if self != DEFAULT_SAMPLING and not videos:
            raise UsageError("--video-stride and --video-change are for videos; --unlabeled holds none.")


DEFAULT_SAMPLING = Sampling()


class Clip:
    """The frames of a video file in order. `read` counts them; `announced` is the number in the header, or 0."""

    def __init__(self, path: str | Path) -> None:
        import cv2

        if not os.path.isfile(path):
            raise DataError(f"{path}: no such video.")
        self.path, self.read = str(path), 0
        self._video = cv2.VideoCapture(self.path)
        said = self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(said) if 0 < said < 2**31 else 0

    def frames(self, stride: int = 1) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (number from 0, picture (H, W, 3) BGR) of every `stride`-th frame that can be decoded; only once.

        Raises DataError if no frame can be decoded.
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
                "Remove it, convert it (ffmpeg -i VIDEO new.mp4), or write its frames into a folder and give that."
            )

    @property
    def fault(self) -> str:
        """A message if fewer frames were decoded than announced, else empty."""
        if self.read >= self.announced:
            return ""
        return f"it announces {self.announced} frames and gave {self.read}: cut off or damaged; what it gave is used"


@dataclass(frozen=True)
class Frames:
    """The kept frames of a video as image files, VIDEO'S NAME/NUMBER.jpg, and a note with the counts."""

    files: list[str]
    note: str


def is_video(source: object) -> bool:
    """Whether `source` is a path with a video's suffix."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in VIDEO_SUFFIXES


def frame_name(video: str | Path, number: int) -> str:
    """Return the file name of frame `number` (from 0), here and in json files: "clip.mp4/000123.jpg"."""
    return f"{os.path.basename(video)}/{number:06d}.jpg"


def frame_files(video: str, sampling: Sampling) -> Frames:
    """Return the frames of `video` that `sampling` keeps, from the cache or by decoding the video into it.

    Raises DataError for a file without a decodable frame, and WriteError if the cache cannot be written.
    """
    parent = cache_folder() / "frames"
    folder = parent / _key(video, sampling)
    index = _read(folder)
    try:
        if index is None:
            # One of several processes decodes, the others wait for it.
            with locked(parent / f"{folder.name}.lock"):
                index = _read(folder)
                if index is None:
                    _build(video, sampling, folder)
                    index = _read(folder)
    except (OSError, WriteError) as error:
        raise WriteError(
            f"{video}: its frames cannot be written to {parent}: {error} Set SEMIPOSE_CACHE to a folder with free "
            "space, or use fewer frames with a larger --video-stride."
        ) from error
    if index is None:
        raise DataError(f"{folder}: files that were just written are gone; is another program emptying the cache?")
    return Frames([str(folder / name) for name in index.kept], index.note(video, sampling, folder))


class _FrameIndex(msgspec.Struct):
    """Content of a cached video's frames.json; `kept` maps file names to sizes in bytes."""

    read: int
    compared: int
    fault: str
    kept: dict[str, int]

    def note(self, video: str, sampling: Sampling, folder: Path) -> str:
        dropped = self.compared - len(self.kept)
        size = sum(self.kept.values()) / 1e6
        return (
            f"{video}: {self.read} frames, {self.compared} compared (stride {sampling.stride}), {len(self.kept)} "
            f"kept, {dropped} near-duplicates dropped (change below {sampling.change:g}); {size:.0f} MB in {folder}"
            + (f"; {self.fault}" if self.fault else "")
        )


def _key(video: str, sampling: Sampling) -> str:
    """A hash of everything that the kept frames depend on."""
    import cv2

    found = os.stat(video)
    parts = (_LAYOUT, os.path.realpath(video), found.st_size, found.st_mtime_ns, sampling, cv2.__version__)
    return blake2b(repr(parts).encode(), digest_size=10).hexdigest()


def _read(folder: Path) -> _FrameIndex | None:
    """Return the index of a complete cache entry, else None: a crash or a cleaner may have removed files."""
    with suppress(OSError, msgspec.MsgspecError):
        index = msgspec.json.decode((folder / _INDEX_FILE).read_bytes(), type=_FrameIndex)
        if all(os.path.getsize(folder / name) == size for name, size in index.kept.items()):
            return index
    return None


def _build(video: str, sampling: Sampling, folder: Path) -> None:
    """Decode `video` into `folder`, which appears complete or not at all."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - old.stat().st_mtime > _ABANDONED_AFTER:  # Its process was killed.
            shutil.rmtree(old, ignore_errors=True)
    clip = Clip(video)
    print(f"semipose: decoding {video} ({clip.announced or 'unknown number of'} frames)", file=sys.stderr)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True) as name:
        temporary = Path(name)
        (temporary / "new" / os.path.basename(video)).mkdir(parents=True)
        compared, kept = _write(clip, sampling, temporary / "new")
        index = _FrameIndex(clip.read, compared, clip.fault, kept)
        write_json(temporary / "new" / _INDEX_FILE, msgspec.to_builtins(index))
        # On disks without locks another process may have finished first.
        if _read(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            (temporary / "new").rename(folder)


def _write(clip: Clip, sampling: Sampling, folder: Path) -> tuple[int, dict[str, int]]:
    """Return the number of frames compared, and the sizes in bytes of the files kept, by name."""
    import cv2

    compared, kept = 0, dict[str, int]()
    last: NDArray[np.int16] | None = None
    for number, frame in clip.frames(sampling.stride):
        compared += 1
        cells = cv2.resize(frame, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.int16)
        if last is not None and np.abs(cells - last).max() < sampling.change * 255:
            continue
        last = cells
        data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        name = frame_name(clip.path, number)
        (folder / name).write_bytes(data)
        kept[name] = len(data)
    return compared, kept
