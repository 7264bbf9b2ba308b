"""Supervised training on labeled images alone: the baseline that every other method is compared with."""

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
    """Supervised baseline on the labeled images alone, with averaged weights (Xiao et al., ECCV 2018).

    Two networks: the trained one and its exponential moving average (EMA). The average is there so that a gain from
    averaging is not taken for a gain from unlabeled images.

    - Supervised loss: the trained network on weak or strong labeled views.
    - `levels` adds the auxiliary heads of `teacher_reviewer_student`, for methods that have them too.

    Teacher BatchNorm: no teacher; the average follows the running statistics (EMAN).
    EMA: as in `mean_teacher`.
    Deployed: raw or averaged weights, whichever is better on validation.
    """

    deployed = None
    uses_unlabeled = False
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        augmentation: Literal["weak", "strong"] = "weak",  # augmentation of the labeled images
        decay: float | None = None,  # EMA decay, 0 to 1; None: a horizon of 2 % of the run, at most 0.999
        levels: tuple[float, float] = (0.0, 0.0),  # loss weights of auxiliary heads, shallow first; 0 0: no heads
    ) -> None:
        super().__init__(build, skeleton)
        self.augmentation = augmentation
        network = build("student")
        if any(levels) and network.detector_free:
            raise UsageError(
                "--method.levels adds auxiliary heads to networks for one person in a crop; leave it out for "
                "networks for whole images."
            )
        self.raw = MultiLevel(network, levels) if any(levels) else network
        self.ema = Ema(network, decay)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss."""
        crops = batch.labeled
        view = crops.weak()
        if self.augmentation == "strong":
            strong = crops.strong(view)
            view = strong.with_image(cutout(strong.image, crops.random, "cutout"))
        output = self.raw(view.image)
        if isinstance(self.raw, MultiLevel):
            return Step({"labeled": self.raw.loss(output, *self.labeled_target(output, crops, view))})
        return Step({"labeled": self.labeled_loss(output, crops, view)})

    def after_update(self, progress: Progress) -> None:
        """Move the average."""
        self.ema.update(self._network(), progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the trained weights and their average."""
        return {"raw": self._network(), "ema": self.ema.network}

    def _network(self) -> PoseNetwork:
        """Return the trained network without auxiliary heads."""
        return self.raw.network if isinstance(self.raw, MultiLevel) else self.raw
