"""Mean Teacher for detector-free networks: consistency with its heatmaps and pseudo-labels from its detections."""

from typing import Literal

from torch import Tensor

from semipose.codecs.choose import scene_codec
from semipose.fields import Fields
from semipose.losses.heatmap import total
from semipose.methods._losses import uniform_numbers
from semipose.methods._people_threshold import PeopleThreshold
from semipose.methods._pseudo_people import people_per_image, select_pseudo_people, signals
from semipose.methods.method import Build, Method, Progress, Step, as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.scene import Scene
from semipose.views.occlude import fill_rectangles, rectangles
from semipose.views.random_key import RandomKey
from semipose.views.view import Batch, SceneCrops, View


class InstancePseudoLabel(Method):
    """Heatmap consistency and instance-specific pseudo annotations, end to end (Wang et al., MIR 2025).

    Two networks: the student, trained by gradient, and the teacher, its exponential moving average (EMA).

    - Supervised loss: the network's published losses on weak labeled views.
    - Consistency loss, `heatmaps`: the teacher's heatmaps on a weak view, moved to the student's strong view.
    - Pseudo-label losses, `instances`: the supervised instance losses (tags, offsets, maps of one person) on the people
      that the teacher detects. Uncertain people and regions are ignored.

    With `instances 0` only the consistency loss remains, with `heatmaps 0` only the pseudo-label losses.

    Teacher BatchNorm: averaged running statistics, eval mode (EMAN).
    EMA: warm-up min(1 - 1/(t+1), decay).
    Deployed: the teacher; its best checkpoint on validation.

    Our choice, because the abstract of the paper does not state it: everything but the two losses.
    """

    deployed = "teacher"
    top_down = False
    detector_free = True

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        decay: float | None = None,  # of the teacher; None: a horizon of 2 % of the run, at most 0.999
        burn_in: float = 0.4,  # share of the run with the supervised loss alone
        ramp: float = 0.1,  # share of the run after that over which the other losses' weights grow from 0
        heatmaps: float = 1.0,  # weight of the heatmap consistency
        instances: float = 1.0,  # weight of the losses on pseudo people
        redrawn: float = 0.5,  # weight, among those, of the loss on Gaussians at pseudo people's keypoints and centers
        rule: Literal["matched", "mixture", "fixed"] = "matched",  # selects pseudo people: as many as labels have, ...
        threshold: float = 0.0,  # lowest score of a pseudo person for the rule fixed; 0: the default of the network
        keypoint: float = 0.3,  # lowest score of a confident keypoint
        doubt: float = 0.5,  # people with a score between this share of the threshold and the threshold are ignored
        people: int = 20,  # people per image at most
        cutouts: int = 5,  # rectangles cut around keypoints of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # the area beyond the teacher's view
    ) -> None:
        super().__init__(build, skeleton)
        self.student = build("student")
        self.burn_in, self.ramp, self.outside = burn_in, ramp, outside
        self.heatmaps, self.instances, self.redrawn = heatmaps, instances, redrawn
        self.keypoint, self.doubt, self.people, self.cutouts = keypoint, doubt, people, cutouts
        self.teacher = Ema(self.student, decay)
        self.threshold = PeopleThreshold(rule, threshold)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss and, after the burn-in, consistency and pseudo-label losses."""
        labeled, unlabeled = batch.labeled, batch.unlabeled
        assert isinstance(labeled, SceneCrops)
        labeled_view = labeled.weak()
        losses = {"labeled": self.labeled_loss(self.student(labeled_view.image), labeled, labeled_view)}
        if unlabeled is None or progress.fraction < self.burn_in:
            return Step(losses)
        assert isinstance(unlabeled, SceneCrops)
        weak = unlabeled.weak()
        strong = unlabeled.strong(weak)
        with as_teacher(self.teacher):
            teacher_output = self.teacher(weak.image)
        codec = scene_codec(teacher_output, weak.size, self.skeleton)
        detected, reliable = codec.detect(teacher_output, self.people, unlabeled.valid_region(weak), self.keypoint)

        self.threshold.update(detected.weight, people_per_image(labeled.labeled_in(labeled_view, self.skeleton.flip)))
        threshold = self.threshold(codec.confident_score)
        pseudo = select_pseudo_people(detected, reliable, threshold, self.doubt)
        in_strong = pseudo.moved(weak.to(strong), self.skeleton.flip, strong.size)

        keypoints, shown = in_strong.keypoints.flatten(1, 2), in_strong.shown.flatten(1)
        cut = rectangles(strong.size, unlabeled.random, "cutout", self.cutouts, keypoints, shown)
        strong_output = self.student(fill_rectangles(strong.image, cut))
        weight = progress.ramp(self.ramp, start=self.burn_in)
        if self.instances > 0:
            for name, loss in self.pseudo_label_losses(strong_output, in_strong, strong, unlabeled.random).items():
                losses[name] = loss * (weight * self.instances)
        if self.heatmaps > 0:
            consistency = self.consistency_loss(strong_output, teacher_output, weak, strong, outside=self.outside)
            losses["heatmaps"] = consistency * (weight * self.heatmaps)
        return Step(losses, signals(codec, teacher_output, detected, pseudo, threshold) if progress.logged else {})

    def pseudo_label_losses(self, output: Fields, people: Scene, view: View, random: RandomKey) -> dict[str, Tensor]:
        """Losses of the student's `output` on a `view` with these pseudo `people`; background is no target.

        They are the codec's instance losses, and "redrawn" on Gaussians around keypoints and centers.
        """
        codec = scene_codec(output, view.size, self.skeleton)
        losses = codec.instance_losses(output, people, uniform_numbers(people, random))
        if self.redrawn > 0:
            maps = codec.map_losses(output, *codec.targets(people, negatives=False))
            losses["redrawn"] = total(maps) * self.redrawn
        return losses

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student}
