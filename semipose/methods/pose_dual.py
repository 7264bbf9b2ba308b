"""PoseDual: two networks teach each other from a weak view to a strong view with Joint Cutout."""

from typing import Literal

from semipose.methods.method import Build, Method, Progress, Step, as_teacher, peak_confidence
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.view import Batch


class PoseDual(Method):
    """Cross-taught pair of differently initialized networks (Xie et al., ICCV 2021).

    Each learns the other's answer to the weak view, in a strong view cut at the other's keypoints. Teacher BatchNorm:
    the other network's running statistics. EMA: none. Deployed: the first network, which costs what one does;
    `--deploy average` takes the mean of both maps.
    Differs from the paper: the weight ramps up, because at full weight from the start young running statistics let
    the pair agree on background; otherwise as `pose_cons` does (true rotation, colors, upright cutouts, running
    statistics and unknown outside by default). Where one weights file starts both, they differ in their heads, as in
    the public code.
    """

    deployed = "first"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        weight: float = 1.0,  # of each consistency loss; each labeled loss weighs 0.5
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        cutouts: int = 5,  # rectangles cut around keypoints of each student's view
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
        batch_statistics: bool = False,  # teachers' passes in train mode, as in the public code
    ) -> None:
        super().__init__(build, skeleton)
        self.weight, self.ramp, self.cutouts = weight, ramp, cutouts
        self.outside, self.batch_statistics = outside, batch_statistics
        self.first, self.second = build("student"), build("peer")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Half of each labeled loss, and each network's loss against the other's answers."""
        pair = {"first": self.first, "second": self.second}
        seen = batch.labeled.weak()
        labeled = [self.labeled_loss(network(seen.image), batch.labeled, seen) for network in pair.values()]
        losses = {"labeled": 0.5 * (labeled[0] + labeled[1])}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        answers = {}
        for name, network in pair.items():
            with as_teacher(network, self.batch_statistics):
                answers[name] = network(weak.image)
        for name, other in (("first", "second"), ("second", "first")):
            keypoints, _ = self.codec(weak, answers[other]).decode(answers[other], "quarter")
            there = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
            hard = joint_cutout(strong.image, there, batch.unlabeled.random, f"cutout/{name}", self.cutouts)
            loss = self.consistency_loss(pair[name](hard), answers[other], weak, strong, outside=self.outside)
            losses[f"consistency_{name}"] = loss * (self.weight * progress.ramp(self.ramp))
        return Step(losses, {f"confidence_{name}": peak_confidence(answer).mean() for name, answer in answers.items()})

    def networks(self) -> dict[str, PoseNetwork]:
        """Both networks, and the mean of their maps as a third."""
        return {"first": self.first, "second": self.second, "average": Ensemble([self.first, self.second])}
