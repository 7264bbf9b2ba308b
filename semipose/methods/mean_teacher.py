"""Mean Teacher: an averaged copy of the student predicts on a weak view; the student must match it on a strong one."""

from typing import Literal

from semipose.methods.method import (
    Build,
    Method,
    Progress,
    Step,
    confidence_mask,
    forward_pair,
    peak_confidence,
    teacher_forward,
)
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import cutout
from semipose.views.view import Batch


class MeanTeacher(Method):
    """Consistency with an averaged teacher (Tarvainen and Valpola, NeurIPS 2017), on soft warped heatmaps.

    Two networks: the student, trained by gradient, and the teacher, its exponential moving average (EMA).

    - Supervised loss: the student on weak labeled views.
    - Consistency loss: the teacher's heatmaps on a weak unlabeled view, warped to the strong view of the student.

    Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021).
    EMA: warm-up min(1 - 1/(t+1), decay).
    Deployed: the teacher; its best checkpoint on validation.

    Differs from the paper:

    - The EMA decay follows the length of the run. A fixed 0.999 lags in short runs and holds the student back.
    - The ramp of the consistency weight is linear.
    """

    deployed = "teacher"
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        decay: float | None = None,  # EMA decay of the teacher, 0 to 1; None: a horizon of 2 % of the run, max. 0.999
        weight: float = 1.0,  # weight of the consistency loss
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        threshold: float = 0.0,  # confidence threshold: use a keypoint's heatmap if its peak is at least this high
        quantile: float = 0.0,  # drop this share (0 to 1) of each keypoint's heatmaps in the batch, lowest peaks first
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
        cutouts: int = 5,  # number of rectangles cut out of the student's view
        joined: bool = False,  # one student batch of labeled and unlabeled views (shared batch statistics)
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.outside, self.cutouts = weight, ramp, outside, cutouts
        self.threshold, self.quantile, self.joined = threshold, quantile, joined
        self.student = build("student")
        self.teacher = Ema(self.student, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, where there are unlabeled images, the consistency loss."""
        labeled_view = batch.labeled.weak()
        if batch.unlabeled is None:
            labeled_output = self.student(labeled_view.image)
            return Step({"labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view)})
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        strong = strong.with_image(cutout(strong.image, batch.unlabeled.random, "cutout", self.cutouts))
        teacher_output = teacher_forward(self.teacher, weak)
        confidence = peak_confidence(teacher_output)
        mask = confidence_mask(confidence, self.threshold, self.quantile)
        labeled_output, strong_output = forward_pair(self.student, labeled_view, strong, self.joined)
        consistency = self.consistency_loss(strong_output, teacher_output, weak, strong, mask, self.outside)
        losses = {
            "labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view),
            "consistency": consistency * (self.weight * progress.ramp(self.ramp)),
        }
        return Step(losses, {"confidence": confidence.mean(), "confident": mask.mean()})

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the teacher and the student."""
        return {"teacher": self.teacher.network, "student": self.student}
