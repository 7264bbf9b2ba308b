"""Pseudo-labels in two stages: a network learns the labels; its averaged predictions then label the other images."""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from semipose.codecs.choose import scene_codec
from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.methods._pseudo_people import select_pseudo_people
from semipose.methods._pseudo_people import signals as signals_of
from semipose.methods._tta import averaged_prediction
from semipose.methods.method import Build, Method, Progress, Step, confidence_mask, peak_confidence, teacher_forward
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import cutout
from semipose.views.view import Batch, Crops, SceneCrops, View

# People in a whole image at most, and the least score of a keypoint.
PEOPLE, KEYPOINT = 30, 0.3


class PseudoLabel(Method):
    """Data distillation (Radosavovic et al., CVPR 2018): learn a frozen labeler's mean prediction over several views.

    Stage one is the supervised baseline: trained in the first share of the run, or loaded (`--weights` its checkpoint,
    `--method.stage_one 0`). Then the labeler, a frozen copy of the average, labels the unlabeled people, and is
    renewed every period. Its predictions are computed when they are used: it only changes with the period, so they
    equal labels kept in a file. Teacher BatchNorm: the labeler's running statistics. EMA: the average follows the
    student (EMAN). Deployed: raw or averaged weights, whichever is better on validation.
    In whole images the labels are people detected in one canonical view, with a score of at least `threshold` (0: the
    default of the network).
    Differs from the paper: labels are heatmaps (`hard` draws peaks anew), they are renewed, and the student goes on
    from stage one instead of starting anew.
    """

    deployed = None
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        stage_one: float = 0.4,  # share of the run in which only the labels are learned
        period: float = 0.05,  # share of the run after which the labels are made anew
        weight: float = 1.0,  # of the loss on pseudo-labels
        hard: bool = False,  # draw a new peak at the labeler's keypoint instead of taking its map
        threshold: float = 0.0,  # trust a map only when its peak is higher
        quantile: float = 0.0,  # distrust this share of each keypoint's maps in the batch, the lowest peaks
        augmentation: Literal["weak", "strong"] = "weak",  # which views pseudo-labels are learned in
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the labeler's view
        decay: float | None = None,  # of the averaged weights; None: a horizon of 2 % of the run, at most 0.999
    ) -> None:
        super().__init__(build, skeleton)
        self.stage_one, self.period, self.weight, self.hard = stage_one, period, weight, hard
        self.threshold, self.quantile = threshold, quantile
        self.augmentation, self.outside = augmentation, outside
        self.raw = build("student")
        if self.raw.detector_free and (hard or quantile):
            raise UsageError("--method.hard and --method.quantile judge maps of one person: leave them out here.")
        self.ema = Ema(self.raw, decay)
        # A decay of 0 makes every update of it a plain copy.
        self.labeler = Ema(self.raw, 0.0)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and from stage two on that of the pseudo-labels."""
        labeled_view = batch.labeled.weak()
        losses = {"labeled": self.labeled_loss(self.raw(labeled_view.image), batch.labeled, labeled_view)}
        unlabeled = batch.unlabeled
        if unlabeled is None or progress.fraction < self.stage_one:
            return Step(losses)
        if isinstance(unlabeled, SceneCrops):
            loss, signals = self._people(unlabeled, progress.logged)
        else:
            loss, signals = self._maps(unlabeled)
        return Step(losses | {"pseudo_label": loss * self.weight}, signals)

    def _maps(self, crops: Crops) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the student on people in crops against the labeler's maps, and signals."""
        plain, view = crops.canonical(), self.view(crops)
        label, confidence = self.label(crops, plain)
        mask = confidence_mask(confidence, self.threshold, self.quantile)
        loss = self.consistency_loss(self.raw(view.image), label, plain, view, mask, self.outside)
        return loss, {"confidence": confidence.mean(), "trusted": mask.mean()}

    def _people(self, crops: SceneCrops, logged: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Supervised loss of the student on whole images with the people that the labeler detects, and signals."""
        plain, view = crops.canonical(), self.view(crops)
        output = teacher_forward(self.labeler, plain)
        codec = scene_codec(output, plain.size, self.skeleton)
        detected, reliable = codec.found(output, PEOPLE, crops.known_in(plain), KEYPOINT)
        threshold = torch.full_like(detected.weight[0, 0], self.threshold or codec.sure)
        pseudo = select_pseudo_people(detected, reliable, threshold)
        labels = pseudo.moved(plain.to(view), self.skeleton.flip, view.size)
        # Pseudo-labels weigh as labels do.
        labels = replace(labels, visible=labels.shown.float(), weight=(labels.weight > 0).float())
        loss = self.people_loss(self.raw(view.image), labels, view, crops.random)
        return loss, signals_of(codec, output, detected, pseudo, threshold) if logged else {}

    def label(self, crops: Crops, plain: View) -> tuple[Fields, Tensor]:
        """Pseudo-labels on the `plain` view: fields, and the confidence (U, K) of each map."""
        label = averaged_prediction(self.labeler, crops, plain)
        confidence = peak_confidence(label)
        if self.hard:
            codec = self.codec(plain, label)
            keypoints, _ = codec.decode(label)
            label, _ = codec.encode(keypoints, torch.ones_like(confidence))
        return label, confidence

    def view(self, crops: Crops) -> View:
        """The student's view of the unlabeled people."""
        view = crops.weak()
        if self.augmentation == "strong":
            strong = crops.strong(view)
            view = strong.with_image(cutout(strong.image, crops.random, "cutout"))
        return view

    def after_update(self, progress: Progress) -> None:
        """Move the average; at the start of every period make it the labeler."""
        self.ema.update(self.raw, progress.healthy)
        start = math.ceil(self.stage_one * progress.updates)
        done = progress.update + 1 - start
        if done >= 0 and done % max(1, round(self.period * progress.updates)) == 0:
            self.labeler.update(self.ema.network)

    def networks(self) -> dict[str, PoseNetwork]:
        """The trained weights and their average."""
        return {"raw": self.raw, "ema": self.ema.network}
