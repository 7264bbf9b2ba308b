"""MultiAugs: one strong view is made harder in several ways; every one must match the same teacher output."""

from typing import Literal

import torch
from torch import Tensor

from semipose.fields import Fields
from semipose.methods.method import Build, Method, Progress, Step, peak_confidence, teacher_forward
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.networks.recompute import recomputed
from semipose.pose.skeleton import Skeleton
from semipose.views.paths import PATHS, read_paths
from semipose.views.view import Batch


class MultiAugs(Method):
    """Multi-path easy-hard consistency of one network or a cross-taught pair (Zhou et al., MultiAugs, 2024).

    One network that is its own teacher, or with `dual` two networks, each the teacher of the other.

    - Supervised loss: the mean of the networks' losses on weak labeled views.
    - Consistency losses: the teacher's heatmaps on a weak unlabeled view, warped to the strong view. Each path makes
      the strong view harder in its own way and has its own loss. The losses of all paths are added, not averaged.

    Teacher BatchNorm: the teaching network's running statistics.
    EMA: none.
    Deployed: the network, or the first of a pair.

    Differs from the paper:

    - The consistency weight ramps up, for the reason given in `pose_dual`.
    - A path changes the strong view, not the weak one before its rotation, so rectangles are upright.
    - Rectangles follow the size of the input, and their axes are not exchanged.
    - CutMix and MixUp pair neighbors of the batch.
    - JCCM mixes two rectangles in a pair too, where the public code has five.
    """

    deployed = "first"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        paths: str = "joco,jccm",  # comma-separated; with few labels the paper adds joint_cutout,joint_cut_occlude
        dual: bool = False,  # two networks that teach each other, instead of one
        weight: float = 1.0,  # weight of each path's loss
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
        recompute: bool = False,  # save memory: recompute each path's forward pass in the backward pass
    ) -> None:
        super().__init__(build, skeleton)
        self.paths = read_paths(paths)
        self.weight, self.ramp, self.outside, self.recompute = weight, ramp, outside, recompute
        self.first = build("student")
        self.trained = {"first": self.first}
        if dual:
            self.second = build("peer")
            self.trained["second"] = self.second

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the mean supervised loss and the consistency loss of every path of every network."""
        labeled_view = batch.labeled.weak()
        labeled = [
            self.labeled_loss(network(labeled_view.image), batch.labeled, labeled_view)
            for network in self.trained.values()
        ]
        losses = {"labeled": torch.stack(labeled).mean()}
        if batch.unlabeled is None:
            return Step(losses)
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        outputs = {name: teacher_forward(network, weak) for name, network in self.trained.items()}
        weight, dual = self.weight * progress.ramp(self.ramp), len(self.trained) > 1
        for teacher, teacher_output in outputs.items():
            student = {"first": "second", "second": "first"}[teacher] if dual else teacher
            keypoints, _ = self.codec(weak, teacher_output).decode(teacher_output, "quarter")
            strong_keypoints = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
            for number, path in enumerate(self.paths):
                name = f"{student}/{number}/{path}"
                hard = PATHS[path](strong.image, strong_keypoints, batch.unlabeled.random, name)
                output = self._student_output(self.trained[student], hard)
                loss = self.consistency_loss(output, teacher_output, weak, strong, outside=self.outside)
                key = f"{path}_{student}" if dual else path
                losses[key] = losses.get(key, 0) + loss * weight
        return Step(losses, {f"confidence_{name}": peak_confidence(output).mean() for name, output in outputs.items()})

    def _student_output(self, network: PoseNetwork, image: Tensor) -> Fields:
        return recomputed(network, image) if self.recompute else network(image)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the network, or both networks and the mean of their maps as a third."""
        networks = list(self.trained.values())
        return self.trained if len(networks) == 1 else {**self.trained, "average": Ensemble(networks)}
