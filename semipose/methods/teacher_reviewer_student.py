"""Teacher-Reviewer-Student: a student learns from a teacher and from a reviewer, which remembers earlier weights."""

from collections.abc import Collection
from typing import Literal

from torch import Tensor

from semipose.fields import Fields
from semipose.losses.heatmap import field_loss
from semipose.methods._agreement import agreement, blend
from semipose.methods.method import Build, Method, Progress, Step, confidence_mask, peak_confidence, teacher_forward
from semipose.networks.ema import Ema
from semipose.networks.ensemble import Ensemble
from semipose.networks.levels import MultiLevel
from semipose.networks.network import PoseNetwork
from semipose.networks.reviewer import Reviewer
from semipose.pose.skeleton import Skeleton
from semipose.views.keypoint_mix import keypoint_mix
from semipose.views.occlude import joint_cutout
from semipose.views.view import Batch, Crops, View


class TeacherReviewerStudent(Method):
    """Teacher, reviewer and student, multi-level feature learning and Keypoint-Mix (Yun et al., 2025).

    Three networks: the student and the teacher, both trained by gradient, and the reviewer, the teacher's exponential
    moving average (EMA). While it trains, the student has auxiliary heads on two earlier stages of its backbone.

    - Supervised loss: the mean of student (at every level) and teacher on weak labeled views.
    - Student's consistency losses, `teacher` and `reviewer`: their heatmaps on a weak unlabeled view. They are warped
      to a strong view with Keypoint-Mix and Joint Cutout and compared at every level.
    - Teacher's consistency loss, `teacher_consistency`: the mean heatmaps of student and reviewer on the weak view,
      warped to a strong view with other cutouts.

    Teacher BatchNorm: running statistics.
    EMA: the reviewer's, of the teacher with its statistics (EMAN), after the teacher has moved.
    Deployed: the student, without its auxiliary heads; its best checkpoint on validation.

    Our choice, because the abstract of the paper does not state it: what the reviewer keeps, which losses it enters,
    all weights and stages. The weights ramp up, for the reason given in `pose_dual`, in place of a burn-in.
    """

    deployed = "student"
    baseline_options = ("levels",)

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        teacher: Literal["trained", "average"] = "trained",  # a trained network, or the student's average (ablation)
        reviewer: Literal["average", "snapshot", "best", "none"] = "average",  # the weights it keeps (ablation)
        reviewed: Literal["teacher", "student"] = "teacher",  # the network that the reviewer keeps (ablation)
        levels: tuple[float, float] = (0.1, 0.3),  # loss weights of the auxiliary heads, shallow first; 0 0: no heads
        mixes: int = 2,  # number of keypoints blended with others in the student's view; 0: no Keypoint-Mix
        mix_threshold: float = 0.3,  # confidence threshold: mix only keypoints whose peak is higher
        cutouts: int = 5,  # number of rectangles cut around keypoints of the strong views
        weight: float = 1.0,  # weight of the student's consistency loss against the teacher
        review_weight: float = 0.5,  # weight of the student's consistency loss against the reviewer
        teacher_consistency_weight: float = 1.0,  # weight of a trained teacher's loss against student and reviewer
        ramp: float = 0.1,  # the three weights grow linearly from 0 over this share of the run (0 to 1)
        fusion: Literal["separate", "agreed"] = "separate",  # two losses, or one on their agreement (ablation)
        threshold: float = 0.0,  # confidence threshold: use a keypoint's heatmap if its peak is at least this high
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the weak view: no loss, or 0
        decay: float | None = None,  # EMA decay, 0 to 1; None: a horizon of 2 % of the run, at most 0.999
        period: float = 0.05,  # share of the run (0 to 1) after which a snapshot is taken (ablation)
    ) -> None:
        super().__init__(build, skeleton)
        self.reviewed, self.mixes, self.mix_threshold, self.cutouts = reviewed, mixes, mix_threshold, cutouts
        self.weight, self.teacher_consistency_weight, self.ramp = weight, teacher_consistency_weight, ramp
        self.review_weight = 0.0 if reviewer == "none" else review_weight
        self.fusion, self.threshold, self.outside = fusion, threshold, outside
        network = build("student")
        self.student = MultiLevel(network, levels)
        self.teacher: PoseNetwork | Ema[PoseNetwork] = build("teacher") if teacher == "trained" else Ema(network, decay)
        self.reviewer = None if reviewer == "none" else Reviewer(self._followed()[reviewed], reviewer, decay, period)
        self.needs_validation = "--method.reviewer best" if reviewer == "best" else None

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss, the student's consistency losses and a trained teacher's own."""
        crops, teacher_trains = batch.unlabeled, isinstance(self.teacher, PoseNetwork)
        labeled_view = batch.labeled.weak()
        labeled_output = self.student(labeled_view.image)
        labeled_target = self.labeled_target(labeled_output, batch.labeled, labeled_view)
        losses = {"labeled": self.student.loss(labeled_output, *labeled_target)}
        if teacher_trains:
            teacher_loss = field_loss(self.teacher(labeled_view.image), *labeled_target)
            losses["labeled"] = 0.5 * (losses["labeled"] + teacher_loss)
        if crops is None:
            return Step(losses)
        weak, ramp = crops.weak(), progress.ramp(self.ramp)
        strong = crops.strong(weak)
        outputs = {"teacher": teacher_forward(self.teacher, weak)}
        if self.reviewer is not None and self.review_weight > 0:
            outputs["reviewer"] = teacher_forward(self.reviewer, weak)
        losses |= {name: loss * ramp for name, loss in self._student_losses(outputs, weak, strong, crops).items()}
        if teacher_trains and self.teacher_consistency_weight > 0:
            loss = self._teacher_loss(outputs, weak, strong, crops)
            losses["teacher_consistency"] = loss * (self.teacher_consistency_weight * ramp)
        return Step(losses, {f"confidence_{name}": peak_confidence(output).mean() for name, output in outputs.items()})

    def _student_losses(self, outputs: dict[str, Fields], weak: View, strong: View, crops: Crops) -> dict[str, Tensor]:
        """Return the student's consistency losses against `outputs` on `weak`, in `strong` mixed and cut."""
        teacher, reviewer = outputs["teacher"], outputs.get("reviewer")
        keypoints, height = self._strong_keypoints(teacher, weak, strong)
        image = keypoint_mix(strong.image, keypoints, crops.random, "mix", self.mixes, height > self.mix_threshold)
        hard = joint_cutout(image, keypoints, crops.random, "cutout/student", self.cutouts)
        strong_output = self.student(hard)
        targets: dict[str, tuple[Fields, float | Tensor]] = {"teacher": (teacher, self.weight)}
        if self.reviewer is not None and reviewer is not None:
            targets["reviewer"] = reviewer, self.review_weight * self.reviewer.ready
            if self.fusion == "agreed":
                agreed = agreement(teacher, reviewer, self.reviewer.ready)
                targets = {"agreed": (agreed, self.weight + self.review_weight)}
        return {
            name: self.student.loss(strong_output, *self._strong_target(output, weak, strong)) * weight
            for name, (output, weight) in targets.items()
        }

    def _teacher_loss(self, outputs: dict[str, Fields], weak: View, strong: View, crops: Crops) -> Tensor:
        """Return a trained teacher's loss against the student, or the mean of student and reviewer."""
        output = teacher_forward(self.student.network, weak)
        if self.reviewer is not None and "reviewer" in outputs:
            output = blend(output, outputs["reviewer"], 0.5 * self.reviewer.ready)
        target = self._strong_target(output, weak, strong)
        keypoints, _ = self._strong_keypoints(output, weak, strong)
        hard = joint_cutout(strong.image, keypoints, crops.random, "cutout/teacher", self.cutouts)
        return field_loss(self.teacher(hard), *target)

    def _strong_target(self, output: Fields, weak: View, strong: View) -> tuple[Fields, Tensor]:
        """Return the `output` on `weak` warped to `strong`, and the weight of each cell."""
        mask = confidence_mask(peak_confidence(output), self.threshold)
        return self.moved_target(output, weak, strong, mask, self.outside)

    def _strong_keypoints(self, output: Fields, weak: View, strong: View) -> tuple[Tensor, Tensor]:
        """Return the keypoints (U, K, 2) of an `output` on `weak`, in pixels of `strong`, and their peaks (U, K)."""
        to_strong, flip = weak.to(strong), self.skeleton.flip
        keypoints, height = self.codec(weak, output).decode(output, "quarter")
        return to_strong.keypoints(keypoints, flip), to_strong.exchanged(height, flip)

    def after_update(self, progress: Progress) -> None:
        """Move an averaged teacher, and after it the reviewer."""
        if isinstance(self.teacher, Ema):
            self.teacher.update(self.student.network, progress.healthy)
        if self.reviewer is not None:
            self.reviewer.review(self._followed()[self.reviewed], progress.update, progress.healthy)

    def after_evaluation(self, improved: Collection[str]) -> None:
        """Let the reviewer keep the network it follows when that has improved on validation."""
        if self.reviewer is not None and self.reviewed in improved:
            self.reviewer.found_best(self._followed()[self.reviewed])

    def _followed(self) -> dict[str, PoseNetwork]:
        """Return the networks that the reviewer may follow: student and teacher."""
        teacher = self.teacher.network if isinstance(self.teacher, Ema) else self.teacher
        return {"student": self.student.network, "teacher": teacher}

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the student without auxiliary heads, the teacher, the reviewer, and the mean of their maps."""
        reviewer = {} if self.reviewer is None else {"reviewer": self.reviewer.network}
        networks = self._followed() | reviewer
        return {**networks, "average": Ensemble(list(networks.values()))}
