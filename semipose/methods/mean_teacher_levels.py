"""Mean Teacher with levels: the student and auxiliary heads on its backbone match a test-time-augmented teacher."""

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

    Two networks: the student, trained by gradient, and the teacher, its exponential moving average (EMA).
    While it trains, the student has auxiliary heads on two earlier stages of its backbone.

    - Supervised loss: the student on weak labeled views, at every level.
    - Consistency loss: the teacher's mean heatmaps over several test-time augmentation views of the unlabeled crop.
      They are warped to the strong view of the student and compared at every level.

    Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021).
    EMA: as in `mean_teacher`.
    Deployed: the teacher, without auxiliary heads; its best checkpoint on validation.
    """

    deployed = "teacher"
    baseline_options = ("levels",)

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        levels: tuple[float, float] = (0.1, 0.3),  # loss weights of the auxiliary heads, shallow first; 0 0: no heads
        tta: int = 2,  # test-time augmentation views of the teacher, 1 to 4: as it is, mirrored, smaller, larger
        decay: float | None = None,  # EMA decay of the teacher, 0 to 1; None: a horizon of 2 % of the run, max. 0.999
        weight: float = 1.0,  # weight of the consistency loss; 0: labels alone
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        cutouts: int = 0,  # number of rectangles cut out of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
    ) -> None:
        super().__init__(build, skeleton)
        if not 1 <= tta <= len(TTA_VIEWS):
            raise UsageError(f"--method.tta {tta}: expected 1 to {len(TTA_VIEWS)} test-time augmentation views.")
        self.tta, self.weight, self.ramp, self.cutouts, self.outside = tta, weight, ramp, cutouts, outside
        network = build("student")
        self.student = MultiLevel(network, levels)
        self.teacher = Ema(network, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, where there are unlabeled crops, the consistency loss, each of all levels."""
        labeled_view, crops = batch.labeled.weak(), batch.unlabeled
        labeled_output = self.student(labeled_view.image)
        labeled_target = self.labeled_target(labeled_output, batch.labeled, labeled_view)
        losses = {"labeled": self.student.loss(labeled_output, *labeled_target)}
        if crops is None or self.weight == 0:
            return Step(losses)
        canonical = crops.canonical()
        teacher_output = averaged_prediction(self.teacher, crops, canonical, self.tta)
        strong = crops.strong(crops.weak())
        strong_output = self.student(cutout(strong.image, crops.random, "cutout", self.cutouts))
        target = self.moved_target(teacher_output, canonical, strong, None, self.outside)
        losses["consistency"] = self.student.loss(strong_output, *target) * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {"confidence": peak_confidence(teacher_output).mean()})

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student.network, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the teacher and the student, without its auxiliary heads."""
        return {"teacher": self.teacher.network, "student": self.student.network}
