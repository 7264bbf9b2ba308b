"""Decode images with several threads and cut crops out of them."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from semipose.crops.crop import cut, read_image
from semipose.errors import DataError

Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
T = TypeVar("T")

_IMAGES_PER_TASK = 16


class Decoder:
    """Threads that make crops of `crop_size` (H', W'); `workers` threads, default one per core."""

    def __init__(self, crop_size: tuple[int, int], workers: int | None) -> None:
        self.crop_size, self.workers = crop_size, workers or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self.workers, "semipose-decode", _use_one_thread_in_opencv)

    def decode_all(
        self, files: Sequence[str], regions: NDArray[np.float64], put: Callable[[int, Pixels], None] | None
    ) -> NDArray[np.bool_]:
        """Decode each of `files` (N) once and `put` the crops of its `regions` (N, 4).

        Returns (N,) whether the file could be decoded. With `put` None no crops are made.
        """
        readable = np.ones(len(files), bool)

        def decode(groups: list[Rows]) -> None:
            for rows in groups:
                image = read_image(files[rows[0]])
                if image is None:
                    readable[rows] = False
                elif put is not None:
                    for row in rows.tolist():
                        crop = np.empty((*self.crop_size, 3), np.uint8)
                        cut(image, regions[row], crop)
                        put(row, crop)

        numbers = {file: number for number, file in enumerate(dict.fromkeys(files))}
        groups = positions_by_value(np.array([numbers[file] for file in files]))
        list(self._pool.map(decode, chunks(groups, _IMAGES_PER_TASK)))
        return readable

    def decode_again(self, file: str, regions: NDArray[np.float64], crops: Sequence[Pixels]) -> None:
        """Fill `crops` with `regions` of an image that could be decoded before; DataError if it cannot now."""
        image = read_image(file)
        if image is None:
            raise DataError(
                f"{file} could be decoded when the run started and cannot now: was it changed or moved? Put it "
                "back and go on with `semipose resume`."
            )
        for region, crop in zip(regions, crops, strict=True):
            cut(image, region, crop)

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        """Start `function` in a thread."""
        return self._pool.submit(function, *arguments)

    def map(self, function: Callable[..., T], *arguments: Iterable[object]) -> Iterable[T]:
        """Call `function` on each of `arguments` in the threads, as the built-in `map` does."""
        return self._pool.map(function, *arguments)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def positions_by_value(values: Rows) -> list[Rows]:
    """Return the positions of each distinct value in `values` (N,)."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def chunks(groups: list[Rows], size: int) -> list[list[Rows]]:
    """Divide `groups` into lists of at most `size`."""
    return [groups[start : start + size] for start in range(0, len(groups), size)]


def _use_one_thread_in_opencv() -> None:
    import cv2

    # Images are decoded side by side; several threads for each cost more than they gain.
    cv2.setNumThreads(1)
