"""Crops of people, and augmented views of them, each made on the device by one affine map.

A view keeps the map from its crop, so `weak.to(strong)` maps a teacher's output to the student's view.
Xie et al. (ICCV 2021) call weak and strong views easy and hard.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from semipose.geometry import Affine
from semipose.scene import REGION_STRIDE, Labels, Scene
from semipose.views.color import Color, recolor
from semipose.views.random_key import RandomKey


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random augmentations; the defaults are those of Xie et al. (2021) and SimpleBaseline.

    - `rotation`: standard deviation in degrees, clipped at twice that. It applies to 60 % of the samples, and to 80 %
      for the strong view's second rotation. 180 rotates every view by a uniform angle, for people seen from overhead.
    - `scale`: standard deviation and bound of the scale around 1.
    - `flip`: probability of a mirrored view, 0 to 1.
    - `color`: color augmentation of the strong view; `strength` 0..1, None for the policy's default.
    - `shift`: largest translation, as a share of the view's sides.
    """

    rotation: float = 30.0
    scale: float = 0.25
    flip: float = 0.5
    color: Color = "jitter"
    strength: float | None = None
    shift: float = 0.0


@dataclass(frozen=True)
class View:
    """`image` (B, 3, H, W) RGB in 0..1 and the map from crop pixels to its pixels."""

    image: Tensor
    affine: Affine

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[-2], self.image.shape[-1]

    def to(self, other: "View") -> Affine:
        """Return the map from this view's pixels to those of another view of the same crops."""
        return self.affine.to(other.affine)

    def with_image(self, image: Tensor) -> "View":
        """Return the view with another image of the same geometry."""
        return replace(self, image=image)


@dataclass(frozen=True)
class Crops:
    """One stream's batch: a canonical crop per person, on the device.

    `images` (B, H', W', 3) uint8 RGB; `size` (H, W) of the views; `zoom` the crop pixels per view pixel at scale 1.
    `keypoints` (B, K, 2) in crop pixels and `visible` (B, K) only where people are labeled.
    """

    images: Tensor
    size: tuple[int, int]
    zoom: float
    augmentation: Augmentation
    random: RandomKey
    keypoints: Tensor | None = None
    visible: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def canonical(self, scale: float = 1.0, mirrored: bool = False) -> View:
        """Make the view of the person's box without random augmentation, scaled by `scale`, or mirrored."""
        still = np.zeros(len(self))
        return self._view(self._affine(still, still + scale, (still == 0) == mirrored))

    def weak(self, name: str = "weak") -> View:
        """Make a randomly rotated, scaled and mirrored view; `name` keys its random numbers."""
        angle, scale = self._turn(name, share=0.6)
        mirrored = self.random.uniform(name, 2)[:, 0] < self.augmentation.flip
        return self._view(self._affine(angle, scale, mirrored, name))

    def strong(self, weak: View, name: str = "strong") -> View:
        """Make a harder view from `weak`: rotated and scaled once more, with changed colors."""
        angle, scale = self._turn(name, share=0.8)
        still = np.zeros(len(self), bool)
        further = Affine.about(angle, scale, still, self._middle(), self._middle(name), self.images.device)
        view = self._view(further @ weak.affine)
        policy = self.augmentation
        return view.with_image(recolor(view.image, self.random, name, policy.color, policy.strength))

    def labels(self, view: View, flip: tuple[int, ...]) -> Tensor:
        """Keypoints (B, K, 2) in the pixels of `view`."""
        if self.keypoints is None:
            raise ValueError("these crops are unlabeled: they have no keypoints")
        return view.affine.keypoints(self.keypoints, flip)

    def _turn(self, name: str, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw angle (B,) in radians and scale (B,) of a random view."""
        normal = self.random.normal(f"{name}/turn", 2).clip(-2, 2)
        chance = self.random.uniform(f"{name}/turned")
        policy = self.augmentation
        angle: np.ndarray = normal[:, 0] * math.radians(policy.rotation) * (chance < share)
        if policy.rotation >= 180:
            angle = (2 * chance - 1) * math.pi
        return angle, 1 + (normal[:, 1] * policy.scale).clip(-policy.scale, policy.scale)

    def _middle(self, name: str = "") -> np.ndarray:
        """Return the center of a view, x and y (2,), or (2, B) where the random view `name` is shifted."""
        height, width = self.size
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        if not name or self.augmentation.shift == 0:
            return middle
        step = 2 * self.random.uniform(f"{name}/shift", 2).astype(np.float64).T - 1
        return middle[:, None] + step * self.augmentation.shift * np.array([[width], [height]])

    def _affine(self, angle: np.ndarray, scale: np.ndarray, mirrored: np.ndarray, name: str = "") -> Affine:
        """Map crop pixels to pixels of the view `name`, the crop's center to the view's."""
        tall, wide = self.images.shape[1:3]
        center = ((wide - 1) / 2, (tall - 1) / 2)
        device = self.images.device
        return Affine.about(angle, scale / self.zoom, mirrored, center, self._middle(name), device)

    def _view(self, affine: Affine) -> View:
        return View(affine.image(self._pixels, self.size), affine)

    @cached_property
    def _pixels(self) -> Tensor:
        """(B, 3, H', W') RGB in 0..1, made once for all views."""
        return self.images.permute(0, 3, 1, 2).float().mul_(1 / 255)


@dataclass(frozen=True)
class SceneCrops(Crops):
    """One stream's batch of whole images: each is the crop of "one person" whose box is the whole image.

    `people`, in crop pixels, only in the labeled stream. `valid` (B, 1, h', w'), in cells of 4 crop pixels, is 1 where
    the labels are complete, 0 elsewhere and beyond the image.
    """

    people: Labels | None = None
    valid: Tensor | None = None

    def labeled_in(self, view: View, flip: tuple[int, ...]) -> Labels:
        """All labeled people in the pixels of `view`, on the CPU; keypoints outside of it are not visible."""
        if self.people is None:
            raise ValueError("these images are unlabeled: they have no people")
        return self.people.moved(view.affine, flip, view.size)

    def scene(self, view: View, flip: tuple[int, ...]) -> Scene:
        """All people who have a labeled keypoint in `view`, in its pixels, on the device."""
        people = self.labeled_in(view, flip)
        arrays = (people.keypoints, people.visible, np.asarray(people.visible.any(-1)), people.box_size)
        keypoints, visible, weight, box_size = (self.random.to_device(each.astype(np.float32)) for each in arrays)
        return Scene(keypoints, visible, weight, box_size, self.valid_region(view))

    def valid_region(self, view: View) -> Tensor:
        """Return `valid` (B, 1, H / 4, W / 4) of `view`: 0 or 1; for unlabeled images 1 on the whole image."""
        assert self.valid is not None, "whole images come with their valid region"
        cells = (view.size[0] // REGION_STRIDE, view.size[1] // REGION_STRIDE)
        return _certain(view.affine.at_stride(REGION_STRIDE).image(self.valid, cells))


def _certain(valid: Tensor) -> Tensor:
    """Round to 0 or 1, as the public code does: a cell is valid as a whole or not at all."""
    return valid.round()


@dataclass(frozen=True)
class Batch:
    """The input of a method at each update; `unlabeled` is None in a run without unlabeled images."""

    labeled: Crops
    unlabeled: Crops | None
