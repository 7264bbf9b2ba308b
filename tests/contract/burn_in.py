"""A third-party method with two phases: an auxiliary network waits until half of the run is done."""

from semipose.methods import Batch, Build, Ema, Method, PoseNetwork, Progress, Skeleton, Step, teacher_forward


class BurnIn(Method):
    """First the student learns from labels alone; then an auxiliary network learns from the student's average."""

    deployed = "teacher"
    networks_wait = True

    def __init__(self, build: Build, skeleton: Skeleton, *, decay: float = 0.5) -> None:
        super().__init__(build, skeleton)
        self.student, self.auxiliary = build("student"), build("auxiliary")
        self.teacher = Ema(self.student, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, after the burn-in, the auxiliary network's consistency loss."""
        labeled_view = batch.labeled.weak()
        labeled_output = self.student(labeled_view.image)
        losses = {"labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view)}
        if batch.unlabeled is not None and progress.fraction >= 0.5:
            weak = batch.unlabeled.weak()
            strong = batch.unlabeled.strong(weak)
            teacher_output = teacher_forward(self.teacher, weak)
            losses["auxiliary"] = self.consistency_loss(self.auxiliary(strong.image), teacher_output, weak, strong)
        return Step(losses)

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return all three networks."""
        return {"teacher": self.teacher.network, "student": self.student, "auxiliary": self.auxiliary}
