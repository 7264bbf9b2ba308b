"""PoseCons: one network learns its own prediction on a weak view in a strong view with Joint Cutout."""

from typing import Literal

from semipose.methods.method import Build, Method, Progress, Step, as_teacher, peak_confidence
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.view import Batch


class PoseCons(Method):
    """Easy-hard consistency of a single network (Xie et al., ICCV 2021).

    One network, which is its own teacher. The paper's easy and hard views are our weak and strong views.

    - Supervised loss: the network on weak labeled views.
    - Consistency loss: its heatmaps on a weak unlabeled view, without gradient, warped to a strong view that is cut at
      the predicted keypoints (Joint Cutout).

    There is no average and no threshold: asymmetric difficulty and the stopped gradient prevent a collapse to
    background.

    Teacher BatchNorm: the network's running statistics.
    EMA: none.
    Deployed: the network; its best checkpoint on validation.

    Differs from the paper:

    - The consistency weight ramps up, as in `pose_dual`, which collapses without (`ramp 0` restores the paper's).
    - The teacher's pass uses running statistics (`batch_statistics` restores the batch's).
    - The area beyond the teacher's view is unknown (`outside background` restores the paper's).
    - The rotation is a true rotation, the strong view changes colors, and its cutouts are upright.
    """

    deployed = "network"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        weight: float = 1.0,  # weight of the consistency loss
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        cutouts: int = 5,  # number of rectangles cut around keypoints of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
        batch_statistics: bool = False,  # BatchNorm of the teacher's pass in train mode, as in the public code
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.cutouts = weight, ramp, cutouts
        self.outside, self.batch_statistics = outside, batch_statistics
        self.network = build("student")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, where there are unlabeled crops, the consistency loss."""
        labeled_view = batch.labeled.weak()
        labeled_output = self.network(labeled_view.image)
        losses = {"labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view)}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        with as_teacher(self.network, self.batch_statistics):
            teacher_output = self.network(weak.image)
        keypoints, _ = self.codec(weak, teacher_output).decode(teacher_output, "quarter")
        strong_keypoints = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
        hard = joint_cutout(strong.image, strong_keypoints, batch.unlabeled.random, "cutout", self.cutouts)
        loss = self.consistency_loss(self.network(hard), teacher_output, weak, strong, outside=self.outside)
        losses["consistency"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {"confidence": peak_confidence(teacher_output).mean()})

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the network."""
        return {"network": self.network}
