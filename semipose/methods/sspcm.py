"""SSPCM: two teachers and their earlier copies correct each other's pseudo-labels; a third network learns them."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from semipose.fields import Fields
from semipose.methods._correction import PAIRS, Corrected, correct
from semipose.methods.method import Build, Method, Progress, Step, as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.cut_occlude import cut_occlude
from semipose.views.view import Batch


class Sspcm(Method):
    """Pseudo-label correction by position inconsistency: two teachers and a student (SSPCM, CVPR 2023).

    Three trained networks: the student and two teachers of different initialization. Each teacher has a frozen copy of
    itself from a period ago.

    - Supervised loss: all three networks on weak labeled views.
    - Teachers' consistency losses: each teacher learns the other's heatmaps on a weak unlabeled view.
    - Student's consistency loss: for each keypoint, the mean of two heatmaps, one of each teacher or its copy. Of the
      four cross-network pairs, the one with the nearest peaks is taken (`PAIRS`).
    - The strong view of each network is occluded at the keypoints it learns (Cut-Occlude).

    Teacher BatchNorm: the running statistics of teachers and copies.
    EMA: none; the copies are replaced every period.
    Deployed: the student; its best checkpoint on validation.

    Differs from the paper:

    - The consistency weight ramps up.
    - As in `pose_dual`: true rotation, color changes, upright patches, unknown outside by default.
    - Teachers and student train in one step, as in the public code. Their gradients have nothing in common.

    Differs from the public code:

    - Until the first period is over, the correction is the teachers' mean; the public code stops with an error.
    - The copies do not use batch statistics.
    - The checkpoint is chosen by the student, not by a teacher.
    - See also `cut_occlude`.
    """

    deployed = "student"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        teacher: str | None = None,  # network of both teachers, as for --network; None: the student's
        teacher_weights: Path | None = None,  # weights file of both teachers; None: --weights, for the same network
        period: float = 0.05,  # share of the run (0 to 1) after which the teachers' copies are replaced
        weight: float = 1.0,  # weight of each consistency loss; each supervised loss has weight 0.5
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        threshold: float = 0.1,  # confidence threshold: use a keypoint if the teachers' mean peak is higher
        inconsistency: float = 1.0,  # use it if the teachers' distance (share of the map's diagonal, 0 to 1) is smaller
        reweight: bool = False,  # weight each keypoint by 1 minus that distance
        patches: int = 2,  # number of patches pasted over keypoints of each network's view
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teachers' view: no loss, or 0
    ) -> None:
        super().__init__(build, skeleton)
        self.period, self.weight, self.ramp, self.threshold = period, weight, ramp, threshold
        self.inconsistency, self.reweight, self.patches, self.outside = inconsistency, reweight, patches, outside
        self.student = build("student")
        self.first, self.second = (
            build(role, network=teacher, weights=teacher_weights) for role in ("teacher", "second teacher")
        )
        # A decay of 0 makes every update of them a plain copy.
        self.first_before, self.second_before = Ema(self.first, 0.0), Ema(self.second, 0.0)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return half of each supervised loss, the teachers' losses against each other and the student's."""
        networks = {"student": self.student, "first": self.first, "second": self.second}
        labeled_view = batch.labeled.weak()
        labeled = [
            self.labeled_loss(network(labeled_view.image), batch.labeled, labeled_view) for network in networks.values()
        ]
        losses = {"labeled": 0.5 * torch.stack(labeled).sum()}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        first, second, corrected = self._teacher_outputs(weak.image, progress.update >= self._period_updates(progress))
        mask = self._confidence_mask(corrected)
        to_strong = weak.to(strong)
        exists = to_strong.exchanged(mask, self.skeleton.flip)
        for name, target in {"student": corrected.fields, "first": second, "second": first}.items():
            keypoints, _ = self.codec(weak, target).decode(target, "quarter")
            strong_keypoints = to_strong.keypoints(keypoints, self.skeleton.flip)
            random = batch.unlabeled.random
            hard = cut_occlude(strong.image, strong_keypoints, random, f"occlude/{name}", self.patches, exists)
            loss = self.consistency_loss(networks[name](hard), target, weak, strong, mask, self.outside)
            losses[f"consistency_{name}"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, self._signals(corrected, mask) if progress.logged else {})

    def _teacher_outputs(self, image: Tensor, has_copies: bool) -> tuple[Fields, Fields, Corrected]:
        """Return both teachers' fields of `image` and their correction, by the copies too where there are some."""
        with as_teacher(self.first), as_teacher(self.second):
            now = self.first(image), self.second(image)
            before = (self.first_before(image), self.second_before(image)) if has_copies else now
            return *now, correct(now, before)

    def _confidence_mask(self, corrected: Corrected) -> Tensor:
        """Return the weight (U, K) in 0..1 of each keypoint in all three consistency losses."""
        inconsistency = corrected.inconsistency
        mask = ((corrected.confidence > self.threshold) & (inconsistency < self.inconsistency)).float()
        return mask * (1 - inconsistency) if self.reweight else mask

    def _signals(self, corrected: Corrected, mask: Tensor) -> dict[str, Tensor]:
        """Return batch means: inconsistency of each keypoint, share of each pair, share of dropped keypoints."""
        names = [f"inconsistency/{name}" for name in self.skeleton.keypoints] + [f"pair/{name}" for name in PAIRS]
        chosen = corrected.pair[..., None] == torch.arange(len(PAIRS), device=corrected.pair.device)
        values = [*corrected.inconsistency.mean(0).unbind(), *chosen.float().mean((0, 1)).unbind()]
        signals = dict(zip(names, values, strict=True))
        return {"confidence": corrected.confidence.mean(), "dropped": (mask == 0).float().mean(), **signals}

    def _period_updates(self, progress: Progress) -> int:
        """Return the length of a period in updates."""
        return max(1, round(self.period * progress.updates))

    def after_update(self, progress: Progress) -> None:
        """Copy the teachers at the end of every period but the last, whose copies the report needs.

        This needs no check for a non-finite update, which leaves the teachers as they were.
        """
        done = progress.update + 1
        if done % self._period_updates(progress) == 0 and done < progress.updates:
            self.first_before.update(self.first)
            self.second_before.update(self.second)

    def pseudo_labels(self, image: Tensor) -> tuple[Fields, Fields]:
        """Return the mean of the teachers' fields, and the corrected fields that the student learns."""
        first, second, corrected = self._teacher_outputs(image, bool(self.first_before.updates > 0))
        return correct((first, second), (first, second)).fields, corrected.fields

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the student and both teachers."""
        return {"student": self.student, "first": self.first, "second": self.second}
