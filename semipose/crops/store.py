"""Image files in, uint8 crops out: decoded once, kept where they fit, the same whichever place that is."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.crops import cache as crop_cache
from semipose.crops.cache import CropFile
from semipose.crops.crop import CropFrame, cut, read_image
from semipose.data.paths import cache_folder
from semipose.data.people import People
from semipose.errors import DataError, UsageError, WriteError
from semipose.system.memory import free_memory

Cache = Literal["auto", "device", "ram", "disk", "none"]
Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
# Shares of what is free that crops may take; the rest is for training and for others.
_DEVICE_SHARE, _RAM_SHARE, _DISK_SHARE = 0.3, 0.4, 0.5


@dataclass
class CropStore:
    """Crops of `people` for a network input of `size` (H, W), by row.

    Every image is decoded once when the store is made, also with `cache="none"`: unreadable ones are found before
    training, not in its middle. They are dropped from `people` and named in `unreadable`, or with `strict` refused.
    Only where a file of crops is found on disk, nothing is decoded.

    `disk_limit` is what all such files together may take in bytes; 0 means that none may be written. One file holds
    the people of this store and those `beside` it, the run's other streams, so that runs which divide the same people
    otherwise share it. Where several processes of a machine make the same store, crops in RAM are there once for all
    of them (on Linux): the `first` makes them, and `agree`, called by all, gives the others its two numbers, which lead
    to them.
    """

    people: People
    size: tuple[int, int]
    cache: Cache = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int | None = None
    strict: bool = True
    disk_limit: int = 0
    beside: Sequence[People] = ()
    first: bool = True
    agree: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = self.workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads, "semipose-decode", _one_thread_each)
        self.regions = self.frame.regions(self.people.poses.boxes)
        self._crops: Tensor | Pixels | CropFile | None = None
        self._place: Path | None = None
        # Where in `_crops` each person is.
        self._rows = np.arange(len(self.people))
        self.kept = self.cache
        if self.cache == "auto":
            beside = sum(map(len, self.beside))
            self.kept = choose_cache(len(self), self.frame, self.device, self.disk_limit, beside)
        elif self.cache == "device" and self.device.type == "cpu":
            self.kept = "ram"
        self._leave_out(self._keep())
        self.affines = torch.from_numpy(self.frame.affines(self.regions))

    def __len__(self) -> int:
        return len(self.people)

    @staticmethod
    def frame_of(size: tuple[int, int]) -> CropFrame:
        """Where crops lie for a network input of `size` (H, W)."""
        return CropFrame(size)

    @property
    def frame(self) -> CropFrame:
        """Where these crops lie."""
        return self.frame_of(self.size)

    @property
    def zoom(self) -> float:
        """Crop pixels per input pixel."""
        return self.frame.zoom

    @property
    def bytes(self) -> int:
        """What these people's crops take where they are kept."""
        return 0 if self._crops is None else len(self) * self.frame.crop_bytes

    def keypoints(self) -> Tensor:
        """All keypoints (N, K, 2) in crop pixels; float32 on the CPU."""
        points = torch.from_numpy(self.people.poses.keypoints)
        scale, shift = self.affines[:, None, [0, 1], [0, 1]], self.affines[:, None, :2, 2]
        return points * scale + shift

    def get(self, rows: Rows) -> Tensor:
        """Crops (B, H', W', 3) uint8 of `rows`, on the device."""
        return self.ready(rows)()

    def ready(self, rows: Rows) -> Callable[[], Tensor]:
        """Start fetching `rows` and return the call that waits for them: decoding overlaps with training."""
        if isinstance(self._crops, Tensor):
            crops = self._crops.index_select(0, torch.from_numpy(self._rows[rows]).to(self.device, non_blocking=True))
            return lambda: crops
        shape = (len(rows), *self.frame.crop_size, 3)
        if self.device.type == "cuda":
            batch = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:  # torch's own buffers of this size leave gaps in the heap, up to some hundred MB
            batch = torch.from_numpy(np.empty(shape, np.uint8))
        groups, pixels = _alike(self.people.image_index[rows]), batch.numpy()
        several = -(-len(groups) // (4 * self._threads))
        tasks = [self._pool.submit(self._fill, rows, part, pixels) for part in _parts(groups, several)]

        def wait() -> Tensor:
            for task in tasks:
                task.result()
            return batch.to(self.device, non_blocking=True)

        return wait

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self) -> NDArray[np.bool_]:
        """Decode every image once and keep its crops; (N,) whose image could be decoded."""
        if self.kept == "disk":
            return self._share(cache_folder() / "crops", self.disk_limit, self.beside)
        if self.kept == "ram" and self.agree is not None and hasattr(os, "memfd_create"):
            return self._keep_for_all(self.agree)
        shape = (len(self.people), *self.frame.crop_size, 3)
        if self.kept == "device":
            self._crops = torch.empty(shape, dtype=torch.uint8, device=self.device)
        elif self.kept == "ram":
            self._crops = np.empty(shape, np.uint8)
        return self._decode_all(_files(self.people), self.regions, None if self._crops is None else self._put)

    def _put(self, row: int, crop: Pixels) -> None:
        if isinstance(self._crops, Tensor):
            self._crops[row].copy_(torch.from_numpy(crop))
        elif isinstance(self._crops, np.ndarray):
            self._crops[row] = crop

    def _keep_for_all(self, agree: Callable[[tuple[int, int]], tuple[int, int]]) -> NDArray[np.bool_]:
        """One block of memory for the processes of this machine; it has no name, so it ends with the last of them."""
        count, size, file = len(self.people), self.frame.crop_size, -1
        if self.first:
            file = os.memfd_create("semipose-crops")
            self._crops = crops = CropFile(file, count, size)
            crops.readable = self._decode_all(_files(self.people), self.regions, crops.put)
            crops.seal()
        process, theirs = agree((os.getpid(), file))
        if not self.first:
            self._crops = crops = CropFile(os.open(f"/proc/{process}/fd/{theirs}", os.O_RDONLY), count, size)
            crops.unseal()
        return crops.readable

    def _share(self, folder: Path, limit: int, beside: Sequence[People]) -> NDArray[np.bool_]:
        """Keep the crops in a file of `folder`, or find them there."""
        files, regions, self._rows = _catalog([self.people, *beside], self.frame)

        def empty(file: int) -> CropFile:
            return CropFile(file, len(files), self.frame.crop_size)

        def fill(new: CropFile) -> None:
            new.readable = self._decode_all(files, regions, new.put)

        def holds(found: CropFile) -> bool:
            # What could not be read then may have been a matter of a moment.
            return all(read_image(file) is None for file in {files[row] for row in np.flatnonzero(~found.readable)})

        if (need := len(files) * self.frame.crop_bytes) > limit:
            raise UsageError(
                f"--cache {self.cache}: the crops take {need / 1e9:.1f} GB, more than all that may be in {folder}: "
                f"{limit / 1e9:g} GB. Use a larger --cache-limit or --cache none."
            )
        self._place = folder / f"{crop_cache.key(files, regions, self.frame)}.crops"
        try:
            self._crops = crop_cache.shared(self._place, limit, empty, fill, holds)
        except (OSError, WriteError) as error:
            raise DataError(
                f"--cache {self.cache}: {need / 1e9:.1f} GB of crops cannot be kept in {folder} ({error}). Make room "
                "there, set SEMIPOSE_CACHE to a folder on another disk, or use --cache none."
            ) from error
        return self._crops.readable[self._rows]

    def _leave_out(self, readable: NDArray[np.bool_]) -> None:
        """Drop the people whose image could not be decoded, or refuse them."""
        if readable.all():
            return
        people = self.people
        self.unreadable += [people.images.files[i] for i in np.unique(people.image_index[~readable])]
        if self.strict:
            shown = ", ".join(self.unreadable[:5])
            raise DataError(
                f"{len(self.unreadable)} labeled image(s) cannot be decoded: {shown}"
                f"{' ...' if len(self.unreadable) > 5 else ''}. Replace them or remove their entries from the json."
            )
        if not readable.any():
            raise DataError(f"{people.source}: none of its {len(self.unreadable)} images can be decoded.")
        self.people, self.regions, self._rows = people.select(readable), self.regions[readable], self._rows[readable]

    def _decode_all(
        self, files: Sequence[str], regions: NDArray[np.float64], put: Callable[[int, Pixels], None] | None
    ) -> NDArray[np.bool_]:
        """Decode each of `files` (N) once and `put` the crops of its `regions` (N, 4); (N,) whether it could be."""
        readable = np.ones(len(files), bool)

        def decode(groups: list[Rows]) -> None:
            for rows in groups:
                image = read_image(files[rows[0]])
                if image is None:
                    readable[rows] = False
                elif put is not None:
                    for row in rows.tolist():
                        crop = np.empty((*self.frame.crop_size, 3), np.uint8)
                        cut(image, regions[row], crop)
                        put(row, crop)

        numbers = {file: number for number, file in enumerate(dict.fromkeys(files))}
        groups = _alike(np.array([numbers[file] for file in files]))
        list(self._pool.map(decode, _parts(groups, 16)))
        return readable

    def _fill(self, rows: Rows, groups: list[Rows], batch: Pixels) -> None:
        """Write the crops of `rows` to `batch` (B, H', W', 3), at the places in `groups`; each is one image's."""
        for places in groups:
            lacking = [place for place in places.tolist() if not self._copied(self._rows[rows[place]], batch[place])]
            if not lacking:
                continue
            path = self.people.images.files[self.people.image_index[rows[lacking[0]]]]
            image = read_image(path)
            if image is None:
                raise DataError(
                    f"{path} could be decoded when the run started and cannot now: was it changed or moved? Put it "
                    "back and go on with `semipose resume`."
                )
            for place in lacking:
                cut(image, self.regions[rows[place]], batch[place])

    def _copied(self, row: int, crop: Pixels) -> bool:
        """Copy a kept crop; False where it has to be decoded."""
        if isinstance(self._crops, np.ndarray):
            crop[:] = self._crops[row]
            return True
        if isinstance(self._crops, CropFile):
            if self._crops.get(row, crop):
                return True
            if self._place is not None:
                self._place.unlink(missing_ok=True)  # damaged: the next run makes it anew
        return False


