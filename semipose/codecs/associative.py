"""Codec of HigherHRNet: heatmaps of all people, and a tag at each keypoint that tells people apart.

Cheng et al. (CVPR 2020), with the associative embedding of Newell et al. (NeurIPS 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semipose.codecs.grouping import MAX_TAG_DISTANCE, grouped, refined
from semipose.codecs.peaks import MIN_KEYPOINT_SCORE, at_cells, at_points, cells_of, peaks, quarter
from semipose.codecs.rendering import Windows
from semipose.codecs.scene_codec import SceneCodec, mean_maps, ranked
from semipose.codecs.suppression import TRAINING_ROUNDS, distances, survivors
from semipose.fields import Field, Fields
from semipose.losses.heatmap import squared_error
from semipose.scene import DetectedPeople, Scene

Push = Literal["exp", "max"]

# Factor of the pull and push losses (heatmaps: 1), and the cells and sigma of the maps that it was published for.
TAG_FACTOR, PUBLISHED_CELLS, PUBLISHED_SIGMA = 1e-3, 128 * 128, 2.0
# Peaks of each keypoint's heatmap that the grouping gets.
CANDIDATES = 30
# Upper bound of tags and heights: the grouping requires finite ones, also of a diverged network.
MAX_TAG = 1e4


@dataclass(frozen=True)
class AssociativeEmbedding(SceneCodec):
    """Fields "heatmap" (K), "tags" (L * K, channel l * K + k) and, where `fine`, "fine_heatmap" (K) of stride 2.

    Tags are learned at stride 4 only. `push` keeps people apart by exp(-distance^2), or by max(0, 1 - distance).
    Differs from the paper: people are read from maps of stride 2 or 4 instead of maps enlarged to the image. Peaks are
    therefore the highest of 3 cells instead of 5 pixels.
    """

    fine: bool = True
    push: Push = "exp"

    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Draw Gaussians around the cell that holds each keypoint, 1 at their peaks; see the base."""
        strides = {"heatmap": 4, "fine_heatmap": 2} if self.fine else {"heatmap": 4}
        targets, weights = Fields(), Fields()
        for name, stride in strides.items():
            size, reach = (self.size[0] // stride, self.size[1] // stride), 3 * self.sigma + 1
            points = self._cells_of(scene.keypoints, stride)
            windows = Windows.around(points, scene.visible, self.sigma, reach, reach, size)
            maps, valid = windows.gaussians(), scene.valid
            if stride < self.stride:
                valid = F.interpolate(valid, scale_factor=2.0)
            weight = valid.expand_as(maps) if negatives else windows.confidences() * valid
            targets[name] = Field(maps, "scalar", stride, self.skeleton.flip)
            weights[name] = replace(targets[name], maps=weight)
        return targets, weights

    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Return the mean of weight * error^2 for each resolution."""
        return {
            name: squared_error(fields[name].maps, target.maps, weights[name].maps) for name, target in targets.items()
        }

    def instance_losses(self, fields: Fields, scene: Scene, uniform: Tensor | None = None) -> dict[str, Tensor]:
        """Pull and push losses of the tags at the keypoints' cells, mean over the batch.

        Each is multiplied by 1e-3 * 128^2 / cells * (sigma / 2)^2. Differs from the paper: it has 1e-3 on maps of
        128x128 cells. A Gaussian is a larger part of a smaller map, and the heatmaps' mean error grows with it.
        """
        tags = self.tags_at(fields, scene.keypoints)
        factor = TAG_FACTOR * PUBLISHED_CELLS / (self.cells[0] * self.cells[1]) * (self.sigma / PUBLISHED_SIGMA) ** 2
        pull, push = pull_push(tags, scene.visible, scene.weight, self.push)
        return {"pull": factor * pull, "push": factor * push}

    def tags_at(self, fields: Fields, keypoints: Tensor) -> Tensor:
        """Tags (B, M, K, L) in the cells of `keypoints` (B, M, K, 2) in pixels, or in the nearest cells."""
        cells = self._cells_of(keypoints).long().transpose(1, 2)
        return self._tags_in(self._tags(fields), cells).float().transpose(1, 2)

    def margins(self, fields: Fields, scene: Scene) -> tuple[Tensor, Tensor]:
        """`margins` of the tags at the keypoints of `scene`."""
        return margins(self.tags_at(fields, scene.keypoints), scene.visible)

    @torch.no_grad()
    def detect(
        self, fields: Fields, people: int, valid: Tensor | None = None, min_score: float = MIN_KEYPOINT_SCORE
    ) -> tuple[Scene, Tensor]:
        """Detect people on the device; see the base. Tags are those of the cells that learn them.

        Approximates the grouping that `decode` does one keypoint after the other. Going from the best candidate down,
        one starts a person where no earlier start, of any keypoint, has a tag within 1. Each other candidate joins the
        start with the nearest tag, and the best one for each keypoint stays. Learnable people have all tags within 0.5
        of their mean, and no other person's mean within 1.
        """
        heat, tags, stride = self._finest([fields])
        score, cells = peaks(heat, people)
        tag = self._tags_in(tags, torch.div(cells, 4 // stride, rounding_mode="floor")).flatten(1, 2)
        xy = self.in_pixels(cells + quarter(heat, cells), stride).flatten(1, 2)
        candidate_score = F.threshold(score, MIN_KEYPOINT_SCORE, 0).flatten(1)
        starts = survivors(distances(tag, tag) < MAX_TAG_DISTANCE, candidate_score, TRAINING_ROUNDS)
        start, order = (candidate_score * starts).topk(people)
        distance = distances(tag.gather(1, order[..., None].expand(-1, -1, tag.shape[-1])), tag)
        distance = distance.masked_fill((start == 0)[..., None], torch.inf)
        number = torch.arange(people, device=heat.device)[:, None]
        joins = (distance.argmin(1, keepdim=True) == number) & (distance < MAX_TAG_DISTANCE)
        # The best of each person's candidates for each keypoint.
        best, index = (candidate_score[:, None] * joins).unflatten(2, score.shape[1:]).max(-1)
        index = index + people * torch.arange(score.shape[1], device=heat.device)
        rows = torch.arange(len(heat), device=heat.device)[:, None, None]
        keypoints, tag = xy[rows, index], tag[rows, index]
        scene = Scene.detected(keypoints, best, best.mean(-1), self.everywhere(valid, heat), min_score)
        spread, margin = margins(tag, scene.visible)
        return scene, (spread < MAX_TAG_DISTANCE / 2) & (margin > MAX_TAG_DISTANCE)

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Group candidates one keypoint after the other on the host, and fill in missing keypoints on the device.

        Heatmaps are the mean over the scales, tags the first scale's. A person's score is the mean over all K of the
        scores before filling in.
        """
        heat, tags, stride = self._finest(scales)
        score, cells = peaks(heat, CANDIDATES)
        tag = self._tags_of(tags, cells).nan_to_num().clamp(-MAX_TAG, MAX_TAG)
        chosen = self._grouped(torch.cat([score[..., None].clamp_max(MAX_TAG), tag], -1).cpu().numpy(), people)
        index = torch.from_numpy(chosen.clip(0)).to(heat.device).transpose(1, 2)
        detected = torch.from_numpy(chosen >= 0).to(heat.device)
        grouped_cells = cells.gather(2, index[..., None].expand(-1, -1, -1, 2))
        member_tags = tag.gather(2, index[..., None].expand(-1, -1, -1, tag.shape[-1])) * detected.mT[..., None]
        mean = member_tags.sum(1) / detected.sum(2).clamp_min(1)[..., None]
        self._fill(grouped_cells, chosen, heat, tags, mean)
        keypoints = self.in_pixels(grouped_cells + quarter(heat, grouped_cells), stride).transpose(1, 2)
        scores = at_cells(heat, grouped_cells).clamp_min(0).mT
        return ranked(keypoints, scores, (scores * detected).mean(-1), people)

    @staticmethod
    def _grouped(candidates: NDArray[np.float32], people: int) -> NDArray[np.int64]:
        """Candidates (B, people, K) of the best people by number, -1 for none.

        `candidates` (B, K, n, 1 + L) holds their scores and tags.
        """
        chosen = np.full((len(candidates), people, candidates.shape[1]), -1)
        for best, image in zip(chosen, candidates, strict=True):
            members = grouped(image[..., 0], image[..., 1:], people)
            scores = np.where(members < 0, 0, image[np.arange(len(image)), members, 0])
            members = members[np.argsort(-scores.sum(1), kind="stable")][:people]
            best[: len(members)] = members
        return chosen

    @staticmethod
    def _fill(cells: Tensor, chosen: NDArray[np.int64], heat: Tensor, tags: Tensor, mean: Tensor) -> None:
        """Write to `cells` (B, K, M, 2) the best cells for missing keypoints of people with `mean` tags (B, M, L)."""
        if tags.shape[-2:] != heat.shape[-2:]:
            tags = F.interpolate(tags.flatten(1, 2), heat.shape[-2:], mode="bilinear").unflatten(1, tags.shape[1:3])
        for image, keypoint in np.argwhere(((chosen < 0) & (chosen >= 0).any(2, keepdims=True)).any(1)):
            rows = np.flatnonzero((chosen[image, :, keypoint] < 0) & (chosen[image] >= 0).any(1))
            index = refined(heat[image, keypoint], tags[image, :, keypoint], mean[image, rows])
            width = heat.shape[-1]
            cells[image, keypoint, rows] = cells_of(index, width)

    def _cells_of(self, keypoints: Tensor, stride: int = 4) -> Tensor:
        """Cells, as whole numbers, of a map of `stride` that hold `keypoints` (B, M, K, 2) in pixels."""
        # The first cell begins at the border, half a pixel before the first pixel's center.
        return ((keypoints + 0.5) / stride).floor()

    def _tags(self, fields: Fields) -> Tensor:
        """Tags (B, L, K, h, w) as the network returned them."""
        return fields["tags"].maps.unflatten(1, (-1, len(self.skeleton)))

    def _finest(self, scales: Sequence[Fields]) -> tuple[Tensor, Tensor, int]:
        """Finest heatmaps (B, K, h, w), tags (B, L, K, h, w) of stride 4, and the heatmaps' stride."""
        heat, tags = mean_maps(scales, "heatmap"), self._tags(scales[0]).float()
        if not self.fine:
            return heat, tags, 4
        fine = mean_maps(scales, "fine_heatmap")
        return torch.lerp(F.interpolate(heat, fine.shape[-2:], mode="bilinear"), fine, 0.5), tags, 2

    def _tags_in(self, tags: Tensor, cells: Tensor) -> Tensor:
        """Read `tags` (B, L, K, h, w) in their `cells` (B, K, n, 2): (B, K, n, L)."""
        values = at_cells(tags.flatten(1, 2), cells.repeat(1, tags.shape[1], 1, 1))
        return values.unflatten(1, tags.shape[1:3]).permute(0, 2, 3, 1)

    def _tags_of(self, tags: Tensor, cells: Tensor) -> Tensor:
        """Tags (B, K, n, L) at `cells` (B, K, n, 2) of the finest heatmaps, between the cells of `tags`."""
        points = self.in_cells(self.in_pixels(cells, 2 if self.fine else 4)).repeat(1, tags.shape[1], 1, 1)
        return at_points(tags.flatten(1, 2), points).unflatten(1, tags.shape[1:3]).permute(0, 2, 3, 1)


def pull_push(tags: Tensor, confidence: Tensor, weight: Tensor, push: Push = "exp") -> tuple[Tensor, Tensor]:
    """Pull and push losses of `tags` (B, M, K, L), means over the images: scalars.

    Pull is the squared distance of a person's tags from their mean, push the nearness of two people's means.
    `confidence` (B, M, K) weighs keypoints, `weight` (B, M) people, and the root of two people's product their pair.
    With ones this is HigherHRNet's published loss: sums over people / P, and half of sums over pairs / (P (P - 1)).
    Images without people add 0; those with one person add 0 to push.
    """
    total = confidence.sum(2, keepdim=True)
    share = (confidence / total.clamp_min(1e-6))[..., None]
    mean = (share * tags).sum(2, keepdim=True)
    person = (weight[..., None] * (total > 0))[..., None]
    person_share = person / person.sum(1, keepdim=True).clamp_min(1e-6)
    # The mean is detached: its gradient cancels, because weighted deviations sum to zero.
    pull = (person_share * share * (tags - mean.detach()).square()).sum() / max(1, len(tags))
    root = person.flatten(2).sqrt()
    pair = (root * root.mT) * ~torch.eye(tags.shape[1], dtype=torch.bool, device=tags.device)
    pair = pair / pair.sum((1, 2), keepdim=True).clamp_min(1e-6)
    distance = mean - mean.transpose(1, 2)
    near = torch.exp(-distance.square().sum(-1)) if push == "exp" else (1 - distance.abs().sum(-1)).clamp_min(0)
    return pull, 0.5 * (pair * near).sum() / max(1, len(tags))


def margins(tags: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Spread and margin (B, M) of people's `tags` (B, M, K, L), weighted by `confidence` (B, M, K).

    The spread is the largest distance of a person's tags from their mean. The margin is the distance to the
    nearest other person's mean, infinity without another person. Both are NaN for padding.
    """
    total = confidence.sum(2)
    mean = (tags * confidence[..., None]).sum(2) / total[..., None]
    spread = ((tags - mean[:, :, None]).norm(dim=-1) * (confidence > 0)).amax(2)
    # Padding is infinitely far from all people, and so is each person from themselves.
    mean = mean.masked_fill((total == 0)[..., None], torch.inf)
    same = torch.eye(tags.shape[1], dtype=torch.bool, device=tags.device)
    return spread, distances(mean, mean).masked_fill(same, torch.inf).amin(2)
