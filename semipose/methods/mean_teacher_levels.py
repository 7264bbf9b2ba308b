"""Mean Teacher with levels: earlier stages of the student's backbone learn too what an average says of two looks."""

from typing import Literal

from semipose.errors import UsageError
from semipose.methods._tta import TTA_VIEWS, averaged_prediction
from semipose.methods.method import Build, Method, Progress, Step, peak_confidence
from semipose.networks.ema import Ema
from semipose.networks.levels import MultiLevel
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import cutout
from semipose.views.view import Batch


class MeanTeacherLevels(Method):
    """Our own combination: Mean Teacher (2017), multi-level feature learning (Yun et al., 2025), the flip test.

    The averaged teacher answers the upright crop and its mirror image. The student must reach the mean of the two in
    the strong view, and so must auxiliary heads on earlier stages of its backbone, which learn the labels, too, and
    are gone after training. Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021).
    EMA: as in `mean_teacher`. Deployed: the teacher; its best checkpoint on validation.
    """

    deployed = "teacher"
    baseline_options = ("levels",)

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        levels: tuple[float, float] = (0.1, 0.3),  # of the losses of auxiliary heads, shallow first; 0 0: no heads
        looks: int = 2,  # at the crop: as it is, mirrored, smaller, larger; the teacher's answers are averaged
        decay: float | None = None,  # of the teacher; None: a horizon of 2 % of the run, at most 0.999
        weight: float = 1.0,  # of the consistency loss; 0: labels alone
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        cutouts: int = 0,  # rectangles cut out of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
    ) -> None:
        super().__init__(build, skeleton)
        if not 1 <= looks <= len(TTA_VIEWS):
            raise UsageError(f"--method.looks {looks}: expected 1 to {len(TTA_VIEWS)} looks at a crop.")
        self.looks, self.weight, self.ramp, self.cutouts, self.outside = looks, weight, ramp, cutouts, outside
        plain = build("student")
        self.student = MultiLevel(plain, levels)
        self.teacher = Ema(plain, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and the consistency loss where there are unlabeled crops, both of all levels."""
        seen, crops = batch.labeled.weak(), batch.unlabeled
        on_seen = self.student(seen.image)
        losses = {"labeled": self.student.loss(on_seen, *self.labeled_target(on_seen, batch.labeled, seen))}
        if crops is None or self.weight == 0:
            return Step(losses)
        plain = crops.canonical()
        answer = averaged_prediction(self.teacher, crops, plain, self.looks)
        strong = crops.strong(crops.weak())
        on_strong = self.student(cutout(strong.image, crops.random, "cutout", self.cutouts))
        loss = self.student.loss(on_strong, *self.moved_target(answer, plain, strong, None, self.outside))
        losses["consistency"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {"confidence": peak_confidence(answer).mean()})

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student.network, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student.network}
