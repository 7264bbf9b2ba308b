"""Codec of CID: heatmaps of all people, people's centers, and the maps of one person at a time, from a center.

Wang and Zhang (CVPR 2022, contextual instance decoupling), with the constants of their public code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.peaks import MIN_CENTER_SCORE, MIN_KEYPOINT_SCORE, cells_of, center_kernel, smoothed, tops
from semipose.codecs.rendering import Windows
from semipose.codecs.scene_codec import SceneCodec, cell_weights, ranked, rescaled
from semipose.codecs.suppression import oks_between, survivors
from semipose.fields import PROBABILITY_MARGIN, Field, Fields, InstanceFields, heatmap_and_center
from semipose.losses.focal import contrast, focal, quality_focal
from semipose.scene import DetectedPeople, Scene

# IoU of a box with itself moved by a Gaussian's radius.
MIN_OVERLAP = 0.7
# Poses with a higher OKS are one person.
DUPLICATE_OKS = 0.8
INSTANCE_FACTOR = 4.0

Number = TypeVar("Number", float, Tensor)


class Sampled(NamedTuple):
    """Sample of P people of each image for the losses of single people's maps.

    `order` (B, P) int64 are their numbers in the image. `cells` (B, P, 2) int64, x and y, are the cells whose features
    describe them. `weight` (B, P) is 0 for padding.
    """

    order: Tensor
    cells: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Instance(SceneCodec):
    """`InstanceFields` "heatmap" (K) and "center" (1), probabilities, and the maps of single people.

    Differs from the paper:

    - Losses sample at most `max_people` of each image (there: 200 of 20 images).
    - People of all data sets need a minimum area to have a center (there: COCO's).
    - A batch without people has a loss of 0 instead of a division by 0.
    """

    # The center's probability times the keypoints', 0.3 each.
    confident_score = 0.09

    max_people: int = 10

    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Draw Gaussians around the cells of keypoints and centers, wider for larger people; see the base."""
        confidence = torch.cat([scene.visible, (scene.weight * self.centered(scene))[..., None]], 2)
        windows = self._windows(self._cells(scene), confidence, self._reach(scene))
        maps, flip = windows.gaussians(), self.skeleton.flip
        weight = scene.valid.expand_as(maps)
        if not negatives:
            weight = cell_weights(windows.confidences(), scene.valid, negatives)
        return heatmap_and_center(maps, flip), heatmap_and_center(weight, flip)

    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Return the focal loss of keypoint and center maps, divided by the number of peaks."""
        pairs = [focal(fields[name].maps, target.maps, weights[name].maps) for name, target in targets.items()]
        loss, peaks = (torch.stack(each).sum() for each in zip(*pairs, strict=True))
        return {"heatmap": loss / peaks.clamp_min(1)}

    def instance_losses(self, fields: Fields, scene: Scene, uniform: Tensor | None = None) -> dict[str, Tensor]:
        """Return the focal loss of sampled people's own maps, times 4, and the contrastive loss of their features."""
        fields, (order, cells, weight) = _instances_of(fields), self._sampled(scene, uniform)
        rows = torch.arange(len(order), device=order.device)[:, None]
        features = fields.parameters(cells[..., 0] + self.cells[1] * cells[..., 1])
        maps = fields.person_maps(features, cells.flatten(0, 1))
        # Each sampled person as an image of one person.
        points, visible, reach = (
            each[rows, order].flatten(0, 1)[:, None] for each in (self._cells(scene), scene.visible, self._reach(scene))
        )
        confidence = visible * weight.flatten()[:, None, None]
        target = self._windows(points[:, :, :-1], confidence, reach).gaussians()
        loss, peaks = focal(maps, target, confidence[:, 0, :, None, None])
        contrastive, people = contrast(features.unflatten(0, weight.shape), weight)
        return {
            "instance": INSTANCE_FACTOR * loss / peaks.clamp_min(1),
            "contrastive": contrastive / people.clamp_min(1),
        }

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """Quality focal loss (Li et al., NeurIPS 2020) against the teacher's probabilities.

        It is divided by the summed height of the teacher's peaks, so that a teacher with few confident peaks does not
        get a larger weight.
        """
        losses, peaks = [], []
        for name, field in targets.items():
            target = field.maps.float().clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
            losses.append(quality_focal(fields[name].maps, target, weights[name].maps))
            is_peak = F.max_pool2d(target, 3, 1, 1) == target
            peaks.append((target * (is_peak & (target > MIN_KEYPOINT_SCORE))).sum())
        return torch.stack(losses).sum() / torch.stack(peaks).sum().clamp_min(1)

    def _windows(self, points: Tensor, confidence: Tensor, reach: Tensor) -> Windows:
        """Windows around cells `points` (B, M, K, 2) of people with Gaussians of this `reach` (B, M) in cells."""
        reach = reach[..., None, None, None]
        return Windows.around(points, confidence, (2 * reach + 1) / 6, reach, self._max_reach, self.cells)

    def _sampled(self, scene: Scene, uniform: Tensor | None) -> Sampled:
        """Sample people and, for each, a cell at or next to the center, by `uniform` (B, M, 3) in 0..1."""
        (height, width), cells = self.cells, self._cells(scene)[:, :, -1]
        uniform = torch.full_like(scene.weight, 0.5)[..., None].expand(-1, -1, 3) if uniform is None else uniform
        x, y = (cells + (3 * uniform[..., :2]).floor() - 1).long().unbind(-1)
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
        weight = scene.weight * self.centered(scene) * self._smallest(x + width * y, scene)
        order = ((weight > 0) + uniform[..., 2]).topk(min(self.max_people, scene.people)).indices
        cells = torch.stack([x, y], -1).gather(1, order[..., None].expand(-1, -1, 2))
        return Sampled(order, cells, weight.gather(1, order))

    def _smallest(self, index: Tensor, scene: Scene) -> Tensor:
        """(B, M) bool: the person is the smallest one with this cell, `index` (B, M) counted row by row.

        The features of one cell can describe one person only.
        """
        height, width = self.cells
        # The first of equally small people.
        number = torch.arange(scene.people, device=index.device)
        rank = self.centered(scene) / (scene.area + 0.1 * number)
        highest = rank.new_zeros(len(rank), height * width).scatter_reduce_(1, index, rank, "amax")
        return highest.gather(1, index) == rank

    @torch.no_grad()
    def detect(
        self, fields: Fields, people: int, valid: Tensor | None = None, min_score: float = MIN_KEYPOINT_SCORE
    ) -> tuple[Scene, Tensor]:
        """Detect people on the device; see the base. A keypoint's score is the peak of its person's map."""
        center, index = self._centers(fields, people)
        fields, cells = _instances_of(fields), cells_of(index, self.cells[1])
        maps = fields.person_maps(fields.parameters(index), cells.flatten(0, 1))
        keypoints, score = (each.unflatten(0, center.shape) for each in self._read(maps.float()))
        # The highest centers come first. A suppressed person suppresses others, too.
        duplicate = self._same(keypoints).tril(-1).any(-1)
        person = (center * score.mean(-1)).masked_fill(duplicate, 0)
        score = F.threshold(score, MIN_KEYPOINT_SCORE, 0) * (person > 0)[..., None]
        scene = Scene.detected(keypoints, score, person, self.everywhere(valid, center), min_score)
        return scene, scene.present

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Read poses from the maps of people at the centers of all scales, each person once; the paper has one scale.

        A keypoint's score is the root of its map's peak times the center's; a person's is the root of their mean
        square. The order is the published one, the scale that of the other networks' scores.
        """
        poses, scores = [], []
        for fields in scales:
            center, index = self._centers(fields, people)
            # Most peaks are too low; no maps are computed for them.
            rows, number = center.nonzero(as_tuple=True)
            keypoints = center.new_zeros(*center.shape, len(self.skeleton), 2)
            score = keypoints.new_zeros(keypoints.shape[:-1])
            if len(rows):
                cells = cells_of(index[rows, number], fields["center"].maps.shape[-1])
                pose, peak = self._read(smoothed(_instances_of(fields).instances(rows, cells).float()))
                keypoints[rows, number] = rescaled(pose, fields, scales[0])
                score[rows, number] = (peak * center[rows, number][:, None]).clamp_min(0).sqrt()
            poses.append(keypoints)
            scores.append(score)
        pose, score = torch.cat(poses, 1), torch.cat(scores, 1)
        person = score.square().mean(-1).sqrt()
        return ranked(pose, score, person * survivors(self._same(pose), person, person.shape[1]), people)

    def _centers(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Heights (B, M) of the highest centers, 0 for missing ones, and their cells (B, M), counted row by row."""
        maps = smoothed(fields["center"].maps.float())
        height, index = tops(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        return F.threshold(height.squeeze(1), MIN_CENTER_SCORE, 0), index.squeeze(1)

    def _read(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Read keypoints (n, K, 2) in pixels of the input and their peaks (n, K) from people's `maps`."""
        field = Field(maps, "scalar", self.stride, self.skeleton.flip)
        return HeatmapCodec(self.size, self.skeleton.flip, self.stride).decode(Fields({"heatmap": field}), "quarter")

    def _same(self, keypoints: Tensor) -> Tensor:
        """(B, M, M) bool: both poses are of one person."""
        return oks_between(keypoints, self.skeleton.sigmas) > DUPLICATE_OKS

    def _cells(self, scene: Scene) -> Tensor:
        """Cells (B, M, K + 1, 2), as whole numbers, that hold people's keypoints and, last, their centers."""
        points = torch.cat([scene.keypoints, scene.centers[:, :, None]], 2)
        return ((points + 0.5) / self.stride).floor()

    def _reach(self, scene: Scene) -> Tensor:
        """Reach (B, M) of each person's Gaussians in whole cells, at most `_max_reach`."""
        width, height = (scene.box_size / self.stride).ceil().unbind(-1)
        return gaussian_radius(height, width).floor().clamp_max(self._max_reach)

    @property
    def _max_reach(self) -> int:
        """Reach for a person who fills the image; boxes may extend beyond its border."""
        height, width = self.cells
        return math.floor(gaussian_radius(float(height), float(width)))


def gaussian_radius(height: Number, width: Number) -> Number:
    """Shift of a box's corners at which its IoU with the box of `height` and `width` is still 0.7.

    As in the public code of CornerNet (Law and Deng, ECCV 2018) and its successors. It takes the lowest of three roots,
    each divided by 2 instead of by twice the quadratic's leading coefficient. The lowest is always this one.
    """
    side = MIN_OVERLAP * (height + width)
    return (side**2 + 4 * MIN_OVERLAP * (1 - MIN_OVERLAP) * height * width) ** 0.5 - side


def _instances_of(fields: Fields) -> InstanceFields:
    """Check that `fields` can compute the maps of single people; moved ones cannot."""
    if not isinstance(fields, InstanceFields):
        raise ValueError(
            "these fields have no maps of single people; expected a network's own output, not one moved to another view"
        )
    return fields
