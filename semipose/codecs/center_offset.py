"""Codec of DEKR: heatmaps of all people, people's centers, and at each cell the offsets of its person's keypoints.

Geng et al. (CVPR 2021), with the constants of their public code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.peaks import (
    MIN_CENTER_SCORE,
    MIN_KEYPOINT_SCORE,
    at_cells,
    at_points,
    center_kernel,
    peaks,
    quarter,
)
from semipose.codecs.rendering import Windows, on_map
from semipose.codecs.rescoring import Rescorer
from semipose.codecs.scene_codec import SceneCodec, cell_weights, mean_maps, ranked, rescaled
from semipose.codecs.suppression import TRAINING_ROUNDS, distances, near_poses, survivors
from semipose.fields import Fields, heatmap_and_center
from semipose.geometry import constant
from semipose.losses.heatmap import squared_error, total
from semipose.scene import DetectedPeople, Scene

# Half the side, in cells, of the square around a center where offsets are learned. The square is shifted by a little,
# so that it has the same number of cells around a whole number.
SQUARE_RADIUS, SQUARE_SHIFT = 4, 2**-14
OFFSET_FACTOR = 0.03
# Weight of cells away from keypoints: nearly all cells are empty.
EMPTY_WEIGHT = 0.1
# Poses are of one person if their keypoints are within this share of the diagonal; the latter with several scales.
DUPLICATE_DISTANCE, DUPLICATE_DISTANCE_OF_SCALES = 0.05, 0.15
# Upper bound in cells of a keypoint's distance from its center.
MAX_OFFSET = 1e4
# Factor of the scores of all scales but the first; 0.8 on CrowdPose.
OTHER_SCALES_FACTOR = 0.9
# Lower bound of the OKS that a rescorer predicts.
MIN_OKS = 1e-3
# Keypoints move to a peak of the heatmap within this share of the pose's diagonal.
SNAP_DISTANCE = 0.05


@dataclass(frozen=True)
class CenterOffset(SceneCodec):
    """Fields "heatmap" (K), "center" (1) and "offsets" (2 K: dx, dy of each keypoint), keypoint = cell - offset.

    `center_sigma` is the sigma of a center in sigmas of a keypoint: 2 as in the paper, 1 in its code for CrowdPose.
    `extent` divides a person's offset loss. It is the diagonal of the "person". With "origin", as in the public code,
    it is the farthest visible keypoint's distance from the image's corner. With a `rescorer`, `decode` multiplies a
    person's score by the predicted OKS. Differs from the paper:

    - The square of cells where offsets are learned is centered.
    - People of all data sets need a minimum area (there: COCO's).
    - In `decode`, people are suppressed in the order of their scores.
    """

    center_sigma: float = 2.0
    extent: Literal["person", "origin"] = "person"
    rescorer: Rescorer | None = None

    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Draw Gaussians around keypoints and centers at their exact positions between cells; see the base."""
        spread = (*(1.0 for _ in self.skeleton.keypoints), self.center_sigma)
        sigma = self.sigma * constant(spread, scene.valid.device)[:, None, None]
        points = self.in_cells(torch.cat([scene.keypoints, scene.centers[:, :, None]], 2))
        confidence = torch.cat([scene.visible, (scene.weight * self.centered(scene))[..., None]], 2)
        max_reach = 3 * self.sigma * max(spread) + 1
        windows = Windows.around(points, confidence, sigma, 3 * sigma + 1, max_reach, self.cells)
        weight = cell_weights(windows.confidences(), scene.valid, negatives, EMPTY_WEIGHT)
        flip = self.skeleton.flip
        return heatmap_and_center(windows.gaussians(), flip), heatmap_and_center(weight, flip)

    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Return the mean of weight * error^2 over the maps of all keypoints and of the centers."""
        channels = sum(target.maps.shape[1] for target in targets.values())
        losses = {
            name: squared_error(fields[name].maps, target.maps, weights[name].maps) * target.maps.shape[1]
            for name, target in targets.items()
        }
        return {"heatmap": total(losses) / channels}

    def instance_losses(self, fields: Fields, scene: Scene, uniform: Tensor | None = None) -> dict[str, Tensor]:
        """Smooth L1 loss of the offsets around people's centers, times 0.03."""
        offsets = fields["offsets"].maps.unflatten(1, (-1, 2))
        return {"offset": OFFSET_FACTOR * offset_loss(offsets, *self.offset_targets(scene))}

    def offset_targets(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Target offsets (B, K, 2, h, w) in cells, and their weights (B, K, 1, h, w): 1 / extent in pixels.

        Each person fills 8x8 cells around the center; where people overlap, the smallest person's offsets count.
        """
        centered, extent = self.centered(scene), self._extents(scene)
        # Person by person, smallest first, then an empty entry for cells without a person.
        order = extent.masked_fill(~centered, torch.inf).argsort(dim=1, stable=True)
        weight = scene.visible * (centered * scene.weight / extent)[..., None]
        values = torch.cat([self.in_cells(scene.keypoints), weight[..., None]], -1)
        values = values.gather(1, order[..., None, None].expand(-1, -1, *values.shape[2:]))
        centers = self.in_cells(scene.centers).gather(1, order[..., None].expand(-1, -1, 2))
        owner = self._owners(centers, values[..., 2]).flatten(2)
        values = F.pad(values, (0, 0, 0, 0, 0, 1)).permute(0, 2, 3, 1)
        x, y, weight = values.gather(3, owner[:, :, None].expand(-1, -1, 3, -1)).unflatten(3, self.cells).unbind(2)
        height, width = self.cells
        across = torch.arange(width, device=x.device) - x
        down = torch.arange(height, device=y.device)[:, None] - y
        return torch.stack([across, down], 2), weight[:, :, None]

    def _owners(self, centers: Tensor, weight: Tensor) -> Tensor:
        """Owner (B, K, h, w) int64 of each cell: the first of M people whose square holds it, or M for none.

        `centers` (B, M, 2) in cells; people with a `weight` (B, M, K) of 0 own no cells.
        """
        _, people, keypoints = weight.shape
        # Windows of the cells from -SQUARE_RADIUS to below +SQUARE_RADIUS, within the map. Where people overlap, the
        # highest number wins.
        points = (centers - SQUARE_SHIFT)[:, :, None].expand(-1, -1, keypoints, -1)
        number = (weight > 0) * torch.arange(people, 0, -1, device=weight.device, dtype=weight.dtype)[:, None]
        reach = SQUARE_RADIUS - 1
        return people - Windows.around(points, number, 1e3, reach, reach, self.cells).confidences().long()

    def _extents(self, scene: Scene) -> Tensor:
        """Sizes (B, M) in pixels by which people's offset losses are divided."""
        extent = scene.hull
        if self.extent == "origin":
            extent = (scene.keypoints * scene.shown[..., None]).amax(2)
        return extent.norm(dim=-1).clamp_min(self.min_side)

    @torch.no_grad()
    def detect(
        self, fields: Fields, people: int, valid: Tensor | None = None, min_score: float = MIN_KEYPOINT_SCORE
    ) -> tuple[Scene, Tensor]:
        """Detect people on the device; see the base.

        A keypoint near a peak of its heatmap is moved there, and its score is the heatmap's height. A person's score is
        the center's height times the mean of the keypoints' scores.
        """
        heat = fields["heatmap"].maps.float()
        poses, center = self._poses(fields, people)
        height, cells = peaks(heat, people)
        peak = cells + quarter(heat, cells)
        distance = distances(poses.transpose(1, 2), peak).masked_fill(
            (height < MIN_KEYPOINT_SCORE)[:, :, None], torch.inf
        )
        nearest, which = distance.min(-1)
        limit = SNAP_DISTANCE * (poses.amax(2) - poses.amin(2)).norm(dim=-1)
        snapped = peak.gather(2, which[..., None].expand(-1, -1, -1, 2)).transpose(1, 2)
        poses = torch.where((nearest.mT < limit[..., None])[..., None], snapped, poses)
        value = at_points(heat, poses.transpose(1, 2)).mT * on_map(poses, self.cells)
        person = center * value.clamp_min(0).mean(-1)
        person = person * survivors(near_poses(poses, DUPLICATE_DISTANCE), person, TRAINING_ROUNDS)
        score = value * ((value > MIN_KEYPOINT_SCORE) & (person > 0)[..., None])
        scene = Scene.detected(self.in_pixels(poses), score, person, self.everywhere(valid, heat), min_score)
        return scene, scene.present

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Read poses at the peaks of the centers of all scales, each person once.

        Heatmaps are the mean over the scales. Scores of other scales are scaled to the first's highest score, times
        0.9. A keypoint's score is its center's times the heatmap's value there, a person's score the mean over
        keypoints.
        """
        first = scales[0]
        poses: list[Tensor] = []
        centers: list[Tensor] = []
        for fields in scales:
            pose, center = self._poses(fields, people)
            if fields is not first:
                highest = center.amax(1, keepdim=True).clamp_min(MIN_CENTER_SCORE)
                center = center * (centers[0].amax(1, keepdim=True) / highest) * OTHER_SCALES_FACTOR
            poses.append(rescaled(self.in_pixels(pose), fields, first))
            centers.append(center)
        pose, center = torch.cat(poses, 1), torch.cat(centers, 1)
        heat = at_points(mean_maps(scales, "heatmap"), self.in_cells(pose).transpose(1, 2)).mT.clamp_min(0)
        rank = heat.mean(-1) * (center > 0)
        same = near_poses(pose, DUPLICATE_DISTANCE if len(scales) == 1 else DUPLICATE_DISTANCE_OF_SCALES)
        scores = heat * (center * survivors(same, rank, rank.shape[1]))[..., None]
        person = scores.mean(-1)
        if self.rescorer is not None:
            oks = self.rescorer(pose.flatten(0, 1), scores.flatten(0, 1))
            # Clamp, so that a low predicted OKS never drops a person.
            person = person * oks.view_as(person).clamp_min(MIN_OKS)
        return ranked(pose, scores, person, people)

    def _poses(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Poses (B, M, K, 2) in cells at the highest centers, and the centers' heights (B, M), 0 for padding."""
        maps, offsets = fields["center"].maps.float(), fields["offsets"].maps
        height, cells = peaks(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        offset = at_cells(offsets, cells.expand(-1, offsets.shape[1], -1, -1)).float().unflatten(1, (-1, 2))
        # Keypoints become indices: those of a diverged network must stay finite.
        offset = offset.nan_to_num().clamp(-MAX_OFFSET, MAX_OFFSET).permute(0, 3, 1, 2)
        return cells.transpose(1, 2) - offset, F.threshold(height.squeeze(1), MIN_CENTER_SCORE, 0)


def offset_loss(offsets: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 loss (beta 1/9) of `offsets` from `target` (B, K, 2, h, w): a scalar.

    The sum is divided by the number of coordinates whose `weight` (B, K, 1 or 2, h, w) is above 0.
    """
    loss = F.smooth_l1_loss(offsets.float(), target, reduction="none", beta=1 / 9)
    return (weight * loss).sum() / (weight > 0).expand_as(target).sum().clamp_min(1)
