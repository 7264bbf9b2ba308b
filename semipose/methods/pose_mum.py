"""Pose-MUM: a student sees people with tiles of each other, un-mixes its features, and learns an average's answers."""

from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.methods.method import Build, Method, Progress, Step, as_teacher, confidence_mask
from semipose.networks import STRIDE_MULTIPLE
from semipose.networks.ema import Ema
from semipose.networks.hooks import changing
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles, read_grid, usual_grid, usual_group
from semipose.views.view import Batch, View

# Transposed convolutions before the un-mixing. The heatmaps' own 1x1 convolution sees one cell at a time: un-mixing
# before it is the same as behind it.
_DECONVOLUTIONS = {"encoder": 0, "deconv1": 1, "deconv2": 2, "heatmap": None}


class PoseMum(Method):
    """Tiles mixed between people, at the input and within the network, under an averaged teacher (Kim et al., 2022).

    The student's strong view, with Joint Cutout at the teacher's keypoints, is mixed tile by tile with those of a few
    neighbors (MUM, CVPR 2022), by chance at the input and by chance before one of the backbone's stages; features are
    un-mixed before the head, so the targets stay as they are. Teacher BatchNorm: averaged running statistics, eval
    mode (EMAN, Cai et al., CVPR 2021). EMA: warm-up min(1 - 1/(t+1), decay). Deployed: the teacher; its best
    checkpoint on validation.
    Not stated in what we have of the paper (its abstract); we choose: chances, layers, grid, group, place of the
    un-mixing, losses, ramp. Differs from MUM: the grid need not be square and always divides the maps, so that
    nothing is resampled; the decay follows the run's length, as in `mean_teacher`.
    """

    deployed = "teacher"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        decay: float | None = None,  # of the teacher; None: a horizon of 2 % of the run, at most 0.999
        eman: bool = True,  # average BatchNorm statistics too; else the teacher uses its own batches'
        weight: float = 1.0,  # of the consistency loss
        ramp: float = 0.1,  # share of the run over which that weight grows from 0
        threshold: float = 0.0,  # trust a teacher's map only when its peak is higher
        outside: Literal["unknown", "background"] = "unknown",  # what lies beyond the teacher's view
        cutouts: int = 5,  # rectangles cut around keypoints of the student's view
        mix_input: float = 0.5,  # share of updates that mix the views; 0: layers only
        mix_layers: float = 0.5,  # share of updates that mix before one of the stages; 0: input only
        grid: str | None = None,  # tiles down x across; None: 4x3 at 256x192 and 128x96, 3x3 at 96x96
        group: int | None = None,  # neighbors that exchange tiles; None: 4, or 3 or 2 where a pass divides into those
        unmix: Literal["encoder", "deconv1", "deconv2", "heatmap"] = "encoder",  # after what the tiles go back
        joined: bool = False,  # labeled and unlabeled views in one student batch; only the unlabeled are mixed
    ) -> None:
        super().__init__(build, skeleton)
        self.eman, self.weight, self.ramp, self.outside = eman, weight, ramp, outside
        self.threshold, self.cutouts, self.mix_input, self.mix_layers = threshold, cutouts, mix_input, mix_layers
        self.grid = None if grid is None else read_grid(grid)
        self.group, self.unmix, self.joined = group, unmix, joined
        self.student = build("student")
        self.teacher = Ema(self.student, decay, eman)

    def check(self, size: tuple[int, int], unlabeled: int) -> None:
        """Try every mixing on an empty image, and whether the people divide into groups."""
        stages, image = self.student.backbone.stages(), torch.zeros(1, 3, *size, device=next(self.parameters()).device)
        places = [None] * (self.mix_input > 0) + stages * (self.mix_layers > 0)
        if not places:
            return
        try:
            if self.mix_layers > 0 and not stages:
                raise ValueError("the network names no stages to mix before")
            tiles = self._tiles(RandomKey(0, 0, "check", unlabeled, unlabeled), "check", size)
            with as_teacher(self.student):
                self._mixed(image, dict.fromkeys(places, Tiles(tiles.source[:1] * 0)))
        except ValueError as error:
            tall, wide = usual_grid(size, STRIDE_MULTIPLE)
            raise UsageError(
                f"--method pose_mum with --input-size {size[0]}x{size[1]} and {unlabeled} unlabeled people in a pass "
                f"(--unlabeled-batch-size over processes x --accumulate): {error}. What always fits: "
                f"--method.grid {tall}x{wide}, --method.unmix encoder, --method.mix-layers 0, a multiple of 4 people."
            ) from error

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """The labeled loss, and the mixed consistency loss where there are unlabeled crops."""
        seen = batch.labeled.weak()
        if batch.unlabeled is None:
            return Step({"labeled": self.labeled_loss(self.student(seen.image), batch.labeled, seen)})
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        with as_teacher(self.teacher, not self.eman):
            answer = self.teacher(weak.image)
        keypoints, confidence = self.codec(weak, answer).decode(answer, "quarter")
        there = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
        strong = strong.with_image(joint_cutout(strong.image, there, batch.unlabeled.random, "cutout", self.cutouts))
        trusted = confidence_mask(confidence, self.threshold)
        on_seen, on_strong = self._answers(seen, strong, batch.unlabeled.random)
        consistency = self.consistency_loss(on_strong, answer, weak, strong, trusted, self.outside)
        losses = {
            "labeled": self.labeled_loss(on_seen, batch.labeled, seen),
            "consistency": consistency * (self.weight * progress.ramp(self.ramp)),
        }
        return Step(losses, {"confidence": confidence.mean(), "trusted": trusted.mean()})

    def _answers(self, seen: View, strong: View, draw: RandomKey) -> tuple[Fields, Fields]:
        """The student's fields of both views; the strong ones are mixed on the way, by chance."""
        into, inside, which = draw.shared("mix", 3)
        mixings: dict[nn.Module | None, Tiles] = {}
        if into < self.mix_input:
            mixings[None] = self._tiles(draw, "mix/input", strong.size)
        if inside < self.mix_layers:
            stages = self.student.backbone.stages()
            mixings[stages[int(which * len(stages))]] = self._tiles(draw, "mix/layer", strong.size)
        if not self.joined:
            return self.student(seen.image), self._mixed(strong.image, mixings)
        after = {place: tiles.after(len(seen.image)) for place, tiles in mixings.items()}
        return self._mixed(torch.cat([seen.image, strong.image]), after).split(len(seen.image))

    def _mixed(self, image: Tensor, mixings: dict[nn.Module | None, Tiles]) -> Fields:
        """The student's fields of `image`, mixed before the modules given (None: at the input), and un-mixed."""
        if not mixings:
            return self.student(image)
        changes = {place: tiles.mix for place, tiles in mixings.items() if place is not None}
        total = reduce(Tiles.then, mixings.values())
        changes[self.student.head.after(_DECONVOLUTIONS[self.unmix])] = total.inverse().mix
        with changing(changes):
            return self.student(mixings[None].mix(image) if None in mixings else image)

    def _tiles(self, draw: RandomKey, name: str, size: tuple[int, int]) -> Tiles:
        """A random exchange, of the grid and the group that are set, or the usual ones."""
        grid = self.grid or usual_grid(size, STRIDE_MULTIPLE)
        return Tiles.drawn(draw, name, grid, self.group or usual_group(draw.count))

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """The teacher and the raw student."""
        return {"teacher": self.teacher.network, "student": self.student}
