"""CID's fields: heatmaps of everybody, people's centers, and maps of one person at a time drawn from a center.

Wang and Zhang (CVPR 2022, contextual instance decoupling), with the numbers of their public code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.heatmap import HeatmapCodec
from semipose.codecs.peaks import LEAST_CENTER, LEAST_KEYPOINT, center_kernel, peaks, smoothed
from semipose.codecs.rendering import Windows
from semipose.codecs.scene_codec import Negatives, SceneCodec, joined, paired, ranked, rescaled, weighed
from semipose.codecs.suppression import FEW, better, oks_between, survivors
from semipose.codecs.terms import Term
from semipose.fields import Field, Fields, InstanceFields
from semipose.geometry import constant, indices, itself
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

    def targets(self, scene: Scene, negatives: Negatives = True) -> tuple[Fields, Fields]:
        """Gaussians around the cells of keypoints and centers, wider for larger people, 1 at their peaks; see the
        base."""
        reach = self._reach(scene)[..., None, None, None]
        trust = torch.cat([scene.trust, (scene.weight * self.centered(scene))[..., None]], 2)
        windows = Windows.around(
            self._cells_of(scene), trust, (2 * reach + 1) / 6, reach, self._farthest, [self.cells]
        )
        maps, flip = windows.gaussians()[0], self.skeleton.flip
        if negatives is True:
            weight = scene.known.expand_as(maps)
        else:
            weight = weighed(windows.trusted()[0], scene.known, negatives)
        return paired(maps, flip), paired(weight, flip)

    def map_terms(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Term]:
        """Focal loss of keypoint and center maps, by the number of peaks."""
        return {"heatmap": focal(joined(fields), joined(targets), joined(weights))}

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """Cross entropy with the teacher's probabilities, times the square of the difference (the quality focal loss
        of Li et al., NeurIPS 2020), by the number of the teacher's peaks, each as much as it is high: a teacher that
        is sure of few must not weigh more for it."""
        p, target = (joined(each).float().clamp(EDGE, 1 - EDGE) for each in (fields, targets))
        # Autocast refuses it, for what half precision would make of it.
        with torch.autocast(p.device.type, enabled=False):
            entropy = F.binary_cross_entropy(p, target, reduction="none")
        loss = (joined(weights) * (p - target).square() * entropy).sum()
        peaked = (target > LEAST_KEYPOINT) & (F.max_pool2d(target, 3, 1, 1) == target)
        return loss / (target * peaked).sum().clamp_min(1)

    def instance_terms(self, fields: Fields, scene: Scene) -> dict[str, Term]:
        """Focal loss of people's own maps, times 4, and what makes the features of an image's people alike."""
        answer, drawn = _instances_of(fields), self._drawn(scene)
        trust = (drawn.trust * drawn.weight[:, None])[..., None, None]
        features = answer.parameters(drawn.rows, drawn.cells)
        maps = focal(answer.drawn(features, drawn.rows, drawn.cells), drawn.maps, trust)
        alike = Term(contrast(features, drawn.rows, drawn.weight > 0) * drawn.weight, drawn.weight)
        maps, alike = _of_images([maps, alike], drawn.rows, len(scene))
        return {"instance": Term(INSTANCE_FACTOR * maps.total, maps.divisor), "contrastive": alike}

    def _drawn(self, scene: Scene) -> Drawn:
        """The people of whose own maps a loss is taken, each from a cell at or next to the center."""
        chance = _chances(scene.centers)
        cells, middle = self._cells_of(scene).split([len(self.skeleton), 1], 2)
        last = constant((self.cells[1] - 1, self.cells[0] - 1), chance.device)
        middle = middle.squeeze(2) + (3 * chance[..., :2]).floor_() - 1
        middle = middle.clamp(constant((0.0,), chance.device), last)
        here = self.centered(scene)
        # Two people cannot be drawn from one cell: the smaller one is.
        size = scene.sides.prod(-1)
        taken = (middle[:, :, None] == middle[:, None]).all(-1) & better(-size) & here[:, None]
        here = here & ~taken.any(-1)
        order = (here * (1 + chance[..., 2])).flatten().topk(min(here.numel(), self.most * len(scene))).indices
        at, trust, centers, reach, weight = (
            each.flatten(0, 1)[order]
            for each in (cells, scene.trust, middle, self._reach(scene), scene.weight * here)
        )
        rows = torch.div(order, scene.people, rounding_mode="floor")
        return Drawn(rows, centers.long(), self._maps(at, reach), trust, weight)

    def _maps(self, at: Tensor, reach: Tensor) -> Tensor:
        """Gaussians (n, K, h, w), each on a map of its own, around the cells `at` (n, K, 2), `reach` (n,) wide."""
        away = indices(max(self.cells), at.device) - at[..., None]
        reach = reach[:, None, None, None]
        x, y = (torch.exp(away.square() * (-18 / (2 * reach + 1).square())) * (away.abs() <= reach)).unbind(2)
        return y[..., : self.cells[0], None] * x[..., None, : self.cells[1]]

    @torch.no_grad()
    def found(
        self, fields: Fields, people: int, known: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """People read without the host; see the base. A keypoint's score is the peak of its person's map."""
        center, cells = self._centers(fields, people)
        rows = indices(len(center), center.device, upright=True).long().expand(-1, people)
        keypoints, score = self._read(_instances_of(fields), rows.flatten(), cells.flatten(0, 1))
        keypoints, score = keypoints.unflatten(0, center.shape), score.unflatten(0, center.shape)
        person = center * score.mean(-1)
        person = person * survivors(self._same(keypoints), person, FEW)
        score = score * ((score > LEAST_KEYPOINT) & (person > 0)[..., None])
        scene = Scene.found(keypoints, score, person, self.everywhere(known, center), least)
        return scene, scene.present

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

    def _cells_of(self, scene: Scene) -> Tensor:
        """(B, M, K + 1, 2) the whole cells that hold people's keypoints and, last, their centers."""
        return scene.once(("cells", self.stride), lambda: self._cells(scene))

    def _cells(self, scene: Scene) -> Tensor:
        points = torch.cat([scene.keypoints, scene.centers[:, :, None]], 2)
        return ((points + 0.5) * (1 / self.stride)).floor_()

    def _reach(self, scene: Scene) -> Tensor:
        """(B, M) whole cells: how far a person's Gaussians reach, at most `_farthest`."""
        return scene.once(("reach", self.size), lambda: self._new_reach(scene.sides))

    def _new_reach(self, sides: Tensor) -> Tensor:
        across, down = (sides / self.stride).ceil().unbind(-1)
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


