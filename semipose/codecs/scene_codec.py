"""Convert between the people in a batch of images and the fields of a detector-free network: base of three codecs.

Keypoints are in pixels of the network's input. Cell i of a map with stride s is at pixel s * i + (s - 1) / 2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.peaks import MIN_KEYPOINT_SCORE
from semipose.fields import Fields
from semipose.losses.heatmap import total
from semipose.pose.skeleton import Skeleton
from semipose.scene import DetectedPeople, Scene


@dataclass(frozen=True)
class SceneCodec(ABC):
    """Codec of one kind of detector-free network with input `size` (H, W) in pixels and people of one `skeleton`.

    All but `decode` stays on the device, without a loop over samples, people or keypoints.
    """

    size: tuple[int, int]
    skeleton: Skeleton

    stride: ClassVar[int] = 4
    # Default score from which on a person detected by `detect` is confident.
    confident_score: ClassVar[float] = 0.3

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the maps of stride 4."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    @property
    def sigma(self) -> float:
        """Standard deviation of a keypoint's Gaussian, in cells of either resolution.

        The published 2 on maps of 128 cells, and the same share of smaller ones, but at least 1.5. A narrower peak is
        blurred too much when it is moved between views.
        """
        return max(1.5, 2.0 * min(self.cells) / 128)

    @property
    def min_side(self) -> float:
        """Smallest side in pixels of a square box whose person has a center; other boxes count by their area.

        The published 32 pixels of 512, and the same share of other sizes.
        """
        return min(self.size) / 16

    @abstractmethod
    def targets(self, scene: Scene, negatives: bool = True) -> tuple[Fields, Fields]:
        """Encode `scene`: targets of the scalar maps, and the weights of their cells, both (B, C, h, w) by name.

        With `negatives` the weights are the published ones times `scene.valid`: background is a target, too. Without,
        as for pseudo people, only cells around keypoints count, weighted by the keypoint's confidence.
        """

    @abstractmethod
    def map_losses(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Tensor]:
        """Return the published losses between scalar maps and their `targets`, by field name: scalars."""

    @abstractmethod
    def instance_losses(self, fields: Fields, scene: Scene, uniform: Tensor | None = None) -> dict[str, Tensor]:
        """Losses of the fields that tell people apart, times their published factors: scalars, 0 without people.

        `scene.visible` and `scene.weight` are their weights. `uniform` (B, M, 3) holds random numbers in 0..1 for
        codecs that sample; with None nothing is random.
        """

    def losses(
        self, fields: Fields, scene: Scene, uniform: Tensor | None = None, negatives: bool = True
    ) -> dict[str, Tensor]:
        """All supervised losses of the people of `scene`; see `instance_losses` for `uniform`."""
        maps = self.map_losses(fields, *self.targets(scene, negatives))
        return maps | self.instance_losses(fields, scene, uniform)

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """Loss between scalar maps and a teacher's soft maps, on the scale of `map_losses`: a scalar."""
        return total(self.map_losses(fields, targets, weights))

    @abstractmethod
    def detect(
        self, fields: Fields, people: int, valid: Tensor | None = None, min_score: float = MIN_KEYPOINT_SCORE
    ) -> tuple[Scene, Tensor]:
        """Detect the best `people` of each image, on the device, for a training step.

        Returns a scene and (B, M) bool: the fields tell this person apart well enough to learn from, whatever the
        score. In the scene `visible` are the keypoints' scores, 0 below `min_score` and where none was detected.
        `weight` are the people's scores, 0 for padding. `box_size` and `extent` are of all detected keypoints. `valid`
        is as given, default 1 everywhere.
        """

    def decode(self, fields: Fields, people: int = 30) -> DetectedPeople:
        """Detect the best `people` of each image for an evaluation. Waits for the device."""
        return self.decode_scales([fields], people)

    @abstractmethod
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """Decode the fields of the same images at several sizes; the first has the codec's size."""

    def centered(self, scene: Scene) -> Tensor:
        """(B, M) bool: the person is large enough to have a center."""
        return scene.present & (scene.area >= self.min_side**2)

    def everywhere(self, valid: Tensor | None, like: Tensor) -> Tensor:
        """`valid`, or by default ones (B, 1, h, w) for the B images of `like`."""
        return like.new_ones(len(like), 1, *self.cells) if valid is None else valid

    def in_cells(self, points: Tensor, stride: int = 4) -> Tensor:
        """Convert pixels of the input to cells of a map."""
        return (points.float() - (stride - 1) / 2) / stride

    def in_pixels(self, cells: Tensor, stride: int = 4) -> Tensor:
        """Convert cells of a map to pixels of the input."""
        return cells * stride + (stride - 1) / 2


def cell_weights(confidence: Tensor, valid: Tensor, negatives: bool, empty: float = 1.0) -> Tensor:
    """Weights (B, C, h, w) of cells, 0 where labels are not `valid` (B, 1, h, w).

    `confidence` (B, C, h, w) is that of the keypoint around each cell, 0 away from keypoints. With `negatives` a weight
    is at least `empty`.
    """
    return (confidence.clamp_min(empty) if negatives else confidence) * valid


def mean_maps(scales: Sequence[Fields], name: str) -> Tensor:
    """Mean of the scalar field `name` over `scales`, with the cells of the first.

    Images of other sizes show the same content, edge to edge.
    """
    maps = [fields[name].maps.float() for fields in scales]
    if len(maps) == 1:
        return maps[0]
    size = (maps[0].shape[-2], maps[0].shape[-1])
    resized = [F.interpolate(each, size, mode="bilinear") for each in maps[1:]]
    return torch.stack([maps[0], *resized]).mean(0)


def rescaled(points: Tensor, fields: Fields, first: Fields) -> Tensor:
    """Convert pixels (..., 2) of the image that gave `fields` to pixels of the one that gave `first`."""
    spans = [each["heatmap"].maps.shape[-1] for each in (first, fields)]
    return (points + 0.5) * (spans[0] / spans[1]) - 0.5


def ranked(keypoints: Tensor, scores: Tensor, person: Tensor, people: int) -> DetectedPeople:
    """Select the best `people` by `person` (B, M), best first and on the CPU; 0 for padding and in place of NaN."""
    person, order = person.nan_to_num().topk(min(people, person.shape[1]))
    detected = person > 0
    keypoints = keypoints.gather(1, order[..., None, None].expand(-1, -1, *keypoints.shape[2:]))
    scores = scores.gather(1, order[..., None].expand(-1, -1, scores.shape[2]))
    return DetectedPeople(
        keypoints.masked_fill(~detected[..., None, None], 0).float().cpu(),
        scores.masked_fill(~detected[..., None], 0).nan_to_num().float().cpu(),
        person.float().cpu(),
    )
