"""Everybody in a batch of images <-> a detector-free network's fields: what the three kinds of codec share.

Keypoints are in pixels of the network's input; cell i of a map with stride s lies at pixel s * i + (s - 1) / 2.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from semipose.codecs.peaks import LEAST_KEYPOINT
from semipose.fields import Fields
from semipose.geometry import constant
from semipose.losses.heatmap import total
from semipose.losses.per_image import Term, whole
from semipose.pose.skeleton import Skeleton
from semipose.scene import DetectedPeople, Scene

if TYPE_CHECKING:
    from semipose.codecs.rescoring import Rescorer


# Whether an empty place is to be learned as empty; 1.0 or 0.0 for each image (B, 1, 1, 1) where they differ.
Negatives = bool | Tensor


@dataclass(frozen=True)
class SceneCodec(ABC):
    """One kind of detector-free network: `size` (H, W) of its input in pixels, and whose keypoints it finds.

    All but `decode` stays on the device, with no loop over samples, people or keypoints.
    """

    size: tuple[int, int]
    skeleton: Skeleton

    stride: ClassVar[int] = 4
    # The score from which on somebody whom `found` finds is believed where nothing else is said.
    sure: ClassVar[float] = 0.3

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the maps of stride 4."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    @property
    def sigma(self) -> float:
        """Of a keypoint's Gaussian, in cells of either resolution: the published 2 on maps of 128 cells, and the same
        share of smaller ones, but never below 1.5: a narrower peak suffers from being moved between views."""
        return max(1.5, 2.0 * min(self.cells) / 128)

    @property
    def least_side(self) -> float:
        """In pixels: people whose box has a smaller area than this square have no center. The published 32 pixels of
        512, and the same share of other sizes."""
        return min(self.size) / 16

    @abstractmethod
    def targets(self, scene: Scene, negatives: Negatives = True) -> tuple[Fields, Fields]:
        """Scalar maps to learn, and the weight of each of their cells, both (B, C, h, w) by the fields' names.

        With `negatives` the weights are the published ones, times `scene.known`: an empty place is to be learned as
        empty. Without, as pseudo people want it, a cell counts only around a keypoint, as much as that is trusted.
        """

    @abstractmethod
    def map_terms(self, fields: Fields, targets: Fields, weights: Fields) -> dict[str, Term]:
        """The published losses between scalar maps and what `targets` answered, by the names of fields."""

    def consistency(self, fields: Fields, targets: Fields, weights: Fields) -> Tensor:
        """How far scalar maps are from a teacher's, which are soft and no Gaussians: as large as those of `map_terms`,
        a scalar. All may be merged, and weights broadcast to the maps."""
        return total({name: term.total for name, term in self.map_terms(fields, targets, weights).items()}).mean()

    @abstractmethod
    def terms(self, fields: Fields, scene: Scene, negatives: Negatives = True) -> dict[str, Term]:
        """All terms of the people of `scene`, each times its published factor; for `negatives` see `targets`.

        Those of `map_terms`, and what tells people apart, with `scene.visible` and `scene.weight` as weights: 0 without
        people.
        """

    def losses(self, fields: Fields, scene: Scene) -> dict[str, Tensor]:
        """All supervised terms of labeled people: scalars on the device."""
        return whole(self.terms(fields, scene))

    @abstractmethod
    def found(
        self, fields: Fields, people: int, known: Tensor | None = None, least: float = LEAST_KEYPOINT
    ) -> tuple[Scene, Tensor]:
        """The best `people` of each image, read on the device for a training step, and (B, M) bool, whom of them the
        fields describe well enough to be learned from, by more than their score.

        `visible` are the keypoints' scores, 0 where they are below `least` or none was really detected; `weight` the
        people's, 0 beyond those found; `sides` those of the hull of all keypoints that were detected; `known` as
        given, else everything is.
        """

    def decode(self, fields: Fields, people: int = 30) -> DetectedPeople:
        """The best `people` of each image, as well as can be, for an evaluation; waits for the device."""
        return self.decode_scales([fields], people)

    @abstractmethod
    def decode_scales(self, scales: Sequence[Fields], people: int = 30) -> DetectedPeople:
        """`decode` of the answers to the same images at several sizes; the first is that of the codec."""

    def centered(self, scene: Scene) -> Tensor:
        """(B, M) bool: who has a center, being large enough."""
        least = self.least_side**2
        return scene.once(("centered", least), lambda: scene.present & (scene.area >= least))

    def everywhere(self, known: Tensor | None, like: Tensor) -> Tensor:
        """`known`, and where it is None ones, as `Scene.known` for as many images as `like` has."""
        return like.new_ones(len(like), 1, *self.cells) if known is None else known

    def in_cells(self, points: Tensor, stride: int = 4) -> Tensor:
        """Pixels of the input as cells of a map."""
        first = constant(((1 - stride) / 2 / stride,), points.device)
        return torch.add(first, points.float(), alpha=1 / stride)

    def in_pixels(self, cells: Tensor, stride: int = 4) -> Tensor:
        """Cells of a map as pixels of the input."""
        return torch.add(constant(((stride - 1) / 2,), cells.device), cells, alpha=stride)


def tells_people_apart(fields: Fields) -> bool:
    """Whether `fields` are those of a detector-free network."""
    return "tags" in fields or "center" in fields


def scene_codec(
    fields: Fields, size: tuple[int, int], skeleton: Skeleton, rescorer: "Rescorer | None" = None
) -> SceneCodec:
    """The codec of the network that answered with `fields` to images of `size` (H, W) in pixels; see `CenterOffset`
    for the `rescorer`."""
    # They are made of what stands above.
    from semipose.codecs.associative import AssociativeEmbedding
    from semipose.codecs.center_offset import CenterOffset
    from semipose.codecs.instance import Instance

    if "tags" in fields:
        return AssociativeEmbedding(size, skeleton, fine="fine_heatmap" in fields)
    if "center" not in fields:
        raise ValueError(f"fields {sorted(fields)} tell no people apart; expected tags, or centers and offsets")
    return CenterOffset(size, skeleton, rescorer=rescorer) if "offsets" in fields else Instance(size, skeleton)


def weighed(trusted: Tensor, known: Tensor, negatives: Negatives, empty: float = 1.0) -> Tensor:
    """Weights (B, C, h, w) of cells `trusted` (B, C, h, w) in 0..1, 0 away from keypoints, where they are `known`: at
    least `empty` with `negatives`."""
    if isinstance(negatives, Tensor):
        trusted = torch.maximum(trusted, negatives if empty == 1 else negatives * empty)
    elif negatives:
        trusted = trusted.clamp_min(empty)
    return trusted * known


def mean_maps(scales: Sequence[Fields], name: str) -> Tensor:
    """Mean of the scalar field `name` over `scales`, with the cells of the first.

    Images of other sizes show the same, edge to edge.
    """
    maps = [fields[name].maps.float() for fields in scales]
    if len(maps) == 1:
        return maps[0]
    size = (maps[0].shape[-2], maps[0].shape[-1])
    resized = [F.interpolate(each, size, mode="bilinear") for each in maps[1:]]
    return torch.stack([maps[0], *resized]).mean(0)


def rescaled(points: Tensor, fields: Fields, first: Fields) -> Tensor:
    """Pixels (..., 2) of the image that `fields` answered as pixels of the one that `first` did."""
    spans = [each["heatmap"].maps.shape[-1] for each in (first, fields)]
    return (points + 0.5) * (spans[0] / spans[1]) - 0.5


def ranked(keypoints: Tensor, scores: Tensor, person: Tensor, people: int) -> DetectedPeople:
    """The best `people` by `person` (B, M), best first and on the CPU; 0 beyond those found, and in place of NaN."""
    person, order = person.nan_to_num().topk(min(people, person.shape[1]))
    there = person > 0
    keypoints = keypoints.gather(1, order[..., None, None].expand(-1, -1, *keypoints.shape[2:]))
    scores = scores.gather(1, order[..., None].expand(-1, -1, scores.shape[2]))
    return DetectedPeople(
        keypoints.masked_fill(~there[..., None, None], 0).float().cpu(),
        scores.masked_fill(~there[..., None], 0).nan_to_num().float().cpu(),
        person.float().cpu(),
    )
