"""A third-party method, named tests.contract.third_party:TwoViews: consistency between two weak views."""

from semipose.methods import Batch, Build, Method, PoseNetwork, Progress, Skeleton, Step, teacher_forward


class TwoViews(Method):
    """The network must predict the same on two weak views."""

    deployed = "network"

    def __init__(self, build: Build, skeleton: Skeleton, *, weight: float = 0.5) -> None:
        super().__init__(build, skeleton)
        self.weight = weight
        self.network = build("student")

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss, and the consistency loss of one view against the other."""
        labeled_view = batch.labeled.weak()
        labeled = self.labeled_loss(self.network(labeled_view.image), batch.labeled, labeled_view)
        if batch.unlabeled is None:
            return Step({"labeled": labeled})
        first, second = batch.unlabeled.weak("first"), batch.unlabeled.weak("second")
        target = teacher_forward(self.network, first)
        loss = self.consistency_loss(self.network(second.image), target, first, second)
        return Step({"labeled": labeled, "consistency": loss * self.weight})

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the network."""
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
