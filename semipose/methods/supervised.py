"""Labels only: the baseline, and the baseline that every other method is compared with."""

from typing import Literal

from semipose.errors import UsageError
from semipose.methods.method import Build, Method, Progress, Step
from semipose.networks.ema import Ema
from semipose.networks.levels import MultiLevel
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import cutout
from semipose.views.view import Batch


class Supervised(Method):
    """Trains on the labeled images alone and keeps an averaged copy, so that averaging is not taken for a method.

    Teacher BatchNorm: the average follows the running statistics (EMAN). Deployed: raw or averaged weights, whichever
    is better on validation. `levels` are those of `teacher_reviewer_student`: a method that has them is compared with a
    baseline that has them, too. Source: Xiao et al., ECCV 2018 (SimpleBaseline).
    """

    deployed = None
    uses_unlabeled = False
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        augmentation: Literal["weak", "strong"] = "weak",  # which views the labeled images are seen in
        decay: float | None = None,  # of the averaged weights; None: a horizon of 2 % of the run, at most 0.999
        levels: tuple[float, float] = (0.0, 0.0),  # of the losses of auxiliary heads, shallow first; 0 0: no heads
    ) -> None:
        super().__init__(build, skeleton)
        self.augmentation = augmentation
        plain = build("student")
        if any(levels) and plain.detector_free:
            raise UsageError("--method.levels puts heads on networks for one person: leave it out here.")
        self.raw = MultiLevel(plain, levels) if any(levels) else plain
        self.ema = Ema(plain, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss."""
        crops = batch.labeled
        view = crops.weak()
        if self.augmentation == "strong":
            strong = crops.strong(view)
            view = strong.with_image(cutout(strong.image, crops.random, "cutout"))
        predicted = self.raw(view.image)
        if isinstance(self.raw, MultiLevel):
            return Step({"labeled": self.raw.loss(predicted, *self.labeled_target(predicted, crops, view))})
        return Step({"labeled": self.labeled_loss(predicted, crops, view)})

    def after_update(self, progress: Progress) -> None:
        """Move the average."""
        self.ema.update(self._plain(), progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The trained weights and their average."""
        return {"raw": self._plain(), "ema": self.ema.network}

    def _plain(self) -> PoseNetwork:
        return self.raw.network if isinstance(self.raw, MultiLevel) else self.raw
