"""Everybody in a batch of images at once: tensors padded to as many people as the fullest image may hold.

Keypoints and sides are in pixels of the view, a pixel's center at integer coordinates; trust lies in 0..1, and is 0 for
what lies beyond the view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semipose.geometry import Affine, Keeping, constant

# Cells of `Scene.known` are this many pixels wide, as those of the networks' maps.
REGION_STRIDE = 4


@dataclass(frozen=True)
class Labels:
    """Everybody who has a label in B images, padded to M people with K keypoints: arrays on the host.

    `keypoints` (B, M, K, 2) in pixels; `visible` (B, M, K) bool, which of them have a label; `sides` (B, M, 2), width
    and height of the person's box in pixels.
    """

    keypoints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    sides: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: slice) -> "Labels":
        """Those of some of the images."""
        return Labels(self.keypoints[rows], self.visible[rows], self.sides[rows])

    def moved(self, affine: Affine, flip: tuple[int, ...], size: tuple[int, int]) -> "Labels":
        """The same people in a view of `size` (H, W); see `Scene.moved`. So few numbers are moved faster by the host
        than the device takes to be asked."""
        order = affine.order(flip)[:, None]
        at = np.take_along_axis(affine.host_points(self.keypoints), order[..., None], 2)
        inside = ((at >= -0.5) & (at < (size[1] - 0.5, size[0] - 0.5))).all(-1)
        visible = np.take_along_axis(self.visible, order, 2) & inside
        return Labels(at, visible, (self.sides * affine.host_scale).astype(np.float32))

    def packed(self, room: int = 0) -> NDArray[np.float32]:
        """(B, at least `room`, 3 K + 3): what `Scene.unpacked` takes, in one piece for one way to the device."""
        images, people, keypoints = self.visible.shape
        packed = np.zeros((images, max(people, room), 3 * keypoints + 3), np.float32)
        present = self.visible.any(-1, keepdims=True)
        parts = [self.keypoints.reshape(images, people, -1), self.visible, present, self.sides]
        packed[:, :people] = np.concatenate(parts, -1)
        return packed


@dataclass(frozen=True)
class Scene(Keeping):
    """Everybody in B views, padded to M people with K keypoints; all tensors lie on one device.

    `keypoints` (B, M, K, 2) in pixels of the view. `visible` (B, M, K) float in 0..1: how much each keypoint is
    trusted, 1 for a label, 0 where there is none, beyond the view, and of people of weight 0. `weight` (B, M) float in
    0..1: trust in the person, 0 for padding. `sides` (B, M, 2): width and height of the person's box in pixels of the
    view. `known` (B, 1, H/4, W/4) float: 1 where it is known who is there, 0 in crowds, on people without labels, in
    grey zones and beyond the image.
    """

    keypoints: Tensor
    visible: Tensor
    weight: Tensor
    sides: Tensor
    known: Tensor

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def people(self) -> int:
        """M, the same for every image; `present` says how many there are."""
        return self.keypoints.shape[1]

    @cached_property
    def shown(self) -> Tensor:
        """(B, M, K) bool: which keypoints are trusted at all."""
        return self.visible > 0

    @cached_property
    def present(self) -> Tensor:
        """(B, M) bool: somebody with at least one keypoint."""
        return self.shown.any(-1)

    @cached_property
    def centers(self) -> Tensor:
        """(B, M, 2) mean of each person's visible keypoints in pixels; 0 for nobody."""
        shown = self.shown[..., None]
        return (self.keypoints * shown).sum(2) / shown.sum(2).clamp_min(1)

    @cached_property
    def area(self) -> Tensor:
        """(B, M) of each person's box in square pixels."""
        return self.sides.prod(-1)

    @cached_property
    def corners(self) -> tuple[Tensor, Tensor]:
        """(B, M, 2) each, in pixels: the least and the greatest x and y of each person's visible keypoints; for nobody
        infinity and minus infinity."""
        return _corners(self.keypoints, self.visible)

    @property
    def extent(self) -> tuple[Tensor, Tensor]:
        """As `corners`; of people just `found` of all their keypoints, trusted or not, as their boxes are."""
        return self.once("extent", lambda: self.corners)

    @cached_property
    def hull(self) -> Tensor:
        """(B, M, 2) width and height in pixels of the box around each person's visible keypoints; 0 for nobody."""
        low, high = self.corners
        return (high - low).clamp_min(0)

    @staticmethod
    def unpacked(packed: Tensor, known: Tensor) -> "Scene":
        """What `Labels.packed` has put together, once it is on the device."""
        count = (packed.shape[-1] - 3) // 3
        at, visible, weight, sides = packed.split([2 * count, count, 1, 2], -1)
        return Scene(at.unflatten(-1, (count, 2)), visible, weight.squeeze(-1), sides, known)

    @staticmethod
    def found(keypoints: Tensor, scores: Tensor, person: Tensor, known: Tensor, least: float = 0.0) -> "Scene":
        """People whom a network found: `keypoints` with their `scores`, 0 where there is none, and the `person`s' own.

        Only scores of at least `least` are trusted; a box is around all keypoints: without an unsure hand nobody is
        smaller.
        """
        low, high = _corners(keypoints, scores)
        scene = Scene(keypoints, scores * (scores >= least), person, (high - low).clamp_min(0), known)
        scene.once("extent", lambda: (low, high))
        return scene

    def moved(self, affine: Affine, flip: tuple[int, ...], size: tuple[int, int] | None = None) -> "Scene":
        """The same people in another view of `size` (H, W), default this one's; `affine` (B) takes pixels to pixels.

        Where it mirrors, a left wrist takes the right wrist's place as `flip` says. Keypoints that fall outside are
        not visible there, people without a keypoint inside have weight 0, and what lies beyond this view is unknown.
        """
        height, width = size or (self.known.shape[-2] * REGION_STRIDE, self.known.shape[-1] * REGION_STRIDE)
        at = affine.points(self.keypoints)
        at, visible = (affine.exchanged(each, flip, dim=2) for each in (at, self.visible))
        # A pixel reaches half of one beyond its center, and what lies on the far border is outside.
        last = tuple(float(np.nextafter(np.float32(side - 0.5), np.float32(0))) for side in (width, height))
        visible = visible * (at.clamp(constant((-0.5,), at.device), constant(last, at.device)) == at).all(-1)
        known = affine.at_stride(REGION_STRIDE).image(self.known, (height // REGION_STRIDE, width // REGION_STRIDE))
        return replace(
            self,
            keypoints=at,
            visible=visible,
            weight=self.weight * (visible > 0).any(-1),
            sides=self.sides * affine.scale,
            known=known,
        )

    @staticmethod
    def stacked(scenes: "Sequence[Scene]") -> "Scene":
        """Those of all `scenes`, of views of one size, one after the other."""
        most = max(scene.people for scene in scenes)

        def together(name: str) -> Tensor:
            # Nobody is as good as anybody of weight 0.
            each = [(getattr(scene, name), most - scene.people) for scene in scenes]
            return torch.cat([F.pad(of, (0, 0) * (of.ndim - 2) + (0, more)) if more else of for of, more in each])

        known = torch.cat([scene.known for scene in scenes])
        return Scene(together("keypoints"), together("visible"), together("weight"), together("sides"), known)

    def split(self, first: int) -> "tuple[Scene, Scene]":
        """The first `first` images, and the others."""
        one, other = (
            Scene(self.keypoints[part], self.visible[part], self.weight[part], self.sides[part], self.known[part])
            for part in (slice(0, first), slice(first, None))
        )
        return one, other


def _corners(keypoints: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    hidden = (trust <= 0)[..., None]
    return keypoints.masked_fill(hidden, torch.inf).amin(2), keypoints.masked_fill(hidden, -torch.inf).amax(2)


@dataclass(frozen=True)
class DetectedPeople:
    """People read from B views for an evaluation, padded to M: float32 tensors on the CPU, without NaN.

    `keypoints` (B, M, K, 2) in pixels of the view, `scores` (B, M, K) of the keypoints and `person` (B, M) of the
    people, best first; beyond those found the person's score is 0.
    """

    keypoints: Tensor
    scores: Tensor
    person: Tensor
