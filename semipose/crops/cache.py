"""Decoded crops on disk: one file that all runs on the same people share, complete or absent, within a limit of bytes.

The file has a header with checksums, then the crops. It is read and written by position and not mapped into memory.
A disk that is full or gone is then an error that can be caught, and does not end the process. The system keeps what was
read in its file cache, once for all processes.
"""

import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import EDITION, CropFrame
from semipose.system.files import locked

# Magic; number of crops, height, width, offset of the first crop; checksum of the columns. The columns follow: the
# crops' checksums, and whether the image of each could be decoded.
_HEAD = struct.Struct("<16s4QI")
_MAGIC = b"semipose crops 1"
_PAGE = 4096


def key(files: Sequence[str], regions: NDArray[np.float64], frame: CropFrame) -> str:
    """Return a name for the crops of `regions` (N, 4) of `files` (N): a hash of everything their pixels depend on."""
    import cv2

    digest = blake2b(repr((EDITION, cv2.__version__, frame.crop_size)).encode(), digest_size=16)
    digest.update((regions + 0.0).data)  # -0.0 is 0.0
    lines: dict[str, str] = {}
    for file in files:
        if file not in lines:
            lines[file] = f"{file}\0{_size_and_time(file)}\n"
        digest.update(lines[file].encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _size_and_time(file: str) -> tuple[int, int]:
    """Return size and time of change; zeros if there is no such file."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`, which need not exist; 0 if it cannot be written."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


class CropFile:
    """`count` crops of `size` (H', W') in an open `file`; `readable` (N,) is whether their image could be decoded."""

    def __init__(self, file: int, count: int, size: tuple[int, int]) -> None:
        self.file, self.count, self.size = file, count, size
        self.readable = np.zeros(count, bool)
        self._sums = np.zeros(count, np.uint32)
        self._verified = np.zeros(count, bool)
        self._start = -(-(_HEAD.size + 5 * count) // _PAGE) * _PAGE
        self._crop_bytes = size[0] * size[1] * 3

    def __del__(self) -> None:
        os.close(self.file)

    @property
    def nbytes(self) -> int:
        """The file's size."""
        return self._start + self.count * self._crop_bytes

    def put(self, row: int, crop: NDArray[np.uint8]) -> None:
        """Write one crop."""
        self._sums[row] = zlib.crc32(crop.data)
        _write(self.file, crop.data, self._start + row * self._crop_bytes)

    def get(self, row: int, crop: NDArray[np.uint8]) -> bool:
        """Read a crop; return False if it is damaged. Its checksum is verified at the first reading."""
        view, at = crop.data.cast("B"), self._start + row * self._crop_bytes
        while view:
            try:
                read = os.preadv(self.file, [view], at)
            except OSError:
                return False
            if read == 0:
                return False
            view, at = view[read:], at + read
        if not self._verified[row]:
            self._verified[row] = zlib.crc32(crop.data) == self._sums[row]
        return bool(self._verified[row])

    def seal(self) -> None:
        """Write the header, which completes the file, and wait until everything is on the disk."""
        columns = self._sums.tobytes() + self.readable.tobytes()
        _write(self.file, memoryview(self._head(columns) + columns), 0)
        os.fsync(self.file)

    def unseal(self) -> bool:
        """Read the header; return False if the file is damaged, cut off or of another kind."""
        try:
            head, columns = os.pread(self.file, _HEAD.size, 0), os.pread(self.file, 5 * self.count, _HEAD.size)
        except OSError:
            return False
        if os.fstat(self.file).st_size != self.nbytes or head != self._head(columns):
            return False
        self._sums = np.frombuffer(columns, np.uint32, self.count)
        self.readable = np.frombuffer(columns, bool, self.count, 4 * self.count)
        return True

    def _head(self, columns: bytes) -> bytes:
        return _HEAD.pack(_MAGIC, self.count, *self.size, self._start, zlib.crc32(columns))


def shared(
    path: Path,
    limit: int,
    empty: Callable[[int], CropFile],
    fill: Callable[[CropFile], None],
    holds: Callable[[CropFile], bool],
) -> CropFile:
    """Open the crops at `path`; if they are missing, damaged, or no longer hold, `fill` makes them.

    `empty` makes a CropFile of an open file. One process fills it and the others wait. If all files together exceed
    `limit` bytes, the least recently used ones are deleted. Processes that have one open can still read it.
    """
    with locked(path.with_suffix(".lock")):
        found = _found(path, empty)
        if found is None or not holds(found):
            found = _made(path, limit, empty, fill)
        with suppress(OSError):
            os.utime(path)
    return found


def _found(path: Path, empty: Callable[[int], CropFile]) -> CropFile | None:
    try:
        found = empty(os.open(path, os.O_RDONLY))
    except FileNotFoundError:
        return None
    return found if found.unseal() else None


def _made(path: Path, limit: int, empty: Callable[[int], CropFile], fill: Callable[[CropFile], None]) -> CropFile:
    """Make a new file, which gets its name once it is complete."""
    path.unlink(missing_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)  # left by a killed process
    new = empty(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _delete_old(path.parent, new.nbytes, limit)
        if hasattr(os, "posix_fallocate"):  # fails now if the disk is too small
            os.posix_fallocate(new.file, 0, new.nbytes)
        fill(new)
        new.seal()
        with suppress(FileNotFoundError):  # deleted by another process: it can still be read here
            os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return new


def _delete_old(folder: Path, need: int, limit: int) -> None:
    """Delete the least recently used files until `need` more bytes stay within `limit`."""
    found = []
    for file in (file for file in folder.iterdir() if file.suffix in (".crops", ".part")):
        with suppress(FileNotFoundError):
            about = file.stat()
            found.append((about.st_mtime_ns, about.st_size, file))
    excess, deleted = sum(size for _, size, _ in found) + need - limit, 0
    for _, size, file in sorted(found):
        if deleted < excess and size:
            file.unlink(missing_ok=True)
            deleted += size
    if deleted:
        print(
            f"semipose: deleted {deleted / 1e9:.1f} GB of crops in {folder}, the least recently used, to stay "
            f"within --cache-limit {limit / 1e9:g}",
            file=sys.stderr,
        )


def _write(file: int, data: memoryview, at: int) -> None:
    view = data.cast("B")
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
