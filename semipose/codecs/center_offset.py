"""DEKR's fields: heatmaps of all people, people's centers, and at each cell the offsets of its person's keypoints.

Geng et al. (CVPR 2021), with the numbers of their public code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.peaks import LEAST_CENTER, LEAST_KEYPOINT, at_cells, at_points, center_kernel, peaks, quarter
from semipose.codecs.rendering import Windows, on_map
from semipose.codecs.rescoring import Rescorer
from semipose.codecs.scene_codec import SceneCodec, mean_maps, ranked, rescaled, weighed
from semipose.codecs.suppression import FEW, distances, near_poses, survivors
from semipose.fields import Fields, heatmap_and_center
from semipose.geometry import constant
from semipose.losses.heatmap import squared_error, total
from semipose.scene import DetectedPeople, Scene

# Half the side, in cells, of the square around a center that learns the offsets; cells by which the square lies lower,
# so that it has as many cells around a whole number.
RADIUS, BELOW = 4, 2**-14
OFFSET_FACTOR = 0.03
# Away from keypoints, where nearly all cells are empty.
EMPTY_WEIGHT = 0.1
# Poses are one person's when their keypoints lie within this share of the diagonal; of several scales, the latter.
SAME, SAME_OF_SCALES = 0.05, 0.15
# In cells: no keypoint is farther from its center.
MAX_OFFSET = 1e4
# Of the scores of other scales than the first; 0.8 on CrowdPose.
OTHER_SCALES = 0.9
# Lower bound of the OKS that a rescorer predicts.
LEAST_OKS = 1e-3
# Keypoints are moved to a peak of the heatmap within this share of the pose's diagonal.
SNAP = 0.05


@dataclass(frozen=True)
class CenterOffset(SceneCodec):
    """Fields "heatmap" (K), "center" (1) and "offsets" (2 K: dx, dy of each keypoint), keypoint = cell - offset.

    `center_sigma` is that of a center in keypoints' sigmas: 2 as in the paper, 1 as its code has it for CrowdPose.
    `extent` divides a person's offset loss: the diagonal of the "person", or with "origin", as in the public code, the
    farthest visible keypoint's distance from the image's corner. With a `rescorer` a person's score in `decode` is
    multiplied by the OKS that it predicts. Differs from the paper: the square of cells that learn lies evenly around
    the center; people of all data sets need a certain area (there: COCO's); in `decode`, people are suppressed in the
    order of their scores.
    """

    center_sigma: float = 2.0
    extent: Literal["person", "origin"] = "person"
    rescorer: Rescorer | None = None

    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Gaussians around keypoints and centers, where they are between the cells; see the base."""
        spread = (*(1.0 for _ in self.skeleton.keypoints), self.center_sigma)
        sigma = self.sigma * constant(spread, scene.valid.device)[:, None, None]
        points = self.in_cells(torch.cat([scene.keypoints, scene.centers[:, :, None]], 2))
        trust = torch.cat([scene.visible, (scene.weight * self.centered(scene))[..., None]], 2)
        max_reach = 3 * self.sigma * max(spread) + 1
        windows = Windows.around(points, trust, sigma, 3 * sigma + 1, max_reach, self.cells)
        weight = weighed(windows.trusted(), scene.valid, negatives, EMPTY_WEIGHT)
        flip = self.skeleton.flip
        return heatmap_and_center(windows.gaussians(), flip), heatmap_and_center(weight, flip)

    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Mean of weight * error^2 over the maps of all keypoints and of the centers."""
        channels = sum(target.maps.shape[1] for target in targets.values())
        losses = {
            name: squared_error(fields[name].maps, target.maps, weights[name].maps) * target.maps.shape[1]
            for name, target in targets.items()
        }
        return {"heatmap": total(losses) / channels}

    def instance_losses(self, fields: Fields, scene: Scene, chance: Tensor | None = None) -> dict[str, Tensor]:
        """Smooth L1 loss of the offsets around people's centers, times 0.03."""
        offsets = fields["offsets"].maps.unflatten(1, (-1, 2))
        return {"offset": OFFSET_FACTOR * offset_loss(offsets, *self.offset_targets(scene))}

    def offset_targets(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Offsets (B, K, 2, h, w) in cells to learn, and their weights (B, K, 1, h, w): 1 / extent in pixels.

        Each person writes 8x8 cells around the center; where people overlap, the smallest person's count.
        """
        centered, extent = self.centered(scene), self._extents(scene)
        # Person by person, smallest first, and behind the last one an empty entry.
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
        """(B, K, h, w) int64: the first of M people that writes each cell, M where none does.

        `centers` (B, M, 2) in cells; `weight` (B, M, K) is above 0 for people who write.
        """
        _, people, keypoints = weight.shape
        # Those of the cells from -RADIUS up to, but without, +RADIUS that lie on the map; of several people the one
        # with the highest number.
        points = (centers - BELOW)[:, :, None].expand(-1, -1, keypoints, -1)
        number = (weight > 0) * torch.arange(people, 0, -1, device=weight.device, dtype=weight.dtype)[:, None]
        return people - Windows.around(points, number, 1e3, RADIUS - 1, RADIUS - 1, self.cells).trusted().long()

    def _extents(self, scene: Scene) -> Tensor:
        """(B, M) in pixels: the size by which a person's offset loss is divided."""
        extent = scene.hull
        if self.extent == "origin":
            extent = (scene.keypoints * scene.shown[..., None]).amax(2)
        return extent.norm(dim=-1).clamp_min(self.least_side)

    @torch.no_grad()
    def detect(
        self, fields: Fields, people: int, valid: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """Detect people on the device; see the base.

        A keypoint near a peak of its heatmap is moved there, and its score is the heatmap's height. A person's score is
        the center's height times the mean of those.
        """
        heat = fields["heatmap"].maps.float()
        poses, center = self._poses(fields, people)
        height, cells = peaks(heat, people)
        peak = cells + quarter(heat, cells)
        distance = distances(poses.transpose(1, 2), peak).masked_fill((height < LEAST_KEYPOINT)[:, :, None], torch.inf)
        nearest, which = distance.min(-1)
        limit = SNAP * (poses.amax(2) - poses.amin(2)).norm(dim=-1)
        snapped = peak.gather(2, which[..., None].expand(-1, -1, -1, 2)).transpose(1, 2)
        poses = torch.where((nearest.mT < limit[..., None])[..., None], snapped, poses)
        value = at_points(heat, poses.transpose(1, 2)).mT * on_map(poses, self.cells)
        person = center * value.clamp_min(0).mean(-1)
        person = person * survivors(near_poses(poses, SAME), person, FEW)
        score = value * ((value > LEAST_KEYPOINT) & (person > 0)[..., None])
        scene = Scene.detected(self.in_pixels(poses), score, person, self.everywhere(valid, heat), least)
        return scene, scene.present

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Read poses at the peaks of the centers of all scales, each person once.

        Heatmaps are the mean over the scales; the scores of other scales are brought to the first's highest and count
        0.9. A keypoint's score is its center's times the heatmap there, a person's the mean of those.
        """
        first = scales[0]
        poses: list[Tensor] = []
        centers: list[Tensor] = []
        for fields in scales:
            pose, center = self._poses(fields, people)
            if fields is not first:
                highest = center.amax(1, keepdim=True).clamp_min(LEAST_CENTER)
                center = center * (centers[0].amax(1, keepdim=True) / highest) * OTHER_SCALES
            poses.append(rescaled(self.in_pixels(pose), fields, first))
            centers.append(center)
        pose, center = torch.cat(poses, 1), torch.cat(centers, 1)
        heat = at_points(mean_maps(scales, "heatmap"), self.in_cells(pose).transpose(1, 2)).mT.clamp_min(0)
        rank = heat.mean(-1) * (center > 0)
        same = near_poses(pose, SAME if len(scales) == 1 else SAME_OF_SCALES)
        scores = heat * (center * survivors(same, rank, rank.shape[1]))[..., None]
        person = scores.mean(-1)
        if self.rescorer is not None:
            oks = self.rescorer(pose.flatten(0, 1), scores.flatten(0, 1))
            # Clamp, so that a low predicted OKS never drops a person.
            person = person * oks.view_as(person).clamp_min(LEAST_OKS)
        return ranked(pose, scores, person, people)

    def _poses(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Poses (B, M, K, 2) in cells at the highest centers, and those centers' heights (B, M), 0 for nobody."""
        maps, offsets = fields["center"].maps.float(), fields["offsets"].maps
        height, cells = peaks(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        offset = at_cells(offsets, cells.expand(-1, offsets.shape[1], -1, -1)).float().unflatten(1, (-1, 2))
        # Keypoints become indices: those of a diverged network must not point anywhere.
        offset = offset.nan_to_num().clamp(-MAX_OFFSET, MAX_OFFSET).permute(0, 3, 1, 2)
        return cells.transpose(1, 2) - offset, F.threshold(height.squeeze(1), LEAST_CENTER, 0)


def offset_loss(offsets: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 loss (beta 1/9) of `offsets` from `target` (B, K, 2, h, w): a scalar.

    The sum is divided by the number of coordinates whose `weight` (B, K, 1 or 2, h, w) is above 0.
    """
    loss = F.smooth_l1_loss(offsets.float(), target, reduction="none", beta=1 / 9)
    return (weight * loss).sum() / (weight > 0).expand_as(target).sum().clamp_min(1)
