"""PoseCons: one network teaches itself from a weak view to a strong view with Joint Cutout."""

from typing import Literal

from semipose.methods.method import Build, Method, Progress, Step, as_teacher, peak_confidence
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.view import Batch


class PoseCons(Method):
    """Easy-hard consistency of a single network (Xie et al., ICCV 2021).

    Asymmetric difficulty and the stopped gradient keep it from collapsing to background; there is no average and no
    threshold. Teacher BatchNorm: the student's running statistics. EMA: none. Deployed: the network; its best
    checkpoint on validation.
    Differs from the paper: the weight ramps up, as in `pose_dual`, which collapses without (`ramp 0` restores the
    paper's); the teacher's pass uses running statistics (`batch_statistics`), what lies beyond its view is unknown
    (`outside background`), the turn is a true rotation, the strong view changes colors, and its cutouts are upright.
    """

    deployed = "network"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        weight: float = 1.0,  # of the consistency loss
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        cutouts: int = 5,  # rectangles cut around keypoints of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
        batch_statistics: bool = False,  # teacher's pass in train mode, as in the public code
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.cutouts = weight, ramp, cutouts
        self.outside, self.batch_statistics = outside, batch_statistics
        self.network = build("student")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and the easy-hard loss where there are unlabeled crops."""
        seen = batch.labeled.weak()
        on_seen = self.network(seen.image)
        losses = {"labeled": self.labeled_loss(on_seen, batch.labeled, seen)}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        with as_teacher(self.network, self.batch_statistics):
            answer = self.network(weak.image)
        keypoints, _ = self.codec(weak, answer).decode(answer, "quarter")
        there = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
        hard = joint_cutout(strong.image, there, batch.unlabeled.random, "cutout", self.cutouts)
        loss = self.consistency_loss(self.network(hard), answer, weak, strong, outside=self.outside)
        losses["consistency"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {"confidence": peak_confidence(answer).mean()})

    def networks(self) -> dict[str, PoseNetwork]:
        """The one network."""
        return {"network": self.network}
