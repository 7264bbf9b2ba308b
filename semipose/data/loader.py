"""Image files in, uint8 crops out: decoded once, kept where they fit, the same whichever place that is."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.data.crops import MARGIN, CropFrame, cut, read_image
from semipose.data.people import People
from semipose.errors import DataError

Cache = Literal["auto", "device", "ram", "none"]
# Shares of the free memory that crops may take; the rest is for training.
_DEVICE_SHARE, _RAM_SHARE = 0.3, 0.4


@dataclass
class CropStore:
    """Crops of `people` for a network input of `size` (H, W), by row.

    Every image is decoded once when the store is made, also with `cache="none"`: unreadable ones are found before
    training, not in its middle. They are dropped from `people` and named in `unreadable`, or with `strict` refused.
    """

    people: People
    size: tuple[int, int]
    cache: Cache = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int | None = None
    strict: bool = True
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frame = CropFrame(self.size)
        self._pool = ThreadPoolExecutor(self.workers or os.cpu_count() or 1, "semipose-decode")
        self.kept = self._choose()
        crops = self._decode_all()
        self.regions = self.frame.regions(self.people.poses.boxes)
        self.affines = torch.from_numpy(self.frame.affines(self.regions))
        if crops is not None and self.kept == "device":
            crops = crops.to(self.device)
        self._crops = crops

    def __len__(self) -> int:
        return len(self.people)

    @property
    def zoom(self) -> float:
        """Crop pixels per input pixel."""
        return self.frame.crop_size[0] / (self.size[0] * MARGIN)

    def keypoints(self) -> Tensor:
        """All keypoints (N, K, 2) in crop pixels; float32 on the CPU."""
        points = torch.from_numpy(self.people.poses.keypoints)
        scale, shift = self.affines[:, None, [0, 1], [0, 1]], self.affines[:, None, :2, 2]
        return points * scale + shift

    def get(self, rows: NDArray[np.int64]) -> Tensor:
        """Crops (B, H', W', 3) uint8 of `rows`, on the device."""
        return self.ready(rows)()

    def ready(self, rows: NDArray[np.int64]) -> Callable[[], Tensor]:
        """Start fetching `rows` and return the call that waits for them: decoding overlaps with training."""
        if self._crops is not None:
            index = torch.from_numpy(rows)
            if self.kept == "device":
                index = index.to(self.device, non_blocking=True)
            crops = self._crops.index_select(0, index)
            return lambda: self._sent(crops)
        futures = [self._pool.submit(self._one, int(row)) for row in rows]
        return lambda: self._sent(torch.from_numpy(np.stack([future.result() for future in futures])))

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sent(self, crops: Tensor) -> Tensor:
        if self.device.type == "cuda" and not crops.is_cuda:
            crops = crops.pin_memory()
        return crops.to(self.device, non_blocking=True)

    def _choose(self) -> str:
        """Where crops are kept: what the user asked for, or the fastest place with room."""
        need = self.frame.crop_bytes * len(self.people)
        if self.cache != "auto":
            return "ram" if self.cache == "device" and self.device.type == "cpu" else self.cache
        if self.device.type == "cuda" and need < _DEVICE_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            return "device"
        return "ram" if need < _RAM_SHARE * free_memory() else "none"

    def _decode_all(self) -> Tensor | None:
        """Decode every image once; fill the crops when they are kept, and leave out people of unreadable images."""
        people = self.people
        regions = self.frame.regions(people.poses.boxes)
        crops = np.empty((len(people), *self.frame.crop_size, 3), np.uint8) if self.kept != "none" else None
        order = np.argsort(people.image_index, kind="stable")
        starts = np.flatnonzero(np.diff(people.image_index[order], prepend=-1))
        readable = np.ones(len(people), bool)
        # A bounded window: a million files must not become a million waiting tasks.
        waiting: deque[tuple[NDArray[np.int64], Future[bool]]] = deque()
        for rows in np.split(order, starts[1:]):
            waiting.append((rows, self._pool.submit(self._fill, rows, regions, crops)))
            if len(waiting) > 256:
                self._collect(waiting.popleft(), readable)
        while waiting:
            self._collect(waiting.popleft(), readable)
        return self._without(readable, crops)

    def _collect(self, task: tuple[NDArray[np.int64], "Future[bool]"], readable: NDArray[np.bool_]) -> None:
        rows, future = task
        if not future.result():
            readable[rows] = False
            self.unreadable.append(self.people.images.files[self.people.image_index[rows[0]]])

    def _without(self, readable: NDArray[np.bool_], crops: NDArray[np.uint8] | None) -> Tensor | None:
        if self.unreadable and self.strict:
            shown = ", ".join(self.unreadable[:5])
            raise DataError(
                f"{len(self.unreadable)} labeled image(s) cannot be decoded: {shown}"
                f"{' ...' if len(self.unreadable) > 5 else ''}. Replace them or remove their entries from the json."
            )
        if not readable.any():
            raise DataError(f"{self.people.source}: none of its {len(self.unreadable)} images can be decoded.")
        if not readable.all():
            self.people = self.people.select(readable)
            crops = crops[readable] if crops is not None else None
        return None if crops is None else torch.from_numpy(crops)

    def _fill(self, rows: NDArray[np.int64], regions: NDArray[np.int64], crops: NDArray[np.uint8] | None) -> bool:
        """Decode the image of `rows` and cut its people; False when it cannot be read."""
        image = read_image(self.people.images.files[self.people.image_index[rows[0]]])
        if image is None:
            return False
        if crops is not None:
            for row in rows:
                crops[row] = cut(image, regions[row], self.frame.crop_size)
        return True

    def _one(self, row: int) -> NDArray[np.uint8]:
        path = self.people.images.files[self.people.image_index[row]]
        image = read_image(path)
        if image is None:
            raise DataError(f"{path} could be decoded when the run started and cannot now: was it changed or moved?")
        return cut(image, self.regions[row], self.frame.crop_size)


def free_memory() -> int:
    """Bytes of RAM that programs can still take."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        # Not Linux: half of the installed memory is a careful guess; Windows does not even tell that.
        if hasattr(os, "sysconf"):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return 4 * 2**30


class Sampler:
    """Rows of a stream for each update, a function of (seed, stream, update) alone: nothing to save, exact resume.

    Each epoch is one pass in a new order; a batch that an epoch cannot fill goes on into the next.
    """

    def __init__(self, count: int, batch_size: int, seed: int, stream: str) -> None:
        self.count, self.batch_size = count, batch_size
        self._key = [seed, *stream.encode()]
        self._orders: dict[int, NDArray[np.int64]] = {}

    def rows(self, update: int) -> NDArray[np.int64]:
        """(batch_size,) rows of the global batch of this update."""
        places = np.arange(update * self.batch_size, (update + 1) * self.batch_size)
        epochs = places // self.count
        return np.concatenate(
            [self._order(int(epoch))[places[epochs == epoch] % self.count] for epoch in np.unique(epochs)]
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            for old in [known for known in self._orders if known < epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = np.random.default_rng([*self._key, epoch]).permutation(self.count)
        return self._orders[epoch]