def choose_cache(count: int, frame: CropFrame, device: torch.device, disk_limit: int = 0, beside: int = 0) -> Cache:
    """The fastest place with room for the crops of `count` people; see `CropStore` for the rest."""
    each = frame.crop_bytes
    need = each * count
    if device.type == "cuda" and need < _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    if need < _RAM_SHARE * free_memory():
        return "ram"
    need += each * beside
    return "disk" if need < min(disk_limit, _DISK_SHARE * crop_cache.room(cache_folder())) else "none"


def _one_thread_each() -> None:
    import cv2

    # Images are decoded side by side; several threads for each cost more than they give.
    cv2.setNumThreads(1)


def _alike(numbers: Rows) -> list[Rows]:
    """The positions of each number in `numbers` (N,)."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _parts(groups: list[Rows], count: int) -> list[list[Rows]]:
    return [groups[at : at + count] for at in range(0, len(groups), count)]


def _files(people: People) -> list[str]:
    return [people.images.files[image] for image in people.image_index]


def _catalog(parts: Sequence[People], frame: CropFrame) -> tuple[list[str], NDArray[np.float64], Rows]:
    """File and region of everybody in `parts`, once and in an order of their own; where those of the first part are."""
    regions = np.concatenate([frame.regions(people.poses.boxes) for people in parts])
    crops = list(zip([file for people in parts for file in _files(people)], map(tuple, regions.tolist()), strict=True))
    places = {crop: place for place, crop in enumerate(sorted(set(crops)))}
    rows = np.array([places[crop] for crop in crops[: len(parts[0])]], np.int64)
    return [file for file, _ in places], np.array([region for _, region in places], np.float64), rows
