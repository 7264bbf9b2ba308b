"""Detector-free people without labels: an averaged teacher's maps and the people it finds teach a student."""

from typing import Literal

from torch import Tensor

from semipose.codecs.scene_codec import scene_codec
from semipose.fields import Fields
from semipose.losses.heatmap import total
from semipose.methods._people_threshold import PeopleThreshold
from semipose.methods._pseudo_people import people_per_image, select_pseudo_people, signals
from semipose.methods.method import Build, Method, Progress, Step, as_teacher
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.scene import Scene
from semipose.views.occlude import fill_rectangles, rectangles
from semipose.views.view import Batch, SceneCrops, View


class InstancePseudoLabel(Method):
    """Heatmap consistency and instance-specific pseudo annotations, end to end (Wang et al., MIR 2025).

    The teacher answers on a weak view. Its maps, moved, are one lesson; the people it finds there, moved point by
    point, are the other: what tells people apart (tags, offsets, maps of one person) is learned from whom the teacher
    is sure of, where it is sure, and nothing is learned where it is not. Teacher BatchNorm: averaged running
    statistics, eval mode (EMAN). EMA: warm-up min(1 - 1/(t+1), decay). Deployed: the teacher; its best checkpoint on
    validation.
    Not stated in what we have of the paper (its abstract); we choose: all of it but the two lessons. `instances 0` is
    heatmap consistency alone, `heatmaps 0` the pseudo people alone.
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
        burn_in: float = 0.4,  # share of the run in which only the labels are learned
        ramp: float = 0.1,  # share of the run over which both lessons' weights grow from 0 after that
        heatmaps: float = 1.0,  # weight of the heatmap consistency
        instances: float = 1.0,  # weight of what is learned from pseudo people
        redrawn: float = 0.5,  # part of it: new peaks at their keypoints and centers
        rule: Literal["matched", "mixture", "fixed"] = "matched",  # who is a pseudo person: as many as labels have, ...
        threshold: float = 0.0,  # least score of a person for the rule fixed; 0: what the codec takes for sure
        keypoint: float = 0.3,  # least score of a keypoint
        doubt: float = 0.5,  # between this share of the threshold and it, nobody is learned to be there or not
        people: int = 20,  # the most in an image
        cutouts: int = 5,  # rectangles cut around keypoints of the student's view
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
    ) -> None:
        super().__init__(build, skeleton)
        self.student = build("student")
        self.burn_in, self.ramp, self.outside = burn_in, ramp, outside
        self.heatmaps, self.instances, self.redrawn = heatmaps, instances, redrawn
        self.keypoint, self.doubt, self.people, self.cutouts = keypoint, doubt, people, cutouts
        self.teacher = Ema(self.student, decay)
        self.threshold = PeopleThreshold(rule, threshold)

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss and, after the burn-in, both lessons of the teacher."""
        assert isinstance(batch.labeled, SceneCrops)
        seen = batch.labeled.weak()
        people = batch.labeled.labeled_in(seen, self.skeleton.flip)
        on_seen = self.student(seen.image)
        if batch.unlabeled is None or progress.fraction < self.burn_in:
            return Step({"labeled": self.people_loss(on_seen, batch.labeled.placed(people, seen), seen)})
        assert isinstance(batch.unlabeled, SceneCrops)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        with as_teacher(self.teacher):
            answer = self.teacher(weak.image)
        codec = scene_codec(answer, weak.size, self.skeleton)
        found, reliable = codec.found(answer, self.people, batch.unlabeled.known_in(weak), self.keypoint)
        self.threshold.update(found.weight, people_per_image(people))
        least = self.threshold(codec.sure)
        pseudo = select_pseudo_people(found, reliable, least, self.doubt)
        there = pseudo.moved(weak.to(strong), self.skeleton.flip, strong.size)
        spots, shown = there.keypoints.flatten(1, 2), there.shown.flatten(1)
        hidden = rectangles(strong.size, batch.unlabeled.random, "cutout", self.cutouts, spots, shown)
        on_strong = self.student(fill_rectangles(strong.image, hidden))
        weight = min(1.0, (progress.fraction - self.burn_in) / self.ramp) if self.ramp > 0 else 1.0
        # As much room as pseudo people have: both are learned in one go.
        labels = batch.labeled.placed(people, seen, self.people if self.instances > 0 else 0)
        losses = self.lessons((on_seen, labels), (on_strong, there), strong, weight)
        if self.heatmaps > 0:
            consistency = self.consistency_loss(on_strong, answer, weak, strong, outside=self.outside)
            losses["heatmaps"] = consistency * (weight * self.heatmaps)
        return Step(losses, signals(codec, answer, found, pseudo, least) if progress.logged else {})

    def lessons(
        self, labeled: tuple[Fields, Scene], pseudo: tuple[Fields, Scene], view: View, weight: float
    ) -> dict[str, Tensor]:
        """Losses of the student's answers to labeled images and to others with the pseudo people in them, the latter's
        times `weight`; all views are as large as `view`."""
        if self.instances == 0:
            return {"labeled": self.people_loss(*labeled, view)}
        given, made = self.people_losses(labeled, pseudo, view, weight * self.instances, negatives=False)
        # Those of maps have the maps' names; the others tell people apart.
        maps = {name: made.pop(name) for name in list(made) if name in pseudo[0]}
        redrawn = {"redrawn": total(maps) * self.redrawn} if self.redrawn > 0 else {}
        return {"labeled": total(given)} | made | redrawn

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student}
