"""SSPCM: two teachers and their earlier copies agree on where a keypoint is; a third network learns what they say."""

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
    """Two teachers, corrected by where they and their earlier copies agree, teach a student (SSPCM, CVPR 2023).

    The teachers, of different initialization, teach each other. For each keypoint the student learns the mean of the
    two answers, one of each teacher, now or a period ago, that lie nearest to each other; each network's strong view
    is occluded at the keypoints that it is to learn. Teacher BatchNorm: the running statistics of teachers and copies.
    EMA: none, the copies are made anew every period. Deployed: the student; its best checkpoint on validation.
    Differs from the paper: the consistency ramps up and the rest is as in `pose_dual` (true rotation, colors, upright
    patches, unknown outside by default). Differs from its public code: until the first period is over the correction
    is the teachers' mean (there it stops with an error); copies do not use batch statistics; the checkpoint is chosen
    by the student, not by a teacher; and see `cut_occlude`. As there, and unlike the paper's account, the teachers'
    mutual training and the student's are one step: their gradients have nothing in common.
    """

    deployed = "student"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        teacher: str | None = None,  # network of both teachers, as for --network; None: the student's
        teacher_weights: Path | None = None,  # file for both; None: --weights, if their network is the student's
        period: float = 0.05,  # share of the run after which the teachers' copies are made anew
        weight: float = 1.0,  # of each consistency loss; each labeled loss weighs 0.5
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        threshold: float = 0.1,  # trust a keypoint only where the teachers' mean peak is higher
        inconsistency: float = 1.0,  # trust it only where the teachers' distance (share of the diagonal) is smaller
        reweight: bool = False,  # weigh keypoints by 1 - that distance
        patches: int = 2,  # pasted over keypoints of each network's view
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teachers' view
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
        """Half of each labeled loss, the teachers' losses against each other, the student's against both corrected."""
        networks = {"student": self.student, "first": self.first, "second": self.second}
        seen = batch.labeled.weak()
        labeled = [self.labeled_loss(network(seen.image), batch.labeled, seen) for network in networks.values()]
        losses = {"labeled": 0.5 * torch.stack(labeled).sum()}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        first, second, corrected = self._teach(weak.image, progress.update >= self._updates(progress))
        trusted = self._trusted(corrected)
        move = weak.to(strong)
        exists = move.exchanged(trusted, self.skeleton.flip)
        for name, answer in {"student": corrected.fields, "first": second, "second": first}.items():
            keypoints, _ = self.codec(weak, answer).decode(answer, "quarter")
            there = move.keypoints(keypoints, self.skeleton.flip)
            hard = cut_occlude(strong.image, there, batch.unlabeled.random, f"occlude/{name}", self.patches, exists)
            loss = self.consistency_loss(networks[name](hard), answer, weak, strong, trusted, self.outside)
            losses[f"consistency_{name}"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, self._signals(corrected, trusted) if progress.logged else {})

    def _teach(self, image: Tensor, has_past: bool) -> tuple[Fields, Fields, Corrected]:
        """The teachers' answers to `image` and what they are corrected to, without their copies if there are none."""
        with as_teacher(self.first), as_teacher(self.second):
            now = self.first(image), self.second(image)
            before = (self.first_before(image), self.second_before(image)) if has_past else now
            return *now, correct(now, before)

    def _trusted(self, corrected: Corrected) -> Tensor:
        """(U, K) in 0..1, the weight of each keypoint in all three consistency losses."""
        apart = corrected.inconsistency
        trusted = ((corrected.confidence > self.threshold) & (apart < self.inconsistency)).float()
        return trusted * (1 - apart) if self.reweight else trusted

    def _signals(self, corrected: Corrected, trusted: Tensor) -> dict[str, Tensor]:
        """Means over the batch: how far apart the teachers are at each keypoint, which pairs were taken, how many
        keypoints were dropped."""
        names = [f"inconsistency/{name}" for name in self.skeleton.keypoints] + [f"pair/{name}" for name in PAIRS]
        taken = corrected.pair[..., None] == torch.arange(len(PAIRS), device=corrected.pair.device)
        values = [*corrected.inconsistency.mean(0).unbind(), *taken.float().mean((0, 1)).unbind()]
        signals = dict(zip(names, values, strict=True))
        return {"confidence": corrected.confidence.mean(), "dropped": (trusted == 0).float().mean(), **signals}

    def _updates(self, progress: Progress) -> int:
        """Updates of a period."""
        return max(1, round(self.period * progress.updates))

    def after_update(self, progress: Progress) -> None:
        """At the end of every period but the last, whose copies the report needs, copy the teachers.

        Also after a bad update: it has left them as they were.
        """
        done = progress.update + 1
        if done % self._updates(progress) == 0 and done < progress.updates:
            self.first_before.update(self.first)
            self.second_before.update(self.second)

    def pseudo_labels(self, image: Tensor) -> tuple[Fields, Fields]:
        """The mean of the teachers' answers, and what the student learns in its place."""
        first, second, corrected = self._teach(image, bool(self.first_before.updates > 0))
        return correct((first, second), (first, second)).fields, corrected.fields

    def networks(self) -> dict[str, PoseNetwork]:
        """The student and both teachers."""
        return {"student": self.student, "first": self.first, "second": self.second}
