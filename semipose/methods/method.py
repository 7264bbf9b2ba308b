"""Interface of a method: its networks, and a step that returns named losses. Also helpers for teachers."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from semipose.fields import Fields
from semipose.methods._losses import PoseLosses
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Batch, View


class Build(Protocol):
    """Build the run's network, differently initialized for each role, or another one.

    `network` is a name as for `--network`, `weights` a file as for `--weights`. The run's own weights initialize only
    networks of the run's kind.
    """

    def __call__(self, role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork: ...


@dataclass(frozen=True)
class Progress:
    """Progress of a run: `update` of `updates` done.

    `healthy`, set after an update, is 1.0 on the device, or 0.0 if its loss or gradient was not finite. Teachers must
    not change then. `logged` says whether this update's signals will be read.
    """

    update: int
    updates: int
    healthy: Tensor | None = None
    logged: bool = True

    @property
    def fraction(self) -> float:
        """Share of the updates that are done, in 0..1."""
        return self.update / max(1, self.updates)

    def ramp(self, share: float, start: float = 0.0) -> float:
        """Ramp from 0 at the share `start` of the run to 1 after a further `share`, linear between."""
        done = self.fraction - start
        return float(done >= 0) if share <= 0 else min(1.0, max(0.0, done / share))


@dataclass(frozen=True)
class Step:
    """Result of one update: `losses` are weighted scalars that are summed; `signals` are only logged.

    Signals may be left out unless `Progress.logged`.
    """

    losses: dict[str, Tensor]
    signals: dict[str, Tensor] = field(default_factory=dict)


class Method(PoseLosses, nn.Module, ABC):
    """A way of training: its networks, the views that they get, and the losses between their outputs.

    A subclass calls `super().__init__(build, skeleton)` and keeps its networks as attributes. Its keyword-only
    arguments are hyper-parameters and become `--method.NAME` flags; each has a type, a default and a trailing comment.
    A method knows no files, devices, optimizer or log.
    """

    # Network to use after training; None: the one of `networks()` that is best on validation.
    deployed: str | None = None
    uses_unlabeled = True
    # Whether a trained network may get no gradient in some updates, as in a burn-in: DDP has to know.
    networks_wait = False
    # Whether it can train networks for one person in a crop, and detector-free networks on whole images.
    top_down = True
    detector_free = False
    # Options that its supervised baseline gets too, such as those of auxiliary heads; `supervised` must have them.
    baseline_options: tuple[str, ...] = ()
    # The option that uses `after_evaluation` and so requires a validation set; None: no such option.
    needs_validation: str | None = None

    def __init__(self, build: Build, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton

    def prepare(self, updates: int) -> None:
        """Prepare for a run of `updates`, once before training: EMA copies choose their decay."""
        for part in self.modules():
            if isinstance(part, Ema):
                part.prepare(updates)

    def check(self, size: tuple[int, int], unlabeled: int) -> None:
        """Check the `size` (H, W) of views and the number of `unlabeled` people in a pass, once before training.

        Raises UsageError if the method cannot work with them.
        """

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Compute the losses of one update."""

    def after_update(self, progress: Progress) -> None:
        """Update teachers; called after the optimizer's step."""

    def after_evaluation(self, improved: Collection[str]) -> None:
        """React to an evaluation that `improved` some of `networks()`; called in every process."""

    @abstractmethod
    def networks(self) -> dict[str, PoseNetwork]:
        """Return the networks that can be evaluated and deployed, by name."""

    def pseudo_labels(self, image: Tensor) -> tuple[Fields, Fields] | None:
        """Pseudo-labels of `image` (B, 3, H, W) before and after correction; None from methods without a correction.

        Only the report uses them.
        """
        return None


@contextmanager
def as_teacher(network: nn.Module, batch_statistics: bool = False) -> Iterator[None]:
    """Run `network` as a teacher: no graph, and BatchNorm by its running statistics unless `batch_statistics`.

    Uses `no_grad`: tensors of `inference_mode` cannot enter a loss.
    """
    training = network.training
    network.train(batch_statistics)
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def teacher_forward(network: nn.Module, view: View) -> Fields:
    """Apply `network` to `view` as a teacher, by its running statistics."""
    with as_teacher(network):
        return network(view.image)


def forward_pair(network: nn.Module, first: View, second: View, joined: bool) -> tuple[Fields, Fields]:
    """Apply `network` to two views: `joined` in one batch with common BatchNorm statistics, or in a pass each."""
    if joined:
        return network(torch.cat([first.image, second.image])).split(len(first.image))
    return network(first.image), network(second.image)


def confidence_mask(confidence: Tensor, threshold: float = 0.0, quantile: float = 0.0) -> Tensor:
    """Confidence mask (U, K) of peaks with this `confidence` (U, K): 1 where a peak is confident, else 0.

    A confident peak reaches `threshold` (FixMatch's rule). It is not in the lowest share `quantile` of its keypoint's
    peaks in this process's part of the batch. Heights are no probabilities: one threshold for all keypoints would
    remove most wrists and ankles.
    """
    mask = confidence >= threshold
    if quantile > 0:
        mask &= confidence >= torch.quantile(confidence, quantile, dim=0)
    return mask.float()


def peak_confidence(fields: Fields) -> Tensor:
    """Confidence (B, K) of each heatmap: its highest value."""
    return fields["heatmap"].maps.float().amax((-1, -2))
