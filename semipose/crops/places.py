"""Storage of decoded crops: on the device, in memory, in memory that processes share, or in a file on disk."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.crops import cache as crop_cache
from semipose.crops.cache import CropFile
from semipose.crops.crop import CropFrame, read_image
from semipose.crops.decode import Decoder, Pixels, Rows
from semipose.data.paths import cache_folder
from semipose.data.people import People
from semipose.errors import DataError, UsageError, WriteError
from semipose.system.memory import free_memory

Cache = Literal["auto", "device", "ram", "disk", "none"]
# Shares of the free memory or disk that crops may take; the rest is for training and for other programs.
_DEVICE_SHARE, _RAM_SHARE, _DISK_SHARE = 0.3, 0.4, 0.5


class Sharing(NamedTuple):
    """Sharing of crops in RAM among the processes of one machine: the one with `first` set makes them.

    `from_first`, which all call, returns the two numbers that the first process gives to it.
    """

    first: bool
    from_first: Callable[[tuple[int, int]], tuple[int, int]]


class DeviceCrops:
    """Crops (N, H', W', 3) on the network's device."""

    def __init__(self, count: int, size: tuple[int, int], device: torch.device) -> None:
        self._crops = torch.empty((count, *size, 3), dtype=torch.uint8, device=device)

    def put(self, row: int, crop: Pixels) -> None:
        """Keep one crop."""
        self._crops[row].copy_(torch.from_numpy(crop))

    def select(self, rows: Rows) -> Tensor:
        """Return the crops of `rows`."""
        return self._crops.index_select(0, torch.from_numpy(rows).to(self._crops.device, non_blocking=True))


class MemoryCrops:
    """Crops (N, H', W', 3) in the memory of this process."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._crops = np.empty((count, *size, 3), np.uint8)

    def put(self, row: int, crop: Pixels) -> None:
        """Keep one crop."""
        self._crops[row] = crop

    def get(self, row: int, crop: Pixels) -> bool:
        """Copy one crop and return True."""
        crop[:] = self._crops[row]
        return True


def can_share_memory() -> bool:
    """Return whether processes can share memory that has no name, as on Linux."""
    return hasattr(os, "memfd_create")


def share_in_memory(decoder: Decoder, files: Sequence[str], regions: NDArray[np.float64], sharing: Sharing) -> CropFile:
    """Return the crops of `regions` (N, 4) of `files` (N) in one block of memory for all processes of this machine.

    The block has no name, so the system frees it with the last process, also after kill -9. A named block of
    `multiprocessing.shared_memory` would stay behind when its cleaning process is killed along with the others.
    """
    file = -1
    if sharing.first:
        file = os.memfd_create("semipose-crops")
        crops = CropFile(file, len(files), decoder.crop_size)
        crops.readable = decoder.decode_all(files, regions, crops.put)
        crops.seal()
    process, first_file = sharing.from_first((os.getpid(), file))
    if not sharing.first:
        crops = CropFile(os.open(f"/proc/{process}/fd/{first_file}", os.O_RDONLY), len(files), decoder.crop_size)
        crops.unseal()
    return crops


class DiskCrops(NamedTuple):
    """Crops in file `path`; `rows` (N,) are those of the first stream in it."""

    path: Path
    crops: CropFile
    rows: Rows


def keep_on_disk(decoder: Decoder, streams: Sequence[People], frame: CropFrame, limit: int, flag: str) -> DiskCrops:
    """Find the crops of all `streams` in a file of the cache folder, or make it; `flag` is for messages.

    Raises UsageError if they take more than `limit` bytes, DataError if they cannot be written.
    """
    folder = cache_folder() / "crops"
    files, regions, rows = _catalog(streams, frame)

    def empty(file: int) -> CropFile:
        return CropFile(file, len(files), frame.crop_size)

    def fill(new: CropFile) -> None:
        new.readable = decoder.decode_all(files, regions, new.put)

    def still_holds(found: CropFile) -> bool:
        # An image may have been unreadable for a moment only.
        return all(read_image(file) is None for file in {files[row] for row in np.flatnonzero(~found.readable)})

    if (need := len(files) * frame.crop_bytes) > limit:
        raise UsageError(
            f"{flag}: the crops take {need / 1e9:.1f} GB, more than the limit of all crops in {folder}: "
            f"{limit / 1e9:g} GB. Use a larger --cache-limit or --cache none."
        )
    path = folder / f"{crop_cache.key(files, regions, frame)}.crops"
    try:
        return DiskCrops(path, crop_cache.shared(path, limit, empty, fill, still_holds), rows)
    except (OSError, WriteError) as error:
        raise DataError(
            f"{flag}: {need / 1e9:.1f} GB of crops cannot be kept in {folder} ({error}). Make room "
            "there, set SEMIPOSE_CACHE to a folder on another disk, or use --cache none."
        ) from error


def choose_cache(
    count: int, frame: CropFrame, device: torch.device, disk_limit: int = 0, other_count: int = 0
) -> Cache:
    """Return the fastest place with enough free space for the crops of `count` people.

    `disk_limit` is the size in bytes of all files of crops together. A file also holds `other_count` other people.
    """
    size = frame.crop_bytes * count
    if device.type == "cuda" and size < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    if size < _RAM_SHARE * free_memory():
        return "ram"
    size += frame.crop_bytes * other_count
    return "disk" if size < min(disk_limit, _DISK_SHARE * crop_cache.free_bytes(cache_folder())) else "none"


def files_of(people: People) -> list[str]:
    """Return the image file of each person."""
    return [people.images.files[image] for image in people.image_index]


def _catalog(streams: Sequence[People], frame: CropFrame) -> tuple[list[str], NDArray[np.float64], Rows]:
    """Return file and region of each distinct crop in `streams`, sorted, and the rows of the first stream in these.

    Runs that divide the same people differently have the same catalog, and so share a file.
    """
    regions = np.concatenate([frame.regions(people.poses.boxes) for people in streams])
    files = [file for people in streams for file in files_of(people)]
    crops = list(zip(files, map(tuple, regions.tolist()), strict=True))
    row_of = {crop: row for row, crop in enumerate(sorted(set(crops)))}
    rows = np.array([row_of[crop] for crop in crops[: len(streams[0])]], np.int64)
    return [file for file, _ in row_of], np.array([region for _, region in row_of], np.float64), rows
