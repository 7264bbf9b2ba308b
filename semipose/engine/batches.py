"""The batch of every update: which people, their crops, and the key of their random numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from semipose.data.loader import CropStore
from semipose.data.sampler import Sampler
from semipose.views.draw import Draw
from semipose.views.view import Augmentation, Batch, Crops


@dataclass
class Stream:
    """Labeled or unlabeled people in batches; `labeled` says whether labels go along."""

    store: CropStore
    name: str
    batch_size: int
    seed: int
    augmentation: Augmentation
    labeled: bool

    def __post_init__(self) -> None:
        self._sampler = Sampler(len(self.store), self.batch_size, self.seed, self.name)
        self._keypoints = self.store.keypoints() if self.labeled else None
        self._waiting: dict[int, tuple[np.ndarray, Callable[[], Tensor]]] = {}

    def crops(self, update: int) -> Crops:
        """The crops of `update`; those of the next one are already being fetched when this returns."""
        rows, images = self._waiting[update] if update in self._waiting else self._fetch(update)
        self._waiting = {update + 1: self._fetch(update + 1)}
        keypoints = visible = None
        if self._keypoints is not None:
            keypoints = self._keypoints[rows].to(self.store.device, non_blocking=True)
            visible = self._visible(rows)
        draw = Draw(self.seed, update, self.name, len(rows), len(rows), device=self.store.device)
        store = self.store
        return Crops(images(), store.size, store.zoom, self.augmentation, draw, keypoints, visible)

    def _fetch(self, update: int) -> tuple[np.ndarray, Callable[[], Tensor]]:
        rows = self._sampler.rows(update)
        return rows, self.store.ready(rows)

    def _visible(self, rows: np.ndarray) -> Tensor:
        visible = torch.from_numpy(self.store.people.poses.visible[rows])
        return visible.to(self.store.device, non_blocking=True)


@dataclass
class Batches:
    """Both streams; a method that uses no unlabeled images gets none."""

    labeled: Stream
    unlabeled: Stream | None

    def __call__(self, update: int) -> Batch:
        """The batch of `update`."""
        return Batch(self.labeled.crops(update), None if self.unlabeled is None else self.unlabeled.crops(update))

    @property
    def images(self) -> int:
        """People per update, both streams together."""
        return self.labeled.batch_size + (self.unlabeled.batch_size if self.unlabeled else 0)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one pass over the longer stream."""
        streams = [stream for stream in (self.labeled, self.unlabeled) if stream is not None]
        return max(-(-len(stream.store) // stream.batch_size) for stream in streams)
