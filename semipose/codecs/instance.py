"""CID's fields: heatmaps of everybody, people's centers, and maps of one person at a time drawn from a center.

Wang and Zhang (CVPR 2022, contextual instance decoupling), with the numbers of their public code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.peaks import LEAST_CENTER, LEAST_KEYPOINT, center_kernel, peaks, smoothed
from semipose.codecs.rendering import Windows, on_map
from semipose.codecs.scene_codec import SceneCodec, joined, paired, ranked, rescaled
from semipose.codecs.suppression import FEW, better, oks_between, survivors
from semipose.fields import Field, Fields, InstanceFields
from semipose.geometry import constant, indices
from semipose.scene import Found, Scene

Size = TypeVar("Size", float, Tensor)

# Boxes moved by a Gaussian's radius still overlap by this much.
OVERLAP = 0.7
TEMPERATURE = 0.05
INSTANCE_FACTOR = 4.0
# Two poses more alike than this are one person.
SAME = 0.8
# Probabilities stay this far from 0 and 1.
EDGE = 1e-4


class Drawn(NamedTuple):
    """n people, of whose maps a loss is taken: `rows` (n,) in the batch, `cells` (n, 2) of their centers, the Gaussians
    (n, K, h, w) to learn, `trust` (n, K) in those and `weight` (n,) of the people, 0 for nobody."""

    rows: Tensor
    cells: Tensor
    maps: Tensor
    trust: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Instance(SceneCodec):
    """`InstanceFields` "heatmap" (K) and "center" (1), probabilities; at most `most` people are drawn for each image of
    a batch, on average.

    Differs from the paper: it draws 200 of 20 images, whatever the batch; which people are left out where there are
    more, and by which neighboring cell a center is off, follows from where they are instead of a random number (as
    good as random in a randomly moved view, and the same in a resumed run); people of all data sets need a certain
    area to have a center (there: COCO's); a batch without people has a loss of 0 instead of a division by 0.
    """

    # Of somebody who is found on the device: the center's probability times the keypoints', 0.3 each.
    sure = 0.09

    most: int = 10

    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Gaussians around the cells of keypoints and centers, wider for larger people, 1 at their peaks; see the
        base."""
        reach = self._reach(scene)[..., None, None, None]
        points = torch.cat([scene.keypoints, scene.centers[:, :, None]], 2)
        trust = torch.cat([scene.trust, (scene.weight * self._centered(scene))[..., None]], 2)
        cells, sigma = self._cells_of(points), (2 * reach + 1) / 6
        windows = Windows.around(cells, trust, sigma, reach, self._farthest, [self.cells])
        maps, flip = windows.gaussians()[0], self.skeleton.flip
        weight = scene.known.expand_as(maps) if negatives else windows.trusted()[0] * scene.known
        return paired(maps, flip), paired(weight, flip)

    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Focal loss of keypoint and center maps, by the number of peaks."""
        total, peaked = focal(joined(fields), joined(targets), joined(weights))
        return {"heatmap": total / peaked.clamp_min(1)}

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """Cross entropy with the teacher's probabilities, times the square of the difference (the quality focal loss
        of Li et al., NeurIPS 2020), by the number of the teacher's peaks, each as much as it is high: a teacher that
        is sure of few must not weigh more for it."""
        p, target = (joined(each).float().clamp(EDGE, 1 - EDGE) for each in (fields, targets))
        entropy = -(target * p.log() + (1 - target) * (1 - p).log())
        loss = (joined(weights) * (p - target).square() * entropy).sum()
        peaked = (target > LEAST_KEYPOINT) & (F.max_pool2d(target, 3, 1, 1) == target)
        return loss / (target * peaked).sum().clamp_min(1)

    def instance_losses(self, fields: Fields, scene: Scene) -> dict[str, Tensor]:
        """Focal loss of people's own maps, times 4, and what makes the features of an image's people alike."""
        answer, drawn = _instances_of(fields), self._drawn(scene)
        trust = (drawn.trust * drawn.weight[:, None])[..., None, None]
        features = answer.parameters(drawn.rows, drawn.cells)
        total, peaked = focal(answer.drawn(features, drawn.rows, drawn.cells), drawn.maps, trust)
        each = contrast(features, drawn.rows, drawn.weight > 0)
        return {
            "instance": INSTANCE_FACTOR * total / peaked.clamp_min(1),
            "contrastive": (each * drawn.weight).sum() / drawn.weight.sum().clamp_min(1),
        }

    def _drawn(self, scene: Scene) -> Drawn:
        """The people of whose own maps a loss is taken, each from a cell at or next to the center."""
        chance = _chances(scene.centers)
        middle = self._cells_of(scene.centers)
        jittered = middle + (3 * chance[..., :2]).floor() - 1
        middle = torch.where(on_map(jittered, self.cells)[..., None], jittered, middle)
        here = self._centered(scene)
        # Two people cannot be drawn from one cell: the smaller one is.
        size = scene.sides.prod(-1)
        taken = (middle[:, :, None] == middle[:, None]).all(-1) & better(-size) & here[:, None]
        here = here & ~taken.any(-1)
        order = (here * (1 + chance[..., 2])).flatten().topk(min(here.numel(), self.most * len(scene))).indices
        at, trust, cells, reach, weight = (
            each.flatten(0, 1)[order]
            for each in (self._cells_of(scene.keypoints), scene.trust, middle, self._reach(scene), scene.weight * here)
        )
        rows = torch.div(order, scene.people, rounding_mode="floor")
        return Drawn(rows, cells.long(), self._maps(at, reach), trust * on_map(at, self.cells), weight)

    def _maps(self, at: Tensor, reach: Tensor) -> Tensor:
        """Gaussians (n, K, h, w), each on a map of its own, around the cells `at` (n, K, 2), `reach` (n,) wide."""
        away = indices(max(self.cells), at.device) - at[..., None]
        reach = reach[:, None, None, None]
        x, y = (torch.exp(away.square() * (-18 / (2 * reach + 1).square())) * (away.abs() <= reach)).unbind(2)
        return y[..., : self.cells[0], None] * x[..., None, : self.cells[1]]

    @torch.no_grad()
    def found(self, fields: Fields, people: int) -> Scene:
        """People read without the host; see the base. A keypoint's score is the peak of its person's map."""
        center, cells = self._centers(fields, people)
        rows = indices(len(center), center.device, upright=True).long().expand(-1, people)
        keypoints, score = self._read(_instances_of(fields), rows.flatten(), cells.flatten(0, 1))
        keypoints, score = keypoints.unflatten(0, center.shape), score.unflatten(0, center.shape)
        person = center * score.mean(-1)
        person = person * survivors(self._same(keypoints), person, FEW)
        visible = score * ((score > LEAST_KEYPOINT) & (person > 0)[..., None])
        known = center.new_ones(len(center), 1, *self.cells)
        scene = Scene(keypoints, visible, person, torch.zeros_like(keypoints[:, :, 0]), known)
        return replace(scene, sides=scene.hull)

    @torch.no_grad()
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> Found:
        """Poses drawn from the centers of all scales, each person once; the paper has one scale.

        A keypoint's score is the root of its map's peak times the center's, a person's the root of their mean square:
        the published order, on the scale of the other networks' scores.
        """
        poses, scores = [], []
        for fields in scales:
            center, cells = self._centers(fields, people)
            # Most of them are nobody, whose maps nobody needs.
            rows, number = center.nonzero(as_tuple=True)
            keypoints = center.new_zeros(*center.shape, len(self.skeleton), 2)
            score = keypoints.new_zeros(keypoints.shape[:-1])
            if len(rows):
                pose, peak = self._read(_instances_of(fields), rows, cells[rows, number], smooth=True)
                keypoints[rows, number] = rescaled(pose, fields, scales[0])
                score[rows, number] = (peak * center[rows, number][:, None]).clamp_min(0).sqrt()
            poses.append(keypoints)
            scores.append(score)
        pose, score = torch.cat(poses, 1), torch.cat(scores, 1)
        person = score.square().mean(-1).sqrt()
        return ranked(pose, score, person * survivors(self._same(pose), person, person.shape[1]), people)

    def _centers(self, fields: Fields, people: int) -> tuple[Tensor, Tensor]:
        """Heights (B, M) of the highest centers, 0 for nobody, and their cells (B, M, 2)."""
        maps = smoothed(fields["center"].maps.float())
        height, cells = peaks(maps, people, center_kernel((maps.shape[-2], maps.shape[-1])))
        return height.squeeze(1) * (height.squeeze(1) > LEAST_CENTER), cells.squeeze(1)

    def _read(self, answer: InstanceFields, rows: Tensor, cells: Tensor, smooth: bool = False) -> tuple[Tensor, Tensor]:
        """Keypoints (n, K, 2) in pixels of the answered image and their peaks (n, K), of the people at `cells`."""
        maps = answer.instances(rows, cells).float()
        field = Field(smoothed(maps) if smooth else maps, "scalar", self.stride, self.skeleton.flip)
        return HeatmapCodec(self.size, self.skeleton.flip, self.stride).decode(Fields({"heatmap": field}), "quarter")

    def _same(self, keypoints: Tensor) -> Tensor:
        return oks_between(keypoints, self.skeleton.sigmas) > SAME

    def _centered(self, scene: Scene) -> Tensor:
        """(B, M) bool: who has a center, being large enough."""
        return scene.present & (scene.sides.prod(-1) >= self.least_side**2)

    def _cells_of(self, points: Tensor) -> Tensor:
        """The integer cells that hold points given in pixels."""
        return (self.in_cells(points) + 0.5).floor()

    def _reach(self, scene: Scene) -> Tensor:
        """(B, M) whole cells: how far a person's Gaussians reach, at most `_farthest`."""
        across, down = (scene.sides / self.stride).ceil().unbind(-1)
        return gaussian_radius(down, across).floor().clamp_max(self._farthest)

    @property
    def _farthest(self) -> float:
        """The reach for somebody who fills the image; boxes may reach over its border."""
        return math.floor(gaussian_radius(*map(float, self.cells)))


