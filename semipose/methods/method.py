"""What every method is built on: networks in roles, a step that returns named losses, rules for teachers."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.scene_codec import scene_codec, tells_people_apart
from semipose.fields import Field, Fields, stacked
from semipose.geometry import Affine, constant
from semipose.losses.heatmap import field_loss, total
from semipose.losses.per_image import by_parts
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.scene import Scene
from semipose.views.view import Batch, Crops, SceneCrops, View


class Build(Protocol):
    """Makes the run's network, differently initialized for each role; or another one.

    `network` is one that `--network` knows, `weights` a file as for `--weights`. The run's own weights start only
    networks of the run's kind.
    """

    def __call__(self, role: str, *, network: str | None = None, weights: Path | None = None) -> PoseNetwork: ...


@dataclass(frozen=True)
class Progress:
    """How far a run is: `update` of `updates` done.

    `healthy`, set after an update, is 1.0 on the device, or 0.0 when its loss or gradient was not finite: teachers
    must then stay as they are. `logged` says whether this update's signals will be read.
    """

    update: int
    updates: int
    healthy: Tensor | None = None
    logged: bool = True

    @property
    def fraction(self) -> float:
        """In 0..1."""
        return self.update / max(1, self.updates)

    def ramp(self, share: float) -> float:
        """0 at the start, 1 once `share` of the run is done, a straight line between."""
        return 1.0 if share <= 0 else min(1.0, self.fraction / share)


@dataclass(frozen=True)
class Step:
    """One update's answer: `losses` are scalars, already weighted, and are summed; `signals` are only logged.

    They may be left out where `Progress.logged` says that nobody will read them.
    """

    losses: dict[str, Tensor]
    signals: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A way of training: which networks there are, which views they see, what is compared.

    A subclass calls `super().__init__(build, skeleton)`, keeps its networks as attributes and takes hyper-parameters
    as keyword-only arguments with types, defaults and a trailing comment each: they become `--method.NAME` flags.
    It knows no files, devices, optimizer or log.
    """

    # The network that is used after training; None: whichever of `networks()` is best on validation.
    deployed: str | None = None
    uses_unlabeled = True
    # Whether a trained network may get no gradient in some updates, as in a burn-in: several processes must know.
    networks_wait = False
    # Whether it can train networks for one person in a crop, and those that find everybody in whole images.
    top_down = True
    detector_free = False
    # Options that its supervised baseline gets too, such as those of auxiliary heads; `supervised` must have them.
    baseline_options: tuple[str, ...] = ()
    # The option that learns from `after_evaluation`, so that there must be people to validate on; None: no such one.
    needs_validation: str | None = None

    def __init__(self, build: Build, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton

    def prepare(self, updates: int) -> None:
        """Told once before training how many updates there will be: averages set the decay that suits it."""
        for part in self.modules():
            if isinstance(part, Ema):
                part.prepare(updates)

    def check(self, size: tuple[int, int], unlabeled: int) -> None:
        """Told once before training the `size` (H, W) of views and the number of `unlabeled` people in a pass.

        Raises UsageError where the method cannot work with them.
        """

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The losses of one update."""

    def after_update(self, progress: Progress) -> None:
        """Called after the optimizer has stepped: the place to move teachers."""

    def after_evaluation(self, improved: Collection[str]) -> None:
        """Told after an evaluation, in every process, which of `networks()` were the best so far on validation."""

    @abstractmethod
    def networks(self) -> dict[str, PoseNetwork]:
        """Networks that can be evaluated and deployed, by name."""

    def pseudo_labels(self, image: Tensor) -> tuple[Fields, Fields] | None:
        """Pseudo-labels of `image` (B, 3, H, W) before and after correction, from a method that corrects them.

        Training does not ask for them: the report shows both.
        """
        return None

    def codec(self, view: View, fields: Fields) -> HeatmapCodec:
        """The codec of a network's `fields` for input of the view's size."""
        return HeatmapCodec.for_size(view.size, self.skeleton.flip, fields["heatmap"].stride)

    def labeled_loss(self, predicted: Fields, crops: Crops, view: View) -> Tensor:
        """Loss of the fields `predicted` on a view of labeled crops; keypoints without a label weigh 0.

        Of whole images it is the sum of all terms that the network's kind was published with.
        """
        if isinstance(crops, SceneCrops):
            return self.people_loss(predicted, crops.scene(view, self.skeleton.flip), view)
        return field_loss(predicted, *self.labeled_target(predicted, crops, view))

    def people_loss(self, predicted: Fields, people: Scene, view: View) -> Tensor:
        """Loss of the fields `predicted` on a view of whole images with these labeled `people`."""
        return total(scene_codec(predicted, view.size, self.skeleton).losses(predicted, people))

    def people_losses(
        self,
        labeled: tuple[Fields, Scene],
        pseudo: tuple[Fields, Scene],
        view: View,
        weight: float = 1.0,
        negatives: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Losses of a network's answers to labeled images and to others, with the people in them; the latter's times
        `weight`. All views are as large as `view`.

        Drawn and compared in one go, which asks for half as much of the device as one after the other. Without
        `negatives` an empty place of the second is not learned as empty.
        """
        (seen, people), (other, found) = labeled, pseudo
        fields, scene, counts = stacked([seen, other]), Scene.stacked([people, found]), [len(people), len(found)]
        empty: bool | Tensor = True
        if not negatives:
            share = (((1.0,),),), (((0.0,),),)
            empty = constant(share[:1] * counts[0] + share[1:] * counts[1], scene.known.device)
        terms = scene_codec(fields, view.size, self.skeleton).terms(fields, scene, empty)
        return by_parts(terms, counts, [1.0, weight])

    def labeled_target(self, predicted: Fields, crops: Crops, view: View) -> tuple[Fields, Tensor]:
        """What the fields `predicted` should be, and the weight of each map."""
        if crops.visible is None:
            raise ValueError("the labeled loss needs labeled crops")
        flip = self.skeleton.flip
        # A mirrored view exchanges partners, and with them which of the two is labeled.
        visible = view.affine.exchanged(crops.visible, flip)
        return self.codec(view, predicted).encode(crops.labels(view, flip), visible)

    def consistency_loss(
        self,
        predicted: Fields,
        answer: Fields,
        weak: View,
        strong: View,
        trusted: Tensor | None = None,
        outside: str = "unknown",
    ) -> Tensor:
        """Student's fields on `strong` against the teacher's `answer` on `weak`, moved there.

        `trusted` (B, K) in 0..1 weighs whole maps. What lies outside of the weak view is unknown and weighs 0; the
        papers call it background (`outside="background"`: target 0 with weight 1). Of whole images all scalar maps are
        compared, in the scale of their supervised losses; those of people's centers are always trusted.
        """
        move = weak.to(strong)
        if not tells_people_apart(answer):
            targets = answer.moved(move).detach()
            return field_loss(predicted, targets, self._moved_weight(targets["heatmap"], move, trusted, outside))
        codec = scene_codec(answer, strong.size, self.skeleton)
        if trusted is not None and "center" in answer:
            trusted = F.pad(trusted, (0, 1), value=1.0)
        targets = answer.merged().moved(move).detach()
        weights = {
            name: replace(each, maps=self._moved_weight(each, move, trusted, outside)) for name, each in targets.items()
        }
        return codec.consistency(predicted.merged(), targets, Fields(weights))

    def moved_target(
        self, answer: Fields, weak: View, strong: View, trusted: Tensor | None = None, outside: str = "unknown"
    ) -> tuple[Fields, Tensor]:
        """The teacher's `answer` on `weak` moved to `strong`, and the weight of each cell; see `consistency_loss`.

        For networks with one scalar map of one stride.
        """
        move = weak.to(strong)
        target = answer.moved(move).detach()
        return target, self._moved_weight(next(iter(target.values())), move, trusted, outside)

    def _moved_weight(self, target: Field, move: Affine, trusted: Tensor | None, outside: str) -> Tensor:
        """The weight of each cell of a moved `target`, in 0..1 or bool."""
        cells = (target.maps.shape[-2], target.maps.shape[-1])
        if outside == "unknown":
            weight = move.at_stride(target.stride).inside(cells, cells) > 0.99
        else:
            weight = constant((1.0,), target.maps.device)
        if trusted is not None:
            trusted = move.exchanged(trusted, target.flip)
            weight = weight * trusted[..., None, None]
        return weight


@contextmanager
def as_teacher(network: nn.Module, batch_statistics: bool = False) -> Iterator[None]:
    """Run `network` as a teacher: no graph, and BatchNorm by its running statistics unless `batch_statistics`.

    `no_grad`, not `inference_mode`: tensors of the latter cannot enter a loss.
    """
    training = network.training
    network.train(batch_statistics)
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def teacher_forward(network: nn.Module, view: View) -> Fields:
    """What `network` answers to `view` as a teacher, by its running statistics."""
    with as_teacher(network):
        return network(view.image)


def forward_pair(network: nn.Module, first: View, second: View, joined: bool) -> tuple[Fields, Fields]:
    """Fields of two views: of one joined batch, which shares its BatchNorm statistics, or of a pass each."""
    if joined:
        return network(torch.cat([first.image, second.image])).split(len(first.image))
    return network(first.image), network(second.image)


def confidence_mask(confidence: Tensor, threshold: float = 0.0, quantile: float = 0.0) -> Tensor:
    """(U, K) 1 where a peak of `confidence` (U, K) is to be believed, else 0.

    It must reach `threshold` (FixMatch's rule), and not be among the share `quantile` of its keypoint's lowest peaks
    in this process's part of the batch: heights are no probabilities, and one threshold for all would remove most
    wrists and ankles.
    """
    trusted = confidence >= threshold
    if quantile > 0:
        trusted &= confidence >= torch.quantile(confidence, quantile, dim=0)
    return trusted.float()


def peak_confidence(fields: Fields) -> Tensor:
    """Highest value (B, K) of each heatmap: the confidence."""
    return fields["heatmap"].maps.float().amax((-1, -2))
