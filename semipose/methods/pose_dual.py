"""PoseDual: each of two networks learns the other's prediction on a weak view in a strong view with Joint Cutout."""

from typing import Literal

from semipose.methods.method import Build, Method, Progress, Step, as_teacher, peak_confidence
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.view import Batch


class PoseDual(Method):
    """Cross-taught pair of differently initialized networks (Xie et al., ICCV 2021).

    Two networks, each the teacher of the other. The paper's easy and hard views are our weak and strong views.

    - Supervised loss: the mean of both networks' losses on weak labeled views.
    - Consistency loss of each network: the other's heatmaps on a weak unlabeled view, without gradient. They are
      warped to a strong view that is cut at the other's keypoints (Joint Cutout).

    Teacher BatchNorm: the other network's running statistics.
    EMA: none.
    Deployed: the first network, which costs what one does; `--deploy average` takes the mean of both networks' maps.

    Differs from the paper:

    - The consistency weight ramps up. At full weight from the start, unsettled running statistics let the pair agree
      on background.
    - As in `pose_cons`: true rotation, color changes, upright cutouts, running statistics and unknown outside by
      default.
    - Networks that start from one weights file differ in their heads, as in the public code.
    """

    deployed = "first"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        weight: float = 1.0,  # weight of each consistency loss; each supervised loss has weight 0.5
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        cutouts: int = 5,  # number of rectangles cut around keypoints of each student's view
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
        batch_statistics: bool = False,  # BatchNorm of the teachers' passes in train mode, as in the public code
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.cutouts = weight, ramp, cutouts
        self.outside, self.batch_statistics = outside, batch_statistics
        self.first, self.second = build("student"), build("peer")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the mean supervised loss and each network's consistency loss against the other."""
        pair = {"first": self.first, "second": self.second}
        labeled_view = batch.labeled.weak()
        labeled = [
            self.labeled_loss(network(labeled_view.image), batch.labeled, labeled_view) for network in pair.values()
        ]
        losses = {"labeled": 0.5 * (labeled[0] + labeled[1])}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        outputs = {}
        for name, network in pair.items():
            with as_teacher(network, self.batch_statistics):
                outputs[name] = network(weak.image)
        for student, teacher in (("first", "second"), ("second", "first")):
            teacher_output = outputs[teacher]
            keypoints, _ = self.codec(weak, teacher_output).decode(teacher_output, "quarter")
            strong_keypoints = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
            random = batch.unlabeled.random
            hard = joint_cutout(strong.image, strong_keypoints, random, f"cutout/{student}", self.cutouts)
            loss = self.consistency_loss(pair[student](hard), teacher_output, weak, strong, outside=self.outside)
            losses[f"consistency_{student}"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {f"confidence_{name}": peak_confidence(output).mean() for name, output in outputs.items()})

    def networks(self) -> dict[str, PoseNetwork]:
        """Return both networks and, as a third, the mean of their maps."""
        return {"first": self.first, "second": self.second, "average": Ensemble([self.first, self.second])}
