"""A method of somebody else with two phases: an auxiliary network waits until half of the run is done."""

from semipose.methods.method import Build, Method, Progress, Step, as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Batch


class BurnIn(Method):
    """First the student learns from labels alone; then an auxiliary network learns from its average."""

    deployed = "teacher"
    networks_wait = True

    def __init__(self, build: Build, skeleton: Skeleton, *, decay: float = 0.5) -> None:
        super().__init__(build, skeleton)
        self.student, self.auxiliary = build("student"), build("auxiliary")
        self.teacher = Ema(self.student, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and after the burn-in the auxiliary network's."""
        seen = batch.labeled.weak()
        losses = {"labeled": self.labeled_loss(self.student(seen.image), batch.labeled, seen)}
        if batch.unlabeled is not None and progress.fraction >= 0.5:
            weak = batch.unlabeled.weak()
            strong = batch.unlabeled.strong(weak)
            with as_teacher(self.teacher):
                answer = self.teacher(weak.image)
            losses["auxiliary"] = self.consistency_loss(self.auxiliary(strong.image), answer, weak, strong)
        return Step(losses)

    def after_update(self, progress: Progress) -> None:
        """Move the teacher."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """All three."""
        return {"teacher": self.teacher.network, "student": self.student, "auxiliary": self.auxiliary}
