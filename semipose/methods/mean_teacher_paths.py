"""Mean Teacher with hard paths: an average's answer to a view and its mirror image, learned in several hard views."""

from typing import Literal

import torch
from torch import Tensor

from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.geometry import constant
from semipose.methods._agreement import mixed
from semipose.methods._correction import correct
from semipose.methods.method import Build, Method, Progress, Step, teaching
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.skeleton import Skeleton
from semipose.views.paths import PATHS, read_paths
from semipose.views.view import Batch, View


class MeanTeacherPaths(Method):
    """Our own combination: Mean Teacher (2017), MultiAugs' hard paths (2024), and the flip test in the teacher.

    The averaged teacher answers the weak view and its mirror image; the student must reach the mean of the two in
    every path, each the same strong view made harder in another way; the losses of all paths are added. With
    `reweight` the distance between the two answers' peaks lowers a keypoint's weight, as SSPCM's inconsistency of two
    networks does. Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021). EMA: as in
    `mean_teacher`. Deployed: the teacher; its best checkpoint on validation.
    """

    deployed = "teacher"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        paths: str = "joco,jccm",  # ways of making the strong view harder, a loss each; see views/paths.py
        mirror: bool = True,  # the mean of the teacher's answers to the weak view and its mirror image
        reweight: bool = False,  # weigh keypoints by 1 - the distance of those answers (share of the diagonal)
        decay: float | None = None,  # of the teacher; None: a horizon of 2 % of the run, at most 0.999
        weight: float = 1.0,  # of each path's loss
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
    ) -> None:
        super().__init__(build, skeleton)
        self.paths = read_paths(paths)
        if reweight and not mirror:
            raise UsageError(
                "--method.reweight compares the answers to a view and to its mirror image, and "
                "--method.mirror false leaves the latter out: change one of them."
            )
        self.mirror, self.reweight = mirror, reweight
        self.weight, self.ramp, self.outside = weight, ramp, outside
        self.student = build("student")
        self.teacher = Ema(self.student, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and the loss of every path where there are unlabeled crops."""
        seen = batch.labeled.weak()
        losses = {"labeled": self.labeled_loss(self.student(seen.image), batch.labeled, seen)}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        answer, trusted, signals = self._answer(weak)
        keypoints, confidence = self.codec(weak, answer).decode(answer, "quarter")
        there = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
        for number, path in enumerate(self.paths):
            hard = PATHS[path](strong.image, there, batch.unlabeled.draw, f"{number}/{path}")
            loss = self.consistency_loss(self.student(hard), answer, weak, strong, trusted, self.outside)
            losses[path] = losses.get(path, 0) + loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {"confidence": confidence.mean(), **signals})

    def _answer(self, weak: View) -> tuple[Fields, Tensor | None, dict[str, Tensor]]:
        """The teacher's answer, the weight of each keypoint, and what is logged of how its two looks differ."""
        with teaching(self.teacher):
            if not self.mirror:
                return self.teacher(weak.image), None, {}
            straight, flipped = self.teacher(torch.cat([weak.image, weak.image.flip(-1)])).split(len(weak.image))
            looks = straight, flipped.unmirrored()
            if not self.reweight:
                return mixed(*looks, constant((0.5,), weak.image.device)), None, {}
            # Without earlier answers the correction is the mean of the two.
            found = correct(looks, looks)
        return found.fields, 1 - found.inconsistency, {"inconsistency": found.inconsistency.mean()}

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student}
