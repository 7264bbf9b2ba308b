"""The batch of every update: which people, their crops, and the key of their random numbers."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semipose.config.settings import Settings
from semipose.crops.sampler import Sampler
from semipose.crops.store import CropStore
from semipose.crops.whole_images import WholeImageStore
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.methods.method import Step
from semipose.scene import Labels
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Batch, Crops, SceneCrops


@dataclass
class Stream:
    """Labeled or unlabeled people, or whole images, in batches; `labeled` says whether labels go along.

    Of each batch of `batch_size` people this process gets the `part`-th of `parts` equal pieces, with the random
    numbers that they would have in one process.
    """

    store: CropStore
    name: str
    batch_size: int
    seed: int
    augmentation: Augmentation
    labeled: bool
    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        self._sampler = Sampler(len(self.store), self.batch_size, self.seed, self.name)
        scenes = isinstance(self.store, WholeImageStore)
        self._kind = SceneCrops if scenes else Crops
        self._keypoints = self.store.keypoints() if self.labeled and not scenes else None
        self._waiting: dict[int, tuple[np.ndarray, Callable[[], Tensor]]] = {}

    def crops(self, update: int) -> Crops:
        """The crops of `update`; those of the next one are already being fetched when this returns."""
        rows, images = self._waiting[update] if update in self._waiting else self._fetch(update)
        self._waiting = {update + 1: self._fetch(update + 1)}
        start = self.part * len(rows)
        draw = RandomKey(self.seed, update, self.name, len(rows), self.batch_size, start, self.store.device)
        store = self.store
        known: dict[str, Any] = {
            name: value.to(store.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in self._known(rows).items()
        }
        return self._kind(self._arrived(images), store.size, store.zoom, self.augmentation, draw, **known)

    def people(self, update: int) -> list[dict[str, Any]]:
        """Image id and file of everybody in the whole batch of `update`."""
        rows, people = self._sampler.rows(update), self.store.people
        return [
            {"image_id": int(people.poses.image_ids[row]), "file": str(people.images.files[people.image_index[row]])}
            for row in rows
        ]

    def _arrived(self, images: Callable[[], Tensor]) -> Tensor:
        """What `images` waits for. A worker that died is told as what it is: a fault of the machine or of a file."""
        try:
            return images()
        except SemiposeError:
            raise
        except Exception as error:
            raise DataError(
                f"a worker that decodes {self.name} images died: {type(error).__name__}: {error}. If memory ran out, "
                "use fewer --workers or --cache none."
            ) from error

    def _fetch(self, update: int) -> tuple[np.ndarray, Callable[[], Tensor]]:
        count = self.batch_size // self.parts
        rows = self._sampler.rows(update)[self.part * count : (self.part + 1) * count]
        return rows, self.store.ready(rows)

    def _known(self, rows: np.ndarray) -> dict[str, Tensor | Labels]:
        """What is known of `rows` beside their pixels, by the names of `Crops`; on the CPU."""
        if self._keypoints is not None:
            visible = torch.from_numpy(self.store.people.poses.visible[rows])
            return {"keypoints": self._keypoints[rows], "visible": visible}
        if not isinstance(self.store, WholeImageStore):
            return {}
        known: dict[str, Tensor | Labels] = {"known": self.store.known(rows)}
        return known | {"people": self.store.labels(rows)} if self.labeled else known


@dataclass
class Batches:
    """Both streams; a method that uses no unlabeled images gets none."""

    labeled: Stream
    unlabeled: Stream | None

    def __call__(self, update: int) -> Batch:
        """This process's batch of `update`."""
        return Batch(self.labeled.crops(update), None if self.unlabeled is None else self.unlabeled.crops(update))

    def people(self, update: int) -> dict[str, list[dict[str, Any]]]:
        """Stream -> image id and file of everybody that `update` sees, in all processes."""
        streams = [stream for stream in (self.labeled, self.unlabeled) if stream is not None]
        return {stream.name: stream.people(update) for stream in streams}

    @property
    def images(self) -> int:
        """People per update, both streams and all processes together."""
        return self.labeled.batch_size + (self.unlabeled.batch_size if self.unlabeled else 0)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the longer stream."""
        streams = [stream for stream in (self.labeled, self.unlabeled) if stream is not None]
        return max(-(-len(stream.store) // stream.batch_size) for stream in streams)


def refuse_uneven(settings: Settings, processes: int) -> None:
    """Raise a UsageError when the batches do not divide evenly among the processes and accumulated parts."""
    parts = processes * settings.accumulate
    sizes = {"--batch-size": settings.batch_size, "--unlabeled-batch-size": settings.unlabeled_batch_size}
    for flag, size in sizes.items():
        if size is not None and size % parts:
            near = max(1, round(size / parts)) * parts
            raise UsageError(
                f"{flag} {size} is for all processes together and does not divide evenly by {processes} process(es) x "
                f"--accumulate {settings.accumulate}; the nearest that does is {near}."
            )


def split(batch: Batch, parts: int) -> list[Batch]:
    """`batch` in `parts` equal pieces, in order, each with its slice of the random numbers."""
    if parts == 1:
        return [batch]
    return [
        Batch(_piece(batch.labeled, part, parts), batch.unlabeled and _piece(batch.unlabeled, part, parts))
        for part in range(parts)
    ]


def _piece(crops: Crops, part: int, parts: int) -> Crops:
    count = len(crops) // parts
    rows = slice(part * count, (part + 1) * count)
    draw = replace(crops.random, count=count, start=crops.random.start + rows.start)
    values = ((item.name, getattr(crops, item.name)) for item in fields(crops))
    pieces: dict[str, Any] = {name: value[rows] for name, value in values if isinstance(value, Tensor | Labels)}
    return replace(crops, random=draw, **pieces)


def joined(passes: list[tuple[Step, Tensor]]) -> tuple[Step, Tensor]:
    """One answer and loss for the pieces of a batch: the means of theirs."""
    if len(passes) == 1:
        return passes[0]

    def means(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name].detach() for row in rows]).mean() for name in rows[0]}

    steps, losses = zip(*passes, strict=True)
    step = Step(means([step.losses for step in steps]), means([step.signals for step in steps]))
    return step, torch.stack(losses).mean()
