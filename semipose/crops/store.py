"""Image files in, uint8 crops out: decoded once, and the same wherever they are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.crops.cache import CropFile
from semipose.crops.crop import CropFrame
from semipose.crops.decode import Decoder, Pixels, Rows, chunks, positions_by_value
from semipose.crops.places import (
    Cache,
    DeviceCrops,
    MemoryCrops,
    Sharing,
    can_share_memory,
    choose_cache,
    files_of,
    keep_on_disk,
    share_in_memory,
)
from semipose.data.people import People
from semipose.errors import DataError


@dataclass
class CropStore:
    """Crops of `people` for a network input of `size` (H, W), by row.

    Each image is decoded once when the store is made, also with `cache="none"`: unreadable images then show before
    training, not in its middle. Their people are dropped from `people` and their files named in `unreadable`, or with
    `strict` refused. Nothing is decoded if a file of the crops is found on disk.

    - `disk_limit`: bytes that all files of crops on disk may take together; 0 means that none may be written.
    - `other_streams`: the run's other people. One file holds the crops of all streams, so that runs that divide the
      same people differently share it.
    - `sharing`: for several processes of a machine that make the same store. Crops in RAM then exist once (on Linux).
    """

    people: People
    size: tuple[int, int]
    cache: Cache = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int | None = None
    strict: bool = True
    disk_limit: int = 0
    other_streams: Sequence[People] = ()
    sharing: Sharing | None = None
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._decoder = Decoder(self.frame.crop_size, self.workers)
        self.regions = self.frame.regions(self.people.poses.boxes)
        self._crops: DeviceCrops | MemoryCrops | CropFile | None = None
        self._path: Path | None = None  # of a file on disk
        self._rows = np.arange(len(self.people))  # in `_crops`
        self.kept = self.cache
        if self.cache == "auto":
            others = sum(map(len, self.other_streams))
            self.kept = choose_cache(len(self), self.frame, self.device, self.disk_limit, others)
        elif self.cache == "device" and self.device.type == "cpu":
            self.kept = "ram"
        self._drop_unreadable(self._decode())
        self.affines = torch.from_numpy(self.frame.affines(self.regions))
        self._keypoints: Tensor | None = None

    def __len__(self) -> int:
        return len(self.people)

    @staticmethod
    def frame_of(size: tuple[int, int]) -> CropFrame:
        """Return the frame of crops for a network input of `size` (H, W)."""
        return CropFrame(size)

    @property
    def frame(self) -> CropFrame:
        """Frame of these crops."""
        return self.frame_of(self.size)

    @property
    def zoom(self) -> float:
        """Crop pixels per input pixel."""
        return self.frame.zoom

    @property
    def bytes(self) -> int:
        """Size of these people's crops where they are kept."""
        return 0 if self._crops is None else len(self) * self.frame.crop_bytes

    @property
    def truth(self) -> People:
        """The people whose labels predictions are scored against."""
        return self.people

    def keypoints(self) -> Tensor:
        """Return all keypoints (N, K, 2) in crop pixels; float32 on the CPU."""
        points = torch.from_numpy(self.people.poses.keypoints)
        scale, shift = self.affines[:, None, [0, 1], [0, 1]], self.affines[:, None, :2, 2]
        return points * scale + shift

    def batch_fields(self, rows: Rows, labeled: bool) -> dict[str, Any]:
        """Return what a batch of `rows` holds besides pixels, by its field names; on the CPU.

        These are the labels, if `labeled`: keypoints (B, K, 2) in crop pixels and their COCO visibility (B, K).
        """
        if not labeled:
            return {}
        if self._keypoints is None:
            self._keypoints = self.keypoints()
        visible = torch.from_numpy(self.people.poses.visible[rows])
        return {"keypoints": self._keypoints[rows], "visible": visible}

    def get(self, rows: Rows) -> Tensor:
        """Return crops (B, H', W', 3) uint8 of `rows`, on the device."""
        return self.ready(rows)()

    def ready(self, rows: Rows) -> Callable[[], Tensor]:
        """Start fetching `rows` and return the call that waits for them: decoding overlaps with training."""
        if isinstance(self._crops, DeviceCrops):
            crops = self._crops.select(self._rows[rows])
            return lambda: crops
        shape = (len(rows), *self.frame.crop_size, 3)
        if self.device.type == "cuda":
            batch = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:  # torch's own buffers of this size leave gaps in the heap, up to some hundred MB
            batch = torch.from_numpy(np.empty(shape, np.uint8))
        groups, pixels = positions_by_value(self.people.image_index[rows]), batch.numpy()
        images_per_task = -(-len(groups) // (4 * self._decoder.workers))
        tasks = [self._decoder.submit(self._fill, rows, part, pixels) for part in chunks(groups, images_per_task)]

        def wait() -> Tensor:
            for task in tasks:
                task.result()
            return batch.to(self.device, non_blocking=True)

        return wait

    def close(self) -> None:
        """End the decoding threads."""
        self._decoder.close()

    def _decode(self) -> NDArray[np.bool_]:
        """Decode each image once and keep its crops, or find them; return (N,) whether it could be decoded."""
        count, size, files = len(self.people), self.frame.crop_size, files_of(self.people)
        if self.kept == "disk":
            streams = [self.people, *self.other_streams]
            kept = keep_on_disk(self._decoder, streams, self.frame, self.disk_limit, f"--cache {self.cache}")
            self._path, self._crops, self._rows = kept
            return kept.crops.readable[kept.rows]
        if self.kept == "ram" and self.sharing is not None and can_share_memory():
            self._crops = share_in_memory(self._decoder, files, self.regions, self.sharing)
            return self._crops.readable
        if self.kept == "none":
            return self._decoder.decode_all(files, self.regions, None)
        crops = DeviceCrops(count, size, self.device) if self.kept == "device" else MemoryCrops(count, size)
        self._crops = crops
        return self._decoder.decode_all(files, self.regions, crops.put)

    def _drop_unreadable(self, readable: NDArray[np.bool_]) -> None:
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

    def _fill(self, rows: Rows, groups: list[Rows], batch: Pixels) -> None:
        """Write the crops of `rows` to `batch` (B, H', W', 3), at the positions in `groups`, one image per group."""
        for positions in groups:
            missing = [at for at in positions.tolist() if not self._copied(self._rows[rows[at]], batch[at])]
            if missing:
                file = self.people.images.files[self.people.image_index[rows[missing[0]]]]
                self._decoder.decode_again(file, self.regions[rows[missing]], [batch[at] for at in missing])

    def _copied(self, row: int, crop: Pixels) -> bool:
        """Copy a kept crop; return False if it has to be decoded."""
        if self._crops is None or isinstance(self._crops, DeviceCrops):
            return False
        if self._crops.get(row, crop):
            return True
        if self._path is not None:
            self._path.unlink(missing_ok=True)  # damaged: the next run makes it anew
        return False
