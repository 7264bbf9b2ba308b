"""HigherHRNet's fields: heatmaps of everybody, and a tag for each keypoint that says whose it is.

Cheng et al. (CVPR 2020), with the associative embedding of Newell et al. (NeurIPS 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semipose.codecs.grouping import NEAR, grouped, refined
from semipose.codecs.peaks import LEAST_KEYPOINT, at_cells, at_points, peaks, quarter
from semipose.codecs.rendering import Windows
from semipose.codecs.scene_codec import Negatives, SceneCodec, mean_maps, ranked, weighed
from semipose.codecs.suppression import FEW, distances, survivors
from semipose.fields import Field, Fields
from semipose.geometry import constant, indices, itself
from semipose.losses.per_image import Term, squared_error
from semipose.scene import DetectedPeople, Scene

Push = Literal["exp", "max"]

# Of pulling the tags of one person together and pushing people apart, beside the heatmaps' 1; and the maps and their
# Gaussians that it was published for.
TAG_FACTOR, PUBLISHED_CELLS, PUBLISHED_SIGMA = 1e-3, 128 * 128, 2.0
CANDIDATES = 30
# Tags and heights of a network gone bad end here: the grouping takes finite ones only.
FARTHEST = 1e4


@dataclass(frozen=True)
class AssociativeEmbedding(SceneCodec):
    """Fields "heatmap" (K), "tags" (L * K, channel l * K + k) and, where `fine`, "fine_heatmap" (K) of stride 2.

    Tags are learned at stride 4 only. `push` is how people are kept apart: by exp(-distance^2), or by what they lack
    of a distance of 1. Differs from the paper: people are read from maps of stride 2 or 4 instead of maps enlarged to
    the image, so that peaks are the highest of 3 cells instead of 5 pixels.
    """

    fine: bool = True
    push: Push = "exp"

    def targets(self, scene: Scene, negatives: Negatives = True) -> tuple[Fields, Fields]:
        """Gaussians around the cell that holds each keypoint, 1 at their peaks; see the base."""
        strides = {"heatmap": 4, "fine_heatmap": 2} if self.fine else {"heatmap": 4}
        sizes = [(self.size[0] // stride, self.size[1] // stride) for stride in strides.values()]
        reach, trust = 3 * self.sigma + 1, scene.visible.repeat(1, 1, len(sizes))
        at = self._nearest(scene.keypoints, tuple(strides.values()))
        windows = Windows.around(at, trust, self.sigma, reach, reach, sizes)
        heat, known = windows.gaussians(), [scene.known]
        if self.fine:
            known.append(F.interpolate(scene.known, scale_factor=2.0))
        if negatives is True:
            trusted = [there.expand_as(each) for there, each in zip(known, heat, strict=True)]
        else:
            trusted = [weighed(each, there, negatives) for each, there in zip(windows.trusted(), known, strict=True)]

        def named(maps: list[Tensor]) -> Fields:
            kinds = zip(strides.items(), maps, strict=True)
            return Fields({name: Field(each, "scalar", stride, self.skeleton.flip) for (name, stride), each in kinds})

        return named(heat), named(trusted)

    def map_terms(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Term]:
        """Mean of weight * error^2 of each resolution, in full."""
        return {
            name: Term(squared_error(fields[name].maps, target.maps, weights[name].maps))
            for name, target in targets.items()
        }

    def terms(self, fields: Fields, scene: Scene, negatives: Negatives = True) -> dict[str, Term]:
        """Those of the maps and of what tells people apart; see the base."""
        return self.map_terms(fields, *self.targets(scene, negatives)) | self.instance_terms(fields, scene)

    def instance_terms(self, fields: Fields, scene: Scene) -> dict[str, Term]:
        """Pull and push of the tags at the keypoints' cells, mean over the batch.

        Each times 1e-3 * 128^2 / cells * (sigma / 2)^2. Differs from the paper, which has 1e-3 on maps of 128x128
        cells: a keypoint's Gaussian is a larger part of a smaller map, and the heatmaps' mean error grows with it.
        """
        tags = self.tags_at(fields, scene.keypoints)
        factor = TAG_FACTOR * PUBLISHED_CELLS / (self.cells[0] * self.cells[1]) * (self.sigma / PUBLISHED_SIGMA) ** 2
        pull, push = pull_push(tags, scene.visible, scene.weight, self.push, factor)
        return {"pull": Term(pull), "push": Term(push)}

    def tags_at(self, fields: Fields, keypoints: Tensor) -> Tensor:
        """Tags (B, M, K, L) in the cells of `keypoints` (B, M, K, 2) in pixels; beyond the border the nearest one's."""
        cells = self._nearest(keypoints).long().transpose(1, 2)
        return self._tags_in(self._tags(fields), cells).float().transpose(1, 2)

    def margins(self, fields: Fields, scene: Scene) -> tuple[Tensor, Tensor]:
        """`margins` of the tags at the keypoints of `scene`."""
        return margins(self.tags_at(fields, scene.keypoints), scene.visible)

    @torch.no_grad()
    def found(
        self, fields: Fields, people: int, known: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """People read without the host; see the base. Tags are those of the cells that learn them.

        An approximation of the grouping that `decode` does one by one: candidates start people, the best first, where
        no earlier start, of any keypoint, has a tag within 1 of theirs; each other belongs to the start with the
        nearest tag, and of those for one keypoint the best stays. Reliable is whose tags lie within 0.5 of their mean,
        and nobody else's mean within 1.
        """
        heat, tags, stride = self._finest([fields])
        score, cells = peaks(heat, people)
        tag = self._tags_in(tags, torch.div(cells, 4 // stride, rounding_mode="floor")).flatten(1, 2)
        flat = F.threshold(score, LEAST_KEYPOINT, 0).flatten(1)
        start, order = (flat * survivors(distances(tag, tag) < NEAR, flat, FEW)).topk(people)
        away = distances(tag.gather(1, order[..., None].expand(-1, -1, tag.shape[-1])), tag)
        away = away.masked_fill((start == 0)[..., None], torch.inf)
        number = indices(people, away.device, upright=True)
        mine = (away.argmin(1, keepdim=True) == number) & (away < NEAR)
        best, which = (flat[:, None] * mine).unflatten(2, score.shape[1:]).max(-1)
        first = constant(tuple(range(0, flat.shape[1], people)), heat.device, torch.int64)
        which = (which + first).flatten(1)[..., None]
        spot = self.in_pixels(cells + quarter(heat, cells), stride).flatten(1, 2)
        each = torch.cat([spot, tag], -1)
        each = each.gather(1, which.expand(-1, -1, each.shape[-1])).unflatten(1, best.shape[1:])
        keypoints, tag = each.split([2, tag.shape[-1]], -1)
        scene = Scene.found(keypoints, best, best.mean(-1), self.everywhere(known, heat), least)
        spread, margin = margins(tag, scene.visible)
        return scene, (spread < NEAR / 2) & (margin > NEAR)

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """People grouped one keypoint after the other on the host, missing keypoints filled in on the device.

        Heatmaps are the mean over the scales, tags the first scale's. A person's score is the mean over all K of the
        scores before filling in.
        """
        heat, tags, stride = self._finest(scales)
        score, cells = peaks(heat, CANDIDATES)
        tag = self._tags_of(tags, cells).nan_to_num().clamp(-FARTHEST, FARTHEST)
        chosen = self._grouped(torch.cat([score[..., None].clamp_max(FARTHEST), tag], -1).cpu().numpy(), people)
        index, there = torch.from_numpy(chosen.clip(0)).to(heat.device), torch.from_numpy(chosen >= 0).to(heat.device)
        index = index.transpose(1, 2)
        place = cells.gather(2, index[..., None].expand(-1, -1, -1, 2))
        theirs = tag.gather(2, index[..., None].expand(-1, -1, -1, tag.shape[-1])) * there.mT[..., None]
        mean = theirs.sum(1) / there.sum(2).clamp_min(1)[..., None]
        self._fill(place, chosen, heat, tags, mean)
        keypoints = self.in_pixels(place + quarter(heat, place), stride).transpose(1, 2)
        scores = at_cells(heat, place).clamp_min(0).mT
        return ranked(keypoints, scores, (scores * there).mean(-1), people)

    @staticmethod
    def _grouped(candidates: NDArray[np.float32], people: int) -> NDArray[np.int64]:
        """(B, people, K) numbers of the `candidates` (B, K, n, 1 + L: score and tag) of the best people, or -1."""
        chosen = np.full((len(candidates), people, candidates.shape[1]), -1)
        for best, image in zip(chosen, candidates, strict=True):
            members = grouped(image[..., 0], image[..., 1:], people)
            scores = np.where(members < 0, 0, image[np.arange(len(image)), members, 0])
            members = members[np.argsort(-scores.sum(1), kind="stable")][:people]
            best[: len(members)] = members
        return chosen

    @staticmethod
    def _fill(place: Tensor, chosen: NDArray[np.int64], heat: Tensor, tags: Tensor, mean: Tensor) -> None:
        """Write to `place` (B, K, M, 2) the cells of keypoints that people of `mean` tags (B, M, L) lack."""
        if tags.shape[-2:] != heat.shape[-2:]:
            tags = F.interpolate(tags.flatten(1, 2), heat.shape[-2:], mode="bilinear").unflatten(1, tags.shape[1:3])
        for image, keypoint in np.argwhere(((chosen < 0) & (chosen >= 0).any(2, keepdims=True)).any(1)):
            rows = np.flatnonzero((chosen[image, :, keypoint] < 0) & (chosen[image] >= 0).any(1))
            at = refined(heat[image, keypoint], tags[image, :, keypoint], mean[image, rows])
            width = heat.shape[-1]
            place[image, keypoint, rows] = torch.stack([at % width, torch.div(at, width, rounding_mode="floor")], -1)

    def _nearest(self, keypoints: Tensor, strides: tuple[int, ...] = (4,)) -> Tensor:
        """The cells that hold `keypoints` (B, M, K, 2), of maps of all `strides` one after the other: whole numbers
        (B, M, K * len(strides), 2). A cell reaches half a cell beyond its center."""
        # The first begins at the border, half a pixel before the first pixel's center.
        share = tuple((1 / stride,) for stride in strides for _ in self.skeleton.keypoints)
        keypoints = keypoints.repeat(1, 1, len(strides), 1) if len(strides) > 1 else keypoints
        return ((keypoints + 0.5) * constant(share, keypoints.device)).floor_()

    def _tags(self, fields: Fields) -> Tensor:
        """(B, L, K, h, w), as the network gave them."""
        return fields["tags"].maps.unflatten(1, (-1, len(self.skeleton)))

    def _finest(self, scales: Sequence[Fields]) -> tuple[Tensor, Tensor, int]:
        """Heatmaps (B, K, h, w) at the finest resolution, tags (B, L, K, h, w) of stride 4; the former's stride."""
        heat, tags = mean_maps(scales, "heatmap"), self._tags(scales[0]).float()
        if not self.fine:
            return heat, tags, 4
        fine = mean_maps(scales, "fine_heatmap")
        return torch.lerp(F.interpolate(heat, fine.shape[-2:], mode="bilinear"), fine, 0.5), tags, 2

    def _tags_in(self, tags: Tensor, cells: Tensor) -> Tensor:
        """`tags` (B, L, K, h, w) in their `cells` (B, K, n, 2): (B, K, n, L)."""
        found = at_cells(tags.flatten(1, 2), cells.repeat(1, tags.shape[1], 1, 1))
        return found.unflatten(1, tags.shape[1:3]).permute(0, 2, 3, 1)

    def _tags_of(self, tags: Tensor, cells: Tensor) -> Tensor:
        """Tags (B, K, n, L) at `cells` (B, K, n, 2) of the finest heatmaps, between the cells of `tags`."""
        points = self.in_cells(self.in_pixels(cells, 2 if self.fine else 4)).repeat(1, tags.shape[1], 1, 1)
        return at_points(tags.flatten(1, 2), points).unflatten(1, tags.shape[1:3]).permute(0, 2, 3, 1)


def pull_push(
    tags: Tensor, trust: Tensor, weight: Tensor, push: Push = "exp", factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Two losses (B,) of `tags` (B, M, K, L), times `factor`: how far a person's lie from their mean, and how near
    people's means are.

    `trust` (B, M, K) weighs keypoints, `weight` (B, M) people, and the roots of two people's product their pair; with
    ones that is the published loss of HigherHRNet: sums over people / P and over pairs / (P (P - 1)), half of the
    latter. 0 for images with nobody, and the second also for those with one person.
    """
    total = trust.sum(2, keepdim=True)
    share = (trust / total.clamp_min(1e-6))[..., None]
    mean = (share * tags).sum(2, keepdim=True)
    person = (weight[..., None] * (total > 0))[..., None]
    # Of all together the mean's way back is 0: what lies on its one side weighs what lies on the other.
    whose = person * (factor * tags.numel() / len(tags) / person.sum(1, keepdim=True).clamp_min(1e-6))
    pull = squared_error(tags, mean.detach(), share * whose)
    root = person.flatten(2).sqrt()
    pair = (root * root.mT).masked_fill_(itself(tags.shape[1], tags.device), 0)
    pair = pair * (0.5 * factor / pair.sum((1, 2), keepdim=True).clamp_min(1e-6))
    away = mean - mean.transpose(1, 2)
    near = torch.exp(-away.square().sum(-1)) if push == "exp" else (1 - away.abs().sum(-1)).clamp_min(0)
    return pull, (pair * near).sum((1, 2))


def margins(tags: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M) each, of `tags` (B, M, K, L) weighed by `trust` (B, M, K): how far a person's are at most from their mean,
    and how far the next person's mean is, infinity without another; NaN for nobody."""
    sure = trust.sum(2)
    mean = (tags * trust[..., None]).sum(2) / sure[..., None]
    spread = ((tags - mean[:, :, None]).norm(dim=-1) * (trust > 0)).amax(2)
    # Nobody is infinitely far from everybody, and so is everybody from themselves.
    mean = mean.masked_fill((sure == 0)[..., None], torch.inf)
    return spread, distances(mean, mean).masked_fill_(itself(tags.shape[1], tags.device), torch.inf).amin(2)
