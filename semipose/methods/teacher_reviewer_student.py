"""Teacher-Reviewer-Student: a student learns from a teacher and from a reviewer that remembers what the teacher was."""

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

    The teacher learns the labels and, cut at other keypoints, what student and reviewer say together; the student
    learns the labels and what teacher and reviewer say, with auxiliary heads on earlier stages of its backbone that
    learn the same, in views in which keypoints are mixed and cut. Teacher BatchNorm: running statistics. EMA: the
    reviewer's, of the teacher with its statistics (EMAN), after the teacher has moved. Deployed: the student, without
    its auxiliary heads; its best checkpoint on validation.
    Not stated in what we have of the paper (its abstract); we choose: what the reviewer keeps, which losses it enters,
    all weights and stages. The weights ramp up, for the reason `pose_dual` gives, in place of a burn-in.
    """

    deployed = "student"
    baseline_options = ("levels",)

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        teacher: Literal["trained", "average"] = "trained",  # a network that learns too, or the student's average
        reviewer: Literal["average", "snapshot", "best", "none"] = "average",  # what it keeps; best: on validation
        reviewed: Literal["teacher", "student"] = "teacher",  # whose history the reviewer keeps
        levels: tuple[float, float] = (0.1, 0.3),  # of the losses of auxiliary heads, shallow first; 0 0: no heads
        mixes: int = 2,  # keypoints mixed with others in the student's view; 0: no Keypoint-Mix
        mix_threshold: float = 0.3,  # mix only keypoints whose peak is higher
        cutouts: int = 5,  # rectangles cut around keypoints of the views that are learned
        weight: float = 1.0,  # of the student's loss against the teacher
        review_weight: float = 0.5,  # of the student's loss against the reviewer
        teacher_consistency_weight: float = 1.0,  # of a trained teacher's loss against student and reviewer
        ramp: float = 0.1,  # share of the run over which these weights grow from 0
        fusion: Literal["separate", "agreed"] = "separate",  # a loss each, or one on what teacher and reviewer agree on
        threshold: float = 0.0,  # trust a map only when its peak is higher
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the weak view
        decay: float | None = None,  # of the averages; None: a horizon of 2 % of the run, at most 0.999
        period: float = 0.05,  # share of the run after which a snapshot is taken
    ) -> None:
        super().__init__(build, skeleton)
        self.reviewed, self.mixes, self.mix_threshold, self.cutouts = reviewed, mixes, mix_threshold, cutouts
        self.weight, self.teacher_consistency_weight, self.ramp, self.fusion = (
            weight,
            teacher_consistency_weight,
            ramp,
            fusion,
        )
        self.review_weight = 0.0 if reviewer == "none" else review_weight
        self.threshold, self.outside = threshold, outside
        plain = build("student")
        self.student = MultiLevel(plain, levels)
        self.teacher: PoseNetwork | Ema[PoseNetwork] = build("teacher") if teacher == "trained" else Ema(plain, decay)
        self.reviewer = None if reviewer == "none" else Reviewer(self._trained()[reviewed], reviewer, decay, period)
        self.needs_validation = "--method.reviewer best" if reviewer == "best" else None

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, the student's losses against its two teachers, and a trained teacher's own."""
        seen, crops, trained = batch.labeled.weak(), batch.unlabeled, isinstance(self.teacher, PoseNetwork)
        on_seen = self.student(seen.image)
        target = self.labeled_target(on_seen, batch.labeled, seen)
        losses = {"labeled": self.student.loss(on_seen, *target)}
        if trained:
            losses["labeled"] = 0.5 * (losses["labeled"] + field_loss(self.teacher(seen.image), *target))
        if crops is None:
            return Step(losses)
        weak, scale = crops.weak(), progress.ramp(self.ramp)
        strong = crops.strong(weak)
        answers = {"teacher": teacher_forward(self.teacher, weak)}
        if self.reviewer is not None and self.review_weight > 0:
            answers["reviewer"] = teacher_forward(self.reviewer, weak)
        losses |= {name: loss * scale for name, loss in self._learn(answers, weak, strong, crops).items()}
        if trained and self.teacher_consistency_weight > 0:
            losses["lesson"] = self._teach(answers, weak, strong, crops) * (self.teacher_consistency_weight * scale)
        return Step(losses, {f"confidence_{name}": peak_confidence(answer).mean() for name, answer in answers.items()})

    def _learn(self, answers: dict[str, Fields], weak: View, strong: View, crops: Crops) -> dict[str, Tensor]:
        """The student's losses against `answers` on `weak`, in `strong` with keypoints mixed and cut."""
        teacher, reviewed = answers["teacher"], answers.get("reviewer")
        there, height = self._keypoints(teacher, weak, strong)
        image = keypoint_mix(strong.image, there, crops.random, "mix", self.mixes, height > self.mix_threshold)
        on_hard = self.student(joint_cutout(image, there, crops.random, "cutout/student", self.cutouts))
        lessons: dict[str, tuple[Fields, float | Tensor]] = {"teacher": (teacher, self.weight)}
        if self.reviewer is not None and reviewed is not None:
            lessons["reviewer"] = reviewed, self.review_weight * self.reviewer.ready
            if self.fusion == "agreed":
                lessons = {
                    "agreed": (agreement(teacher, reviewed, self.reviewer.ready), self.weight + self.review_weight)
                }
        losses = {}
        for name, (answer, weight) in lessons.items():
            target = self.moved_target(
                answer, weak, strong, confidence_mask(peak_confidence(answer), self.threshold), self.outside
            )
            losses[name] = self.student.loss(on_hard, *target) * weight
        return losses

    def _teach(self, answers: dict[str, Fields], weak: View, strong: View, crops: Crops) -> Tensor:
        """A trained teacher's loss against the student, or the mean of student and reviewer, in `strong` with cuts."""
        answer = teacher_forward(self.student.network, weak)
        if self.reviewer is not None and "reviewer" in answers:
            answer = blend(answer, answers["reviewer"], 0.5 * self.reviewer.ready)
        target = self.moved_target(
            answer, weak, strong, confidence_mask(peak_confidence(answer), self.threshold), self.outside
        )
        there, _ = self._keypoints(answer, weak, strong)
        hard = joint_cutout(strong.image, there, crops.random, "cutout/teacher", self.cutouts)
        return field_loss(self.teacher(hard), *target)

    def _keypoints(self, answer: Fields, weak: View, strong: View) -> tuple[Tensor, Tensor]:
        """Keypoints (U, K, 2) of an `answer` on `weak` in pixels of `strong`, and their peaks (U, K)."""
        move, flip = weak.to(strong), self.skeleton.flip
        keypoints, height = self.codec(weak, answer).decode(answer, "quarter")
        return move.keypoints(keypoints, flip), move.exchanged(height, flip)

    def after_update(self, progress: Progress) -> None:
        """Move an averaged teacher, and after it the reviewer."""
        if isinstance(self.teacher, Ema):
            self.teacher.update(self.student.network, progress.healthy)
        if self.reviewer is not None:
            self.reviewer.review(self._trained()[self.reviewed], progress.update, progress.healthy)

    def after_evaluation(self, improved: Collection[str]) -> None:
        """Let the reviewer keep the network it reviews when that has become better than ever on validation."""
        if self.reviewer is not None and self.reviewed in improved:
            self.reviewer.found_best(self._trained()[self.reviewed])

    def _trained(self) -> dict[str, PoseNetwork]:
        teacher = self.teacher.network if isinstance(self.teacher, Ema) else self.teacher
        return {"student": self.student.network, "teacher": teacher}

    def networks(self) -> dict[str, PoseNetwork]:
        """The plain student, the teacher, the reviewer, and the mean of their maps."""
        found = self._trained() | ({} if self.reviewer is None else {"reviewer": self.reviewer.network})
        return {**found, "average": Ensemble(list(found.values()))}
