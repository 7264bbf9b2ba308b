"""What a network sees: crops of people, and views of them made on the device by one affine map each.

A view remembers the map from its crop, so that `weak.to(strong)` carries a teacher's answer into the student's view.
Xie et al. (ICCV 2021) call weak and strong views easy and hard.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from semipose.geometry import Affine
from semipose.views.color import Color, recolor
from semipose.views.draw import Draw


@dataclass(frozen=True)
class Augmentation:
    """How far views differ from the crop.

    `rotation` is the standard deviation in degrees, clipped at twice that and applied to 60 % of the samples (80 % for
    the strong view's second turn); 180 turns every view by any angle, all as likely, as befits people seen from
    overhead. `scale` the standard deviation and bound of the enlargement around 1; `flip` the
    share of mirrored views (Xie et al. 2021 and SimpleBaseline: 30 degrees, 0.25, 0.5). `color` is how the strong
    view's colors change and `strength` 0..1 how much, None for its usual one.
    """

    rotation: float = 30.0
    scale: float = 0.25
    flip: float = 0.5
    color: Color = "jitter"
    strength: float | None = None


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
        """The map from this view's pixels to another's of the same crops."""
        return other.affine @ self.affine.inverse()

    def with_image(self, image: Tensor) -> "View":
        """The same place with other pixels."""
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
    draw: Draw
    keypoints: Tensor | None = None
    visible: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def plain(self, scale: float = 1.0, mirrored: bool = False) -> View:
        """The person's box without anything random: as it is, enlarged by `scale`, or mirrored."""
        still = np.zeros(len(self))
        return self._view(self._affine(still, still + scale, (still == 0) == mirrored))

    def weak(self, name: str = "weak") -> View:
        """A view turned, scaled and perhaps mirrored; `name` keys its random numbers."""
        angle, scale = self._turn(name, share=0.6)
        mirrored = self.draw.host.uniform(name, 2).numpy()[:, 0] < self.augmentation.flip
        return self._view(self._affine(angle, scale, mirrored))

    def strong(self, weak: View, name: str = "strong") -> View:
        """A harder view of what `weak` shows: turned and scaled once more, with changed colors."""
        angle, scale = self._turn(name, share=0.8)
        height, width = self.size
        center = ((width - 1) / 2, (height - 1) / 2)
        further = Affine.about(angle, scale, np.zeros(len(self), bool), center, center)
        view = self._view(further.to(self.images.device) @ weak.affine)
        policy = self.augmentation
        return view.with_image(recolor(view.image, self.draw, name, policy.color, policy.strength))

    def labels(self, view: View, flip: tuple[int, ...]) -> Tensor:
        """Keypoints (B, K, 2) in the pixels of `view`."""
        if self.keypoints is None:
            raise ValueError("these crops are unlabeled: they have no keypoints")
        return view.affine.keypoints(self.keypoints, flip)

    def _turn(self, name: str, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Angle (B,) in radians and enlargement (B,) of a random view."""
        normal = self.draw.host.normal(f"{name}/turn", 2).numpy().clip(-2, 2)
        chance = self.draw.host.uniform(f"{name}/turned").numpy()
        policy = self.augmentation
        angle = normal[:, 0] * math.radians(policy.rotation) * (chance < share)
        if policy.rotation >= 180:
            angle = (2 * chance - 1) * math.pi
        return angle, 1 + (normal[:, 1] * policy.scale).clip(-policy.scale, policy.scale)

    def _affine(self, angle: np.ndarray, scale: np.ndarray, mirrored: np.ndarray) -> Affine:
        """Crop pixels to view pixels, the crop's center at the view's."""
        (tall, wide), (height, width) = self.images.shape[1:3], self.size
        middle, center = ((wide - 1) / 2, (tall - 1) / 2), ((width - 1) / 2, (height - 1) / 2)
        return Affine.about(angle, scale / self.zoom, mirrored, middle, center).to(self.images.device)

    def _view(self, affine: Affine) -> View:
        # Sampled first and then scaled: the view has fewer pixels than the crop.
        image = affine.image(self.images.permute(0, 3, 1, 2).float(), self.size)
        return View(image.mul_(1 / 255), affine)


@dataclass(frozen=True)
class Batch:
    """What a method gets each update; `unlabeled` is None in a run without unlabeled images."""

    labeled: Crops
    unlabeled: Crops | None
