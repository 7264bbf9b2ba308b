"""MultiAugs: several ways to make one strong view harder, a loss for each, and one answer that all must reach."""

from typing import Literal

import torch
from torch import Tensor

from semipose.fields import Fields
from semipose.methods.method import Build, Method, Progress, Step, as_teacher, peak_confidence
from semipose.networks.ensemble import Ensemble
from semipose.networks.network import PoseNetwork
from semipose.networks.recompute import recomputed
from semipose.pose.skeleton import Skeleton
from semipose.views.paths import PATHS, read_paths
from semipose.views.view import Batch, View


class MultiAugs(Method):
    """Multi-path easy-hard consistency of one network or a cross-taught pair (Zhou et al., MultiAugs, 2024).

    One strong view is made harder in a different way on each path; the losses of all paths are added, not averaged.
    Teacher BatchNorm: the teaching network's running statistics. EMA: none. Deployed: the network, of a pair the
    first.
    Differs from the paper: the weight ramps up, for the reason `pose_dual` gives; a path changes the strong view and
    not the weak one before it turns, so rectangles are upright; rectangles follow the input's size, their axes are
    not exchanged, and CutMix and MixUp exchange neighbors. JCCM has two mixed rectangles also in a pair, where the
    public code has five.
    """

    deployed = "first"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        paths: str = "joco,jccm",  # with few labels the paper adds joint_cutout,joint_cut_occlude; see views/paths.py
        dual: bool = False,  # a pair that teaches each other instead of one network
        weight: float = 1.0,  # of each path's loss
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
        recompute: bool = False,  # compute each path's forward pass twice instead of keeping it: less memory
    ) -> None:
        super().__init__(build, skeleton)
        self.paths = read_paths(paths)
        self.weight, self.ramp, self.outside, self.recompute = weight, ramp, outside, recompute
        self.first = build("student")
        self.pair = {"first": self.first}
        if dual:
            self.second = build("peer")
            self.pair["second"] = self.second

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, shared by a pair, and the loss of every path of every network."""
        seen = batch.labeled.weak()
        labeled = [self.labeled_loss(network(seen.image), batch.labeled, seen) for network in self.pair.values()]
        losses = {"labeled": torch.stack(labeled).mean()}
        if batch.unlabeled is None:
            return Step(losses)
        draw = batch.unlabeled.random
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        answers = {name: self._answer(network, weak) for name, network in self.pair.items()}
        weight = self.weight * progress.ramp(self.ramp)
        for name, answer in answers.items():
            student = name if len(self.pair) == 1 else {"first": "second", "second": "first"}[name]
            keypoints, _ = self.codec(weak, answer).decode(answer, "quarter")
            there = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
            for number, path in enumerate(self.paths):
                hard = PATHS[path](strong.image, there, draw, f"{student}/{number}/{path}")
                fields = self._student(self.pair[student], hard)
                loss = self.consistency_loss(fields, answer, weak, strong, outside=self.outside)
                key = f"{path}_{student}" if len(self.pair) > 1 else path
                losses[key] = losses.get(key, 0) + loss * weight
        return Step(losses, {f"confidence_{name}": peak_confidence(answer).mean() for name, answer in answers.items()})

    def _answer(self, network: PoseNetwork, weak: View) -> Fields:
        with as_teacher(network):
            return network(weak.image)

    def _student(self, network: PoseNetwork, image: Tensor) -> Fields:
        return recomputed(network, image) if self.recompute else network(image)

    def networks(self) -> dict[str, PoseNetwork]:
        """The network, or both and the mean of their maps as a third."""
        return self.pair if len(self.pair) == 1 else {**self.pair, "average": Ensemble(list(self.pair.values()))}
