"""A method of somebody else, given as tests.contract.third_party:TwoViews: consistency between two weak views."""

from semipose.methods.method import Build, Method, Progress, Step, as_teacher
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Batch


class TwoViews(Method):
    """The network must say the same of two weak views."""

    deployed = "network"

    def __init__(self, build: Build, skeleton: Skeleton, *, weight: float = 0.5) -> None:
        super().__init__(build, skeleton)
        self.weight = weight
        self.network = build("student")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Labeled loss, and one view against the other."""
        seen = batch.labeled.weak()
        labeled = self.labeled_loss(self.network(seen.image), batch.labeled, seen)
        if batch.unlabeled is None:
            return Step({"labeled": labeled})
        first, second = batch.unlabeled.weak("first"), batch.unlabeled.weak("second")
        with as_teacher(self.network):
            answer = self.network(first.image)
        loss = self.consistency_loss(self.network(second.image), answer, first, second)
        return Step({"labeled": labeled, "consistency": loss * self.weight})

    def networks(self) -> dict[str, PoseNetwork]:
        """The one network."""
        return {"network": self.network}


class ThreeLevels(TwoViews):
    """Two views, with an option that has the name of a baseline's option and another meaning."""

    def __init__(
        self, build: Build, skeleton: Skeleton, *, levels: tuple[float, float, float] = (0.1, 0.2, 0.3)
    ) -> None:
        super().__init__(build, skeleton, weight=sum(levels))


class WrongBaseline(ThreeLevels):
    """Wants its baseline to have this option, which the baseline cannot have with three values."""

    baseline_options = ("levels",)
