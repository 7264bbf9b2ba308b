"""CID's fields: heatmaps of everybody, people's centers, and maps of one person at a time drawn from a center.

Wang and Zhang (CVPR 2022, contextual instance decoupling), with the numbers of their public code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.peaks import LEAST_CENTER, LEAST_KEYPOINT, cells_of, center_kernel, smoothed, tops
from semipose.codecs.rendering import Stamps
from semipose.codecs.scene_codec import Negatives, SceneCodec, ranked, rescaled, weighed
from semipose.codecs.suppression import oks_between, survivors
from semipose.fields import EDGE, Field, Fields, InstanceFields
from semipose.geometry import constant, earlier, indices, multiples
from semipose.losses.focal import contrast, focal, quality_focal
from semipose.losses.per_image import Term
from semipose.scene import DetectedPeople, Scene

# Boxes moved by a Gaussian's radius still overlap by this much.
OVERLAP = 0.7
# Two poses more alike than this are one person.
SAME = 0.8


class Drawn(NamedTuple):
    """P people of each image, of whose own maps a loss is taken: `spots` (B, P) int64, the cells of their centers,
    counted row by row, and `cells` (B * P, 2), x and y, the same cells; `weight` (B, P) of the people, 0 for nobody,
    and `trust` (B, P, K) in their keypoints, times that; `order` (B, P) int64, which of the batch's B * M they are,
    None where they are all."""

    spots: Tensor
    cells: Tensor
    weight: Tensor
    trust: Tensor
    order: Tensor | None


@dataclass(frozen=True)
class Instance(SceneCodec):
    """`InstanceFields` "heatmap" (K) and "center" (1), probabilities; at most `most` people of an image are drawn.

    Differs from the paper: it draws 200 of 20 images, however many of one; which people are left out where there are
    more, and by which neighboring cell a center is off, follows from where they are instead of a random number (as
    good as random in a randomly moved view, and the same in a resumed run); people of all data sets need a certain
    area to have a center (there: COCO's); a batch without people has a loss of 0 instead of a division by 0.
    """

    # Of somebody who is found on the device: the center's probability times the keypoints', 0.3 each.
    sure = 0.09

    most: int = 10

    def targets(self, scene: Scene, negatives: Negatives = True) -> tuple[Fields, Fields]:
        """Gaussians around the cells of keypoints and centers, wider for larger people, 1 at their peaks; see the
        base."""
        stamps, flip = self._stamps(scene), self.skeleton.flip
        maps = stamps.highest()
        return Fields.paired(maps, flip), Fields.paired(self._known(scene, stamps, negatives).expand_as(maps), flip)

    def map_terms(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Term]:
        """Focal loss of keypoint and center maps, by the number of peaks."""
        return {"heatmap": focal(fields.joined, targets.joined, weights.joined)[0]}

    def terms(self, fields: Fields, scene: Scene, negatives: Negatives = True) -> dict[str, Term]:
        """Focal loss of keypoint and center maps, that of people's own maps, times 4, and what makes the features of an
        image's people alike; all maps are drawn and compared in one go."""
        answer, drawn, stamps = _instances_of(fields), self._drawn(scene), self._stamps(scene)
        maps = stamps.highest(stamps.first(len(self.skeleton), drawn.order))
        features = answer.parameters(drawn.spots)
        own = answer.drawn(features, drawn.cells).view(len(maps), -1, *self.cells)
        found = torch.cat([fields.joined, own], 1)
        heatmap, instance = focal(found, maps, self._known(scene, stamps, negatives), drawn.trust.flatten(1))
        alike = contrast(features.unflatten(0, drawn.weight.shape), drawn.weight)
        return {"heatmap": heatmap, "instance": instance, "contrastive": alike}

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """Cross entropy with the teacher's probabilities, times the square of the difference (the quality focal loss
        of Li et al., NeurIPS 2020), by the number of the teacher's peaks, each as much as it is high: a teacher that
        is sure of few must not weigh more for it."""
        target = targets.joined.float().clamp(EDGE, 1 - EDGE)
        # Five operators: pooling is one, and takes a CPU four times as long.
        around = F.pad(target, (1, 1, 1, 1)).unfold(3, 3, 1).amax(-1).unfold(2, 3, 1).amax(-1)
        peaks = F.threshold(target.masked_fill(around != target, 0), LEAST_KEYPOINT, 0)
        return quality_focal(fields.joined, target, weights.joined) / peaks.sum().clamp_min(1)

    def _known(self, scene: Scene, stamps: Stamps, negatives: Negatives) -> Tensor:
        """(B, K + 1 or 1, h, w): the weights of keypoint and center maps."""
        if negatives is True:
            return scene.known
        return weighed(stamps.weighed(self._trust(scene)).highest(), scene.known, negatives)

    def _stamps(self, scene: Scene) -> Stamps:
        """Around everybody's keypoints and, last, centers."""
        return Stamps.around(self._cells_of(scene), self._trust(scene), self._reach(scene), self._farthest, self.cells)

    def _drawn(self, scene: Scene) -> Drawn:
        """The people of whose own maps a loss is taken, each from a cell at or next to the center."""
        (height, width), chance = self.cells, _chances(scene.centers)
        cells = (self._cells_of(scene)[:, :, -1] + chance[..., :2]).floor_() - 1
        cells = cells.clamp(constant((0,), cells.device), constant((width - 1, height - 1), cells.device))
        spots = (cells * constant((1, width), cells.device)).sum(-1).long()
        weight = self._weight(scene) * self._smallest(spots, scene)
        order, trust = None, scene.visible * weight[..., None]
        if scene.people > self.most:
            order = ((weight > 0) + chance[..., 2]).topk(self.most).indices
            order = order + multiples(len(scene), scene.people, order.device)
            spots, cells, weight, trust = (each.flatten(0, 1)[order] for each in (spots, cells, weight, trust))
        return Drawn(spots, cells.flatten(0, 1), weight, trust, order)

    def _smallest(self, spots: Tensor, scene: Scene) -> Tensor:
        """(B, M) bool: who has the cell `spots` (B, M); two people cannot be drawn from one, the smaller one is."""
        height, width = self.cells
        # Of two as small the first.
        rank = self.centered(scene) / (scene.area + indices(scene.people, spots.device, stride=0.1))
        highest = rank.new_zeros(len(rank), height * width).scatter_reduce_(1, spots, rank, "amax")
        return highest.gather(1, spots) == rank

    @torch.no_grad()
    def found(
        self, fields: Fields, people: int, known: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """People read without the host; see the base. A keypoint's score is the peak of its person's map."""
        center, spots = self._centers(fields, people)
        answer, cells = _instances_of(fields), cells_of(spots, self.cells[1])
        maps = answer.drawn(answer.parameters(spots), cells.flatten(0, 1))
        keypoints, score = (each.unflatten(0, center.shape) for each in self._read(maps.float()))
        # The highest centers come first. Who gives way to somebody who gives way is the same as both.
        again = self._same(keypoints) & earlier(people, center.device)
        person = (center * score.mean(-1)).masked_fill(again.any(-1), 0)
        score = F.threshold(score, LEAST_KEYPOINT, 0) * (person > 0)[..., None]
        scene = Scene.found(keypoints, score, person, self.everywhere(known, center), least)
        return scene, scene.present

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Poses drawn from the centers of all scales, each person once; the paper has one scale.

        A keypoint's score is the root of its map's peak times the center's, a person's the root of their mean square:
        the published order, on the scale of the other networks' scores.
        """
        poses, scores = [], []
        for fields in scales:
            center, spots = self._centers(fields, people)
            # Most of them are nobody, whose maps nobody needs.
            rows, number = center.nonzero(as_tuple=True)
            keypoints = center.new_zeros(*center.shape, len(self.skeleton), 2)
            score = keypoints.new_zeros(keypoints.shape[:-1])
            if len(rows):
                cells = cells_of(spots[rows, number], fields["center"].maps.shape[-1])
                pose, peak = self._read(smoothed(_instances_of(fields).instances(rows, cells).float()))
                keypoints[rows, number] = rescaled(pose, fields, scales[0])
                score[rows, number] = (peak * center[rows, number][:, None]).clamp_min(0).sqrt()
            poses.append(keypoints)
            scores.append(score)
        pose, score = torch.cat(poses, 1), torch.cat(scores, 1)
        person = score.square().mean(-1).sqrt()
        return ranked(pose, score, person * survivors(self._same(pose), person, person.shape[1]), people)

    def _centers(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Heights (B, M) of the highest centers, 0 for nobody, and their cells (B, M), counted row by row."""
        maps = smoothed(fields["center"].maps.float())
        height, spots = tops(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        return F.threshold(height.squeeze(1), LEAST_CENTER, 0), spots.squeeze(1)

    def _read(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (n, K, 2) in pixels of the answered image and their peaks (n, K), of people's `maps`."""
        field = Field(maps, "scalar", self.stride, self.skeleton.flip)
        return HeatmapCodec(self.size, self.skeleton.flip, self.stride).decode(Fields({"heatmap": field}), "quarter")

    def _same(self, keypoints: Tensor) -> Tensor:
        return oks_between(keypoints, self.skeleton.sigmas) > SAME

    def _cells_of(self, scene: Scene) -> Tensor:
        """(B, M, K + 1, 2) the whole cells that hold people's keypoints and, last, their centers."""
        return scene.once(("cells", self.stride), lambda: self._cells(scene))

    def _cells(self, scene: Scene) -> Tensor:
        points = torch.cat([scene.keypoints, scene.centers[:, :, None]], 2)
        return ((points + 0.5) * (1 / self.stride)).floor_()

    def _weight(self, scene: Scene) -> Tensor:
        """(B, M) of each person's center."""
        return scene.once(("weight", self.least_side), lambda: scene.weight * self.centered(scene))

    def _trust(self, scene: Scene) -> Tensor:
        """(B, M, K + 1) in keypoints and, last, centers."""
        return scene.once(
            ("trust", self.least_side), lambda: torch.cat([scene.visible, self._weight(scene)[..., None]], 2)
        )

    def _reach(self, scene: Scene) -> Tensor:
        """(B, M) int64 cells: how far a person's Gaussians reach, at most `_farthest`."""
        across, down = (scene.sides / self.stride).ceil().unbind(-1)
        return gaussian_radius(down, across).clamp_max(self._farthest).long()

    @property
    def _farthest(self) -> int:
        """The reach for somebody who fills the image; boxes may reach over its border."""
        return _widest(self.cells)


@lru_cache(maxsize=16)
def _widest(cells: tuple[int, int]) -> int:
    return math.floor(gaussian_radius(*torch.tensor(cells, dtype=torch.float64)))


def gaussian_radius(height: Tensor, width: Tensor) -> Tensor:
    """How far corners of a box of `height` and `width` may move so that it still overlaps its old place by 0.7.

    As in the public code of CornerNet (Law and Deng, ECCV 2018) and its successors, which takes the least of three
    roots, each divided by 2 instead of by twice the quadratic's leading coefficient: it is always this one.
    """
    side = OVERLAP * (height + width)
    return torch.addcmul(side * side, height, width, value=4 * OVERLAP * (1 - OVERLAP)).sqrt() - side


def _instances_of(fields: Fields) -> InstanceFields:
    """`fields`, which must be able to draw people; moved ones are not."""
    if not isinstance(fields, InstanceFields):
        raise ValueError("these fields draw no people; expected a network's own answer, not one moved to another view")
    return fields


def _chances(points: Tensor) -> Tensor:
    """(..., 3) numbers below 3, 3 and 1 that look random and are the same for the same place, of `points` (..., 2) in
    pixels."""
    far, most, three = (12.9898, 78.233), (3.0, 3.0, 1.0), (43758.5453, 67813.457, 52167.831)
    mixed = (points * constant(far, points.device)).sum(-1, keepdim=True).sin_() * constant(three, points.device)
    return mixed.remainder(constant(most, points.device))
