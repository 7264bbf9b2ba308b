"""DEKR's fields: heatmaps of everybody, people's centers, and from each cell the way to its person's keypoints.

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
from semipose.codecs.scene_codec import Negatives, SceneCodec, mean_maps, ranked, rescaled, weighed
from semipose.codecs.suppression import FEW, distances, near_poses, survivors
from semipose.fields import Fields
from semipose.geometry import constant, indices
from semipose.losses.per_image import Term, squared_error
from semipose.scene import DetectedPeople, Scene

# Half the side, in cells, of the square around a center that learns the offsets.
RADIUS = 4
OFFSET_FACTOR = 0.03
# Away from keypoints, where nearly all cells are empty.
EMPTY_WEIGHT = 0.1
# Poses are one person's when their keypoints lie within this share of the diagonal; of several scales, the latter.
SAME, SAME_OF_SCALES = 0.05, 0.15
# In cells: no keypoint is farther from its center.
FARTHEST = 1e4
# Of the scores of other scales than the first; 0.8 on CrowdPose.
OTHER_SCALES = 0.9
# The lowest OKS that a rescorer is believed.
LEAST_OKS = 1e-3
# Keypoints go to a peak of the heatmap within this share of the pose's diagonal.
SNAP = 0.05


@dataclass(frozen=True)
class CenterOffset(SceneCodec):
    """Fields "heatmap" (K), "center" (1) and "offsets" (2 K: dx, dy of each keypoint), keypoint = cell - offset.

    `center_sigma` is that of a center in keypoints' sigmas: 2 as in the paper, 1 as its code has it for CrowdPose.
    `extent` is what a person's offsets are weighed down by: the diagonal of the "person", or with "origin" what the
    public code computes in its place, the farthest visible keypoint's distance from the image's corner. Differs from
    the paper: the square of cells that learn lies evenly around the center; people of all data sets need a certain
    area (there: COCO's); in `decode`, people give way to each other in the order of their scores. With a `rescorer` a
    person's score in `decode` is multiplied by the OKS that it tells.
    """

    center_sigma: float = 2.0
    extent: Literal["person", "origin"] = "person"
    rescorer: Rescorer | None = None

    def targets(self, scene: Scene, negatives: Negatives = True) -> tuple[Fields, Fields]:
        """Gaussians around keypoints and centers, where they are between the cells; see the base."""
        spread = (*(1.0 for _ in self.skeleton.keypoints), self.center_sigma)
        sigma = self.sigma * constant(spread, scene.known.device)[:, None, None]
        at = self.in_cells(torch.cat([scene.keypoints, scene.centers[:, :, None]], 2))
        trust = torch.cat([scene.visible, (scene.weight * self.centered(scene))[..., None]], 2)
        most = 3 * self.sigma * max(spread) + 1
        windows = Windows.around(at, trust, sigma, 3 * sigma + 1, most, [self.cells])
        weight = weighed(windows.trusted()[0], scene.known, negatives, EMPTY_WEIGHT)
        return Fields.paired(windows.gaussians()[0], self.skeleton.flip), Fields.paired(weight, self.skeleton.flip)

    def map_terms(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Term]:
        """Mean of weight * error^2 over the maps of all keypoints and of the centers."""
        return {"heatmap": Term(squared_error(fields.joined, targets.joined, weights.joined))}

    def terms(self, fields: Fields, scene: Scene, negatives: Negatives = True) -> dict[str, Term]:
        """Those of the maps and of what tells people apart; see the base."""
        return self.map_terms(fields, *self.targets(scene, negatives)) | self.instance_terms(fields, scene)

    def instance_terms(self, fields: Fields, scene: Scene) -> dict[str, Term]:
        """What the offsets around people's centers are off by, times 0.03."""
        offsets = fields["offsets"].maps.unflatten(1, (-1, 2))
        loss, count = offset_loss(offsets, *self.offset_targets(scene))
        return {"offset": Term(OFFSET_FACTOR * loss, count)}

    def offset_targets(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Offsets (B, K, 2, h, w) in cells to learn, and their weights (B, K, 1, h, w): 1 / extent in pixels.

        Each person writes 8x8 cells around the center; of several, the smallest person's count.
        """
        here, extent = self.centered(scene), self._extents(scene)
        at = self.in_cells(scene.keypoints)
        trust = scene.visible * here[..., None]
        # Person by person, smallest first, and behind the last one nobody.
        order = extent.masked_fill(~here, torch.inf).argsort(dim=1, stable=True)
        weight = trust * (scene.weight / extent)[..., None]
        values = torch.cat([at, weight[..., None]], -1)
        values = values.gather(1, order[..., None, None].expand(-1, -1, *values.shape[2:]))
        values = F.pad(values, (0, 0, 0, 0, 0, 1)).permute(0, 2, 3, 1)
        centers = self.in_cells(scene.centers).gather(1, order[..., None].expand(-1, -1, 2))
        owner = self._owners(centers, values[:, :, 2])
        values = values.gather(3, owner[:, :, None].expand(-1, -1, 3, -1)).unflatten(3, self.cells)
        height, width = self.cells
        across = indices(width, at.device) - values[:, :, 0]
        down = indices(height, at.device, upright=True) - values[:, :, 1]
        return torch.stack([across, down], 2), values[:, :, 2:]

    def _owners(self, centers: Tensor, weight: Tensor) -> Tensor:
        """(B, K, h * w) who of M people in turn writes each cell first, M for nobody: `centers` (B, M, 2) in cells,
        `weight` (B, K, M + 1) above 0 for those who write."""
        height, width = self.cells
        cell = (centers - RADIUS).ceil()[..., None] + indices(2 * RADIUS, centers.device)
        x, y = cell.unbind(2)
        inside = ((y >= 0) & (y < height))[..., :, None] & ((x >= 0) & (x < width))[..., None, :]
        index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
        people = centers.shape[1]
        writes = (weight[..., :-1, None] > 0) & inside.flatten(2)[:, None]
        number = torch.where(writes, indices(people, centers.device, upright=True), float(people))
        owner = number.new_full((*weight.shape[:2], height * width), float(people))
        index = index.long().flatten(1)[:, None].expand(-1, weight.shape[1], -1)
        return owner.scatter_reduce_(2, index, number.flatten(2), "amin").long()

    def _extents(self, scene: Scene) -> Tensor:
        """(B, M) in pixels: what a person's offsets are weighed down by."""
        extent = scene.hull
        if self.extent == "origin":
            extent = (scene.keypoints * scene.shown[..., None]).amax(2)
        return extent.norm(dim=-1).clamp_min(self.least_side)

    @torch.no_grad()
    def found(
        self, fields: Fields, people: int, known: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """People read without the host; see the base. A keypoint near a peak of its heatmap lies there, and its score
        is the heatmap's height; a person's is the center's times the mean of those."""
        heat = fields["heatmap"].maps.float()
        poses, center = self._poses(fields, people)
        height, cells = peaks(heat, people)
        peak = cells + quarter(heat, cells)
        apart = distances(poses.transpose(1, 2), peak).masked_fill((height < LEAST_KEYPOINT)[:, :, None], torch.inf)
        nearest, which = apart.min(-1)
        limit = SNAP * (poses.amax(2) - poses.amin(2)).norm(dim=-1)
        snapped = peak.gather(2, which[..., None].expand(-1, -1, -1, 2)).transpose(1, 2)
        poses = torch.where((nearest.mT < limit[..., None])[..., None], snapped, poses)
        value = at_points(heat, poses.transpose(1, 2)).mT * on_map(poses, self.cells)
        person = center * value.clamp_min(0).mean(-1)
        person = person * survivors(near_poses(poses, SAME), person, FEW)
        score = value * ((value > LEAST_KEYPOINT) & (person > 0)[..., None])
        scene = Scene.found(self.in_pixels(poses), score, person, self.everywhere(known, heat), least)
        return scene, scene.present

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Poses at the peaks of the centers of all scales, each person once.

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
            # Nobody is lost for being judged badly.
            person = person * oks.view_as(person).clamp_min(LEAST_OKS)
        return ranked(pose, scores, person, people)

    def _poses(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Poses (B, M, K, 2) in cells at the highest centers, and those centers' heights (B, M), 0 for nobody."""
        maps, offsets = fields["center"].maps.float(), fields["offsets"].maps
        height, cells = peaks(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        way = at_cells(offsets, cells.expand(-1, offsets.shape[1], -1, -1)).float().unflatten(1, (-1, 2))
        # What is drawn of these becomes an index: a network gone bad must not point anywhere.
        way = way.nan_to_num().clamp(-FARTHEST, FARTHEST)
        return cells.transpose(1, 2) - way.permute(0, 3, 1, 2), height.squeeze(1) * (height.squeeze(1) > LEAST_CENTER)


def offset_loss(offsets: Tensor, target: Tensor, weight: Tensor) -> Term:
    """Sum of weight * smooth L1 (with beta 1/9) of `offsets` - `target` (B, K, 2, h, w), to be divided by the number of
    numbers with a weight above 0; `weight` (B, K, 1 or 2, h, w)."""
    away = F.smooth_l1_loss(offsets.float(), target, reduction="none", beta=1 / 9)
    each = (1, 2, 3, 4)
    return Term((away * weight).sum(each), (weight > 0).expand_as(target).sum(each, dtype=away.dtype))