def focal(probability: Tensor, target: Tensor, weight: Tensor) -> Term:
    """CornerNet's focal loss of maps (n, K, h, w) in 0..1, by the sum of the weights of its peaks, where the target is
    1.

    Peaks give -ln p (1 - p)^2, other cells -ln(1 - p) p^2 (1 - target)^4; `weight` broadcasts to the maps.
    """
    return Term(*_Focal.apply(probability, target, weight))


class _Focal(torch.autograd.Function):
    """With its slope computed on the way: people's maps are long, and autograd would keep and pass over ten of them."""

    @staticmethod
    def forward(ctx: Any, probability: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        # Networks' own probabilities end there, too.
        p = probability.float().clamp(EDGE, 1 - EDGE)
        # 1 at the peaks, else 0; the probability of what is there, and which way it goes with p.
        peak = target.floor()
        empty = 1 - peak
        way = peak - empty
        right = torch.addcmul(empty, way, p)
        wrong = 1 - right
        share = (1 - target).square_().square_().add_(peak).mul_(weight)
        low = right.log().mul_(wrong)
        loss = (wrong * low).mul_(share).sum((1, 2, 3)).neg_()
        slope = low.mul_(2).addcdiv_(wrong.square_(), right, value=-1).mul_(share).mul_(way)
        ctx.save_for_backward(slope)
        ctx.dtype = probability.dtype
        peaked = peak.mul_(weight).sum((1, 2, 3))
        ctx.mark_non_differentiable(peaked)
        return loss, peaked

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradients[0].view(-1, 1, 1, 1) * slope).to(ctx.dtype), None, None


def contrast(parameters: Tensor, rows: Tensor, there: Tensor) -> Tensor:
    """(n,) how little the features `parameters` (n, C) of each person stand out among those of the same image.

    Cross entropy of cosines / 0.05, with oneself as the answer: 0 for one alone. `rows` (n,) are the images, and only
    people who are `there` (n,) bool count as others.
    """
    unit = F.normalize(parameters.float(), dim=1)
    with torch.autocast(unit.device.type, enabled=False):
        logits = unit @ unit.mT / TEMPERATURE
    mine = ((rows[:, None] == rows) & there) | itself(len(rows), rows.device)
    oneself = constant(tuple(range(len(rows))), rows.device, torch.int64)
    return F.cross_entropy(logits.masked_fill(~mine, -torch.inf), oneself, reduction="none")


def _of_images(terms: Sequence[Term], rows: Tensor, count: int) -> list[Term]:
    """`terms` of n people, whose images are `rows` (n,), as those of `count` images."""
    mine = (rows == indices(count, rows.device, upright=True)).float()
    # A product adds in the same order every time, which scattered sums do not.
    with torch.autocast(rows.device.type, enabled=False):
        totals, divisors = (torch.stack(each) @ mine.mT for each in zip(*terms, strict=True))
    return [Term(*each) for each in zip(totals.unbind(), divisors.unbind(), strict=True)]


def _instances_of(fields: Fields) -> InstanceFields:
    """`fields`, which must be able to draw people; moved ones are not."""
    if not isinstance(fields, InstanceFields):
        raise ValueError("these fields draw no people; expected a network's own answer, not one moved to another view")
    return fields


def _chances(points: Tensor) -> Tensor:
    """(..., 3) numbers in 0..1 that look random and are the same for the same place, of `points` (..., 2) in pixels."""
    of_x, of_y = (constant(each, points.device) for each in ((12.9898, 39.346, 73.156), (78.233, 11.135, 52.235)))
    mixed = torch.addcmul(points[..., :1] * of_x, points[..., 1:], of_y)
    return (mixed.sin() * 43758.5453).frac().abs()