def gaussian_radius(height: Size, width: Size) -> Size:
    """How far corners of a box of `height` and `width` may move so that it still overlaps its old place by 0.7.

    As in the public code of CornerNet (Law and Deng, ECCV 2018) and its successors, which takes the least of three
    roots, each divided by 2 instead of by twice the quadratic's leading coefficient: it is always this one.
    """
    side = OVERLAP * (height + width)
    return (side**2 + 4 * OVERLAP * (1 - OVERLAP) * height * width) ** 0.5 - side


def focal(probability: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """CornerNet's focal loss of maps in 0..1, summed, and the sum of the weights of its peaks, where the target is 1.

    Peaks give -ln p (1 - p)^2, other cells -ln(1 - p) p^2 (1 - target)^4; `weight` broadcasts to the maps.
    """
    p = probability.float().clamp(EDGE, 1 - EDGE)
    # 1 at the peaks, else 0: numbers with one way back instead of two. Powers by squares: maps of people are long.
    peak = target.floor()
    empty = 1 - peak
    right = torch.addcmul(empty, peak - empty, p)
    share = ((1 - target).square().square() + peak) * weight
    return -((1 - right).square() * right.log() * share).sum(), (peak * weight).sum()


def contrast(parameters: Tensor, rows: Tensor, there: Tensor) -> Tensor:
    """(n,) how little the features `parameters` (n, C) of each person stand out among those of the same image.

    Cross entropy of cosines / 0.05, with oneself as the answer: 0 for one alone. `rows` (n,) are the images, and only
    people who are `there` (n,) bool count as others.
    """
    unit = F.normalize(parameters.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        logits = unit @ unit.mT / TEMPERATURE
    oneself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    others = (rows[:, None] == rows) & there
    logits = logits.masked_fill(~(others | oneself), -torch.inf)
    return logits.logsumexp(1) - logits.diagonal()


def _instances_of(fields: Fields) -> InstanceFields:
    """`fields`, which must be able to draw people; moved ones are not."""
    if not isinstance(fields, InstanceFields):
        raise ValueError("these fields draw no people; expected a network's own answer, not one moved to another view")
    return fields


def _chances(points: Tensor) -> Tensor:
    """(..., 3) numbers in 0..1 that look random and are the same for the same place, of `points` (..., 2) in pixels."""
    mixing = constant(((12.9898, 39.346, 73.156), (78.233, 11.135, 52.235)), points.device)
    mixed = points[..., :1] * mixing[0] + points[..., 1:] * mixing[1]
    return (mixed.sin() * 43758.5453).frac().abs()
