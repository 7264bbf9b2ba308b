"""Pose-MUM: a student sees tiles of several people mixed, un-mixes its features and matches an averaged teacher."""

from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.methods.method import Build, Method, Progress, Step, as_teacher, confidence_mask
from semipose.networks import STRIDE_MULTIPLE
from semipose.networks.ema import Ema
from semipose.networks.hooks import Change, changing
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.views.occlude import joint_cutout
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles, read_grid, usual_grid, usual_group
from semipose.views.view import Batch, View

# Number of transposed convolutions before the un-mixing; None: all of them. The final 1x1 convolution sees one cell at
# a time, so un-mixing before it is the same as after it.
_DECONVOLUTIONS_BEFORE_UNMIX = {"encoder": 0, "deconv1": 1, "deconv2": 2, "heatmap": None}


class PoseMum(Method):
    """Mixed and un-mixed tiles of several people under an averaged teacher (Pose-MUM, Kim et al., 2022).

    Two networks: the student, trained by gradient, and the teacher, its exponential moving average (EMA).

    - Supervised loss: the student on weak labeled views.
    - Consistency loss: the teacher's heatmaps on a weak unlabeled view, warped to a strong view with Joint Cutout at
      the teacher's keypoints.
    - In the student's pass, tiles are exchanged between a few neighbors of the batch (MUM, CVPR 2022). This happens at
      random at the input, and at random before one stage of the backbone. The features are un-mixed before the head,
      so the targets stay as they are.

    Teacher BatchNorm: averaged running statistics, eval mode (EMAN, Cai et al., CVPR 2021).
    EMA: warm-up min(1 - 1/(t+1), decay).
    Deployed: the teacher; its best checkpoint on validation.

    Our choice, because the abstract of the paper does not state it: probabilities, layers, grid, group,
    where to un-mix, losses, ramp.

    Differs from MUM:

    - The grid need not be square. It always divides the maps, so nothing is resampled.
    - The EMA decay follows the length of the run, as in `mean_teacher`.
    """

    deployed = "teacher"

    def __init__(
        self,
        build: Build,
        skeleton: Skeleton,
        *,
        decay: float | None = None,  # EMA decay of the teacher, 0 to 1; None: a horizon of 2 % of the run, max. 0.999
        eman: bool = True,  # average BatchNorm statistics too; False: the teacher uses its batch's (ablation)
        weight: float = 1.0,  # weight of the consistency loss
        ramp: float = 0.1,  # the weight grows linearly from 0 over this share of the run (0 to 1)
        threshold: float = 0.0,  # confidence threshold: use a keypoint's heatmap if its peak is at least this high
        outside: Literal["unknown", "background"] = "unknown",  # target beyond the teacher's view: no loss, or 0
        cutouts: int = 5,  # number of rectangles cut around keypoints of the student's view
        mix_input: float = 0.5,  # probability (0 to 1) of mixing the views of an update; 0: layers only
        mix_layers: float = 0.5,  # probability (0 to 1) of mixing before one of the stages; 0: input only
        grid: str | None = None,  # tiles as rows x columns; None: 4x3 at 256x192 and 128x96, 3x3 at 96x96
        group: int | None = None,  # people that exchange tiles (ablation); None: 4, or 3 or 2 if a pass divides only so
        unmix: Literal["encoder", "deconv1", "deconv2", "heatmap"] = "encoder",  # where to un-mix (ablation)
        joined: bool = False,  # one student batch of labeled and unlabeled views; only the unlabeled are mixed
    ) -> None:
        super().__init__(build, skeleton)
        self.eman, self.weight, self.ramp, self.outside = eman, weight, ramp, outside
        self.threshold, self.cutouts, self.mix_input, self.mix_layers = threshold, cutouts, mix_input, mix_layers
        self.grid = None if grid is None else read_grid(grid)
        self.group, self.unmix, self.joined = group, unmix, joined
        self.student = build("student")
        self.teacher = Ema(self.student, decay, eman)

    def check(self, size: tuple[int, int], unlabeled: int) -> None:
        """Try every mixing on a blank image of `size`, and check that `unlabeled` people divide into groups."""
        stages, image = self.student.backbone.stages(), torch.zeros(1, 3, *size, device=next(self.parameters()).device)
        positions = [None] * (self.mix_input > 0) + stages * (self.mix_layers > 0)
        if not positions:
            return
        try:
            if self.mix_layers > 0 and not stages:
                raise ValueError("the network names no stages to mix before")
            tiles = self._random_tiles(RandomKey(0, 0, "check", unlabeled, unlabeled), "check", size)
            with as_teacher(self.student):
                self._mixed_forward(image, dict.fromkeys(positions, Tiles(tiles.source[:1] * 0)))
        except ValueError as error:
            rows, columns = usual_grid(size, STRIDE_MULTIPLE)
            raise UsageError(
                f"--method pose_mum with --input-size {size[0]}x{size[1]} and {unlabeled} unlabeled people in a pass "
                f"(--unlabeled-batch-size over processes x --accumulate): {error}. Settings that always fit: "
                f"--method.grid {rows}x{columns}, --method.unmix encoder, --method.mix-layers 0, "
                "a multiple of 4 people."
            ) from error

    def forward(self, batch: Batch, progress: Progress) -> Step:
        """Return the supervised loss and, where there are unlabeled crops, the consistency loss of the mixed views."""
        labeled_view = batch.labeled.weak()
        if batch.unlabeled is None:
            labeled_output = self.student(labeled_view.image)
            return Step({"labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view)})
        weak = batch.unlabeled.weak()
        strong = batch.unlabeled.strong(weak)
        with as_teacher(self.teacher, not self.eman):
            teacher_output = self.teacher(weak.image)
        keypoints, confidence = self.codec(weak, teacher_output).decode(teacher_output, "quarter")
        strong_keypoints = weak.to(strong).keypoints(keypoints, self.skeleton.flip)
        random = batch.unlabeled.random
        strong = strong.with_image(joint_cutout(strong.image, strong_keypoints, random, "cutout", self.cutouts))
        mask = confidence_mask(confidence, self.threshold)
        labeled_output, strong_output = self._student_outputs(labeled_view, strong, random)
        consistency = self.consistency_loss(strong_output, teacher_output, weak, strong, mask, self.outside)
        losses = {
            "labeled": self.labeled_loss(labeled_output, batch.labeled, labeled_view),
            "consistency": consistency * (self.weight * progress.ramp(self.ramp)),
        }
        return Step(losses, {"confidence": confidence.mean(), "confident": mask.mean()})

    def _student_outputs(self, labeled_view: View, strong: View, random: RandomKey) -> tuple[Fields, Fields]:
        """Return the student's fields of both views, with random mixing of the strong one."""
        mix_input, mix_layer, layer = random.shared("mix", 3)
        mixings: dict[nn.Module | None, Tiles] = {}
        if mix_input < self.mix_input:
            mixings[None] = self._random_tiles(random, "mix/input", strong.size)
        if mix_layer < self.mix_layers:
            stages = self.student.backbone.stages()
            mixings[stages[int(layer * len(stages))]] = self._random_tiles(random, "mix/layer", strong.size)
        if not self.joined:
            return self.student(labeled_view.image), self._mixed_forward(strong.image, mixings)
        labeled_count = len(labeled_view.image)
        shifted = {position: tiles.after(labeled_count) for position, tiles in mixings.items()}
        joined = torch.cat([labeled_view.image, strong.image])
        return self._mixed_forward(joined, shifted).split(labeled_count)

    def _mixed_forward(self, image: Tensor, mixings: dict[nn.Module | None, Tiles]) -> Fields:
        """Return the student's fields of `image`, mixed before the modules given (None: at the input) and un-mixed."""
        if not mixings:
            return self.student(image)
        changes = {position: tiles.mix for position, tiles in mixings.items() if position is not None}
        with changing(changes | self._unmixings(mixings)):
            return self.student(mixings[None].mix(image) if None in mixings else image)

    def _unmixings(self, mixings: dict[nn.Module | None, Tiles]) -> dict[nn.Module, Change]:
        """Return the module before which maps are un-mixed and how; for a multi-scale head one for each feature."""
        head, backbone = self.student.head, self.student.backbone
        if not head.multi_scale:
            total = reduce(Tiles.then, mixings.values())
            return {head.after(_DECONVOLUTIONS_BEFORE_UNMIX[self.unmix]): total.inverse().mix}
        if self.unmix != "encoder":
            raise ValueError(f"the multi-scale head has no layer {self.unmix} to un-mix before")
        # A feature in front of a stage has not been mixed with the tiles of that stage.
        first = {position: 0 if position is None else backbone.first_feature(position) for position in mixings}
        found: dict[nn.Module, Change] = {}
        for index, module in enumerate(head.inputs()):
            before = [tiles for position, tiles in mixings.items() if first[position] <= index]
            if before:
                found[module] = reduce(Tiles.then, before).inverse().mix
        return found

    def _random_tiles(self, random: RandomKey, name: str, size: tuple[int, int]) -> Tiles:
        """Return a random exchange of tiles, with the given grid and group or the usual ones."""
        grid = self.grid or usual_grid(size, STRIDE_MULTIPLE)
        return Tiles.sampled(random, name, grid, self.group or usual_group(random.count))

    def after_update(self, progress: Progress) -> None:
        """Move the teacher toward the student."""
        self.teacher.update(self.student, progress.healthy)

    def networks(self) -> dict[str, PoseNetwork]:
        """Return the teacher and the student."""
        return {"teacher": self.teacher.network, "student": self.student}
