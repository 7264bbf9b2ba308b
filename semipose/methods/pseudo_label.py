"""Pseudo-labels in two stages: supervised training, then training on the predictions of its frozen average too."""

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

# Of pseudo-labels in whole images: people per image at most, and the lowest score of a confident keypoint.
PEOPLE, KEYPOINT = 30, 0.3


class PseudoLabel(Method):
    """Data distillation: a frozen labeler's mean prediction over several views is learned (Radosavovic et al., 2018).

    Three networks: the trained one (raw), its exponential moving average (EMA), and the labeler, a frozen copy of the
    average that is renewed every period.

    - Stage one is the supervised baseline: trained in the first share of the run, or loaded. To load it, pass its
      checkpoint as `--weights` and set `--method.stage_one 0`.
    - Stage two adds the pseudo-label loss: the labeler's mean heatmaps over test-time augmentation views of each
      unlabeled crop, learned in a weak or strong view. They are computed when needed. The labeler only changes with the
      period, so they equal labels kept in a file.
    - In whole images the pseudo-labels are people, detected in one canonical view. Their scores reach `threshold`
      (0: the threshold of the network's codec).

    Teacher BatchNorm: the labeler's running statistics.
    EMA: the average follows the running statistics too (EMAN).
    Deployed: raw or averaged weights, whichever is better on validation.

    Differs from the paper (CVPR 2018):

    - Pseudo-labels are heatmaps; `hard` encodes their keypoints anew.
    - Pseudo-labels are renewed every period.
    - The student goes on from stage one instead of starting anew.
    """

    deployed = None
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        stage_one: float = 0.4,  # share of the run (0 to 1) that trains on the labels alone
        period: float = 0.05,  # share of the run (0 to 1) after which the labeler is renewed
        weight: float = 1.0,  # weight of the pseudo-label loss
        hard: bool = False,  # encode the labeler's keypoints as new heatmaps, instead of learning its heatmaps
        threshold: float = 0.0,  # confidence threshold: use a heatmap if its peak is at least this high
        quantile: float = 0.0,  # drop this share (0 to 1) of each keypoint's heatmaps in a batch, lowest peaks first
        augmentation: Literal["weak", "strong"] = "weak",  # augmentation of the views that learn pseudo-labels
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the labeler's view: no loss, or 0
        decay: float | None = None,  # EMA decay, 0 to 1; None: a horizon of 2 % of the run, at most 0.999
    ) -> None:
        super().__init__(build, skeleton)
        self.stage_one, self.period, self.weight, self.hard = stage_one, period, weight, hard
        self.threshold, self.quantile = threshold, quantile
        self.augmentation, self.outside = augmentation, outside
        self.raw = build("student")
        if self.raw.detector_free and (hard or quantile):
            raise UsageError(
                "--method.hard and --method.quantile are for networks for one person in a crop; leave them out for "
                "networks for whole images."
            )
        self.ema = Ema(self.raw, decay)
        # A decay of 0 makes every update of it a plain copy.
        self.labeler = Ema(self.raw, 0.0)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, in stage two, the pseudo-label loss."""
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
        """Return the consistency loss on people in crops with the labeler's heatmaps, and signals."""
        canonical, view = crops.canonical(), self.view(crops)
        pseudo_label, confidence = self.label(crops, canonical)
        mask = confidence_mask(confidence, self.threshold, self.quantile)
        loss = self.consistency_loss(self.raw(view.image), pseudo_label, canonical, view, mask, self.outside)
        return loss, {"confidence": confidence.mean(), "confident": mask.mean()}

    def _people(self, crops: SceneCrops, logged: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the supervised loss on whole images with the people that the labeler detects, and signals."""
        canonical, view = crops.canonical(), self.view(crops)
        output = teacher_forward(self.labeler, canonical)
        codec = scene_codec(output, canonical.size, self.skeleton)
        detected, reliable = codec.detect(output, PEOPLE, crops.valid_region(canonical), KEYPOINT)
        threshold = torch.full_like(detected.weight[0, 0], self.threshold or codec.confident_score)
        pseudo = select_pseudo_people(detected, reliable, threshold)
        labels = pseudo.moved(canonical.to(view), self.skeleton.flip, view.size)
        # Pseudo-labels weigh as labels do.
        labels = replace(labels, visible=labels.shown.float(), weight=(labels.weight > 0).float())
        loss = self.people_loss(self.raw(view.image), labels, view, crops.random)
        return loss, signals_of(codec, output, detected, pseudo, threshold) if logged else {}

    def label(self, crops: Crops, canonical: View) -> tuple[Fields, Tensor]:
        """Return pseudo-labels on the `canonical` view: fields, and the confidence (U, K) of each map."""
        fields = averaged_prediction(self.labeler, crops, canonical)
        confidence = peak_confidence(fields)
        if self.hard:
            codec = self.codec(canonical, fields)
            keypoints, _ = codec.decode(fields)
            fields, _ = codec.encode(keypoints, torch.ones_like(confidence))
        return fields, confidence

    def view(self, crops: Crops) -> View:
        """Return the student's view of the unlabeled crops."""
        view = crops.weak()
        if self.augmentation == "strong":
            strong = crops.strong(view)
            view = strong.with_image(cutout(strong.image, crops.random, "cutout"))
        return view

    def after_update(self, progress: Progress) -> None:
        """Move the average, and copy it to the labeler at the start of every period."""
        self.ema.update(self.raw, progress.healthy)
        start = math.ceil(self.stage_one * progress.updates)
        done = progress.update + 1 - start
        if done >= 0 and done % max(1, round(self.period * progress.updates)) == 0:
            self.labeler.update(self.ema.network)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the trained weights and their average."""
        return {"raw": self.raw, "ema": self.ema.network}
