"""Mean Teacher: an averaged copy of the student answers on a weak view; the student must agree on a strong one."""

from typing import Literal

from semipose.methods.method import (
    Build,
    Method,
    Progress,
    Step,
    as_teacher,
    confidence_mask,
    forward_pair,
    peak_confidence,
)
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import cutout
from semipose.views.view import Batch


class MeanTeacher(Method):
    """Consistency with an averaged teacher (Tarvainen and Valpola, NeurIPS 2017), on soft warped heatmaps.

    Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021). EMA: warm-up
    min(1 - 1/(t+1), decay). Deployed: the teacher; its best checkpoint on validation.
    Differs from the paper: the average's decay follows the length of the run, because a fixed 0.999 lags in short
    runs and holds the student back; the ramp is linear.
    """

    deployed = "teacher"
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        decay: float | None = None,  # of the teacher; None: a horizon of 2 % of the run, at most 0.999
        weight: float = 1.0,  # of the consistency loss
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        threshold: float = 0.0,  # trust a teacher's map only when its peak is higher
        quantile: float = 0.0,  # distrust this share of each keypoint's maps in the batch, the lowest peaks
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
        cutouts: int = 5,  # rectangles cut out of the student's view
        joined: bool = False,  # labeled and unlabeled views in one student batch
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.outside, self.cutouts = weight, ramp, outside, cutouts
        self.threshold, self.quantile, self.joined = threshold, quantile, joined
        self.student = build("student")
        self.teacher = Ema(self.student, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and the consistency loss where there are unlabeled crops."""
        seen = batch.labeled.weak()
        if batch.unlabeled is None:
            return Step({"labeled": self.labeled_loss(self.student(seen.image), batch.labeled, seen)})
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        strong = strong.with_image(cutout(strong.image, batch.unlabeled.random, "cutout", self.cutouts))
        with as_teacher(self.teacher):
            answer = self.teacher(weak.image)
        confidence = peak_confidence(answer)
        trusted = confidence_mask(confidence, self.threshold, self.quantile)
        on_seen, on_strong = forward_pair(self.student, seen, strong, self.joined)
        consistency = self.consistency_loss(on_strong, answer, weak, strong, trusted, self.outside)
        losses = {
            "labeled": self.labeled_loss(on_seen, batch.labeled, seen),
            "consistency": consistency * (self.weight * progress.ramp(self.ramp)),
        }
        return Step(losses, {"confidence": confidence.mean(), "trusted": trusted.mean()})

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student}
