"""The batch of each update: its rows, their crops and labels, and the key of their random numbers."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from semipose.config.settings import Settings
from semipose.crops.decode import Rows
from semipose.crops.sampler import Sampler
from semipose.crops.store import CropStore
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.methods.method import Step
from semipose.scene import Labels
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Batch, Crops


@dataclass
class Stream:
    """Labeled or unlabeled rows of a store (people or whole images) in batches of class `crops`.

    `labeled` is whether batches carry labels. This process gets the `part`-th of `parts` equal pieces of each batch of
    `batch_size` rows. Their random numbers are those of a single process.
    """

    crops: type[Crops]
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
        self._fetched: dict[int, tuple[Rows, Callable[[], Tensor]]] = {}

    def batch(self, update: int) -> Crops:
        """Return the batch of `update`; fetching the next one has begun when this returns."""
        rows, wait = self._fetched[update] if update in self._fetched else self._fetch(update)
        self._fetched = {update + 1: self._fetch(update + 1)}
        store, first = self.store, self.part * len(rows)
        key = RandomKey(self.seed, update, self.name, len(rows), self.batch_size, first, store.device)
        fields: dict[str, Any] = {
            name: value.to(store.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in store.batch_fields(rows, self.labeled).items()
        }
        return self.crops(self._arrived(wait), store.size, store.zoom, self.augmentation, key, **fields)

    def people(self, update: int) -> list[dict[str, Any]]:
        """Return image id and file of each row in the whole batch of `update`."""
        rows, people = self._sampler.rows(update), self.store.people
        return [
            {"image_id": int(people.poses.image_ids[row]), "file": str(people.images.files[people.image_index[row]])}
            for row in rows
        ]

    def _arrived(self, wait: Callable[[], Tensor]) -> Tensor:
        """Return the fetched crops; a worker that died is reported as a fault of the machine or of a file."""
        try:
            return wait()
        except SemiposeError:
            raise
        except Exception as error:
            raise DataError(
                f"a worker that decodes {self.name} images died: {type(error).__name__}: {error}. If memory ran out, "
                "use fewer --workers or --cache none."
            ) from error

    def _fetch(self, update: int) -> tuple[Rows, Callable[[], Tensor]]:
        count = self.batch_size // self.parts
        rows = self._sampler.rows(update)[self.part * count : (self.part + 1) * count]
        return rows, self.store.ready(rows)


@dataclass
class Batches:
    """Both streams; `unlabeled` is None for a method that uses no unlabeled images."""

    labeled: Stream
    unlabeled: Stream | None

    def __call__(self, update: int) -> Batch:
        """Return this process's batch of `update`."""
        return Batch(self.labeled.batch(update), None if self.unlabeled is None else self.unlabeled.batch(update))

    def people(self, update: int) -> dict[str, list[dict[str, Any]]]:
        """Return stream -> image id and file of each row of `update`, in all processes."""
        return {stream.name: stream.people(update) for stream in self._streams}

    @property
    def images(self) -> int:
        """Rows per update (people or whole images), both streams and all processes together."""
        return sum(stream.batch_size for stream in self._streams)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the longer stream."""
        return max(-(-len(stream.store) // stream.batch_size) for stream in self._streams)

    @property
    def _streams(self) -> list[Stream]:
        return [stream for stream in (self.labeled, self.unlabeled) if stream is not None]


def refuse_uneven(settings: Settings, processes: int) -> None:
    """Raise a UsageError if the batches do not divide evenly among the processes and accumulated parts."""
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
    """Split `batch` into `parts` equal pieces, in order, each with its slice of the random numbers."""
    if parts == 1:
        return [batch]
    return [
        Batch(_piece(batch.labeled, part, parts), batch.unlabeled and _piece(batch.unlabeled, part, parts))
        for part in range(parts)
    ]


def _piece(crops: Crops, part: int, parts: int) -> Crops:
    count = len(crops) // parts
    rows = slice(part * count, (part + 1) * count)
    key = replace(crops.random, count=count, start=crops.random.start + rows.start)
    values = ((item.name, getattr(crops, item.name)) for item in fields(crops))
    pieces: dict[str, Any] = {name: value[rows] for name, value in values if isinstance(value, Tensor | Labels)}
    return replace(crops, random=key, **pieces)


def joined(passes: list[tuple[Step, Tensor]]) -> tuple[Step, Tensor]:
    """Return the mean step and loss of the pieces of a batch."""
    if len(passes) == 1:
        return passes[0]

    def means(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name].detach() for row in rows]).mean() for name in rows[0]}

    steps, losses = zip(*passes, strict=True)
    step = Step(means([step.losses for step in steps]), means([step.signals for step in steps]))
    return step, torch.stack(losses).mean()
