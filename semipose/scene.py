"""All people in a batch of images: tensors padded to the largest number of people that an image may hold.

Keypoints and boxes are in pixels of the view, a pixel's center at integer coordinates.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.geometry import Affine, constant

# Cells of `Scene.valid` are this many pixels wide, as those of the networks' maps.
REGION_STRIDE = 4


@dataclass(frozen=True)
class Labels:
    """All labeled people in B images, padded to M people with K keypoints: arrays on the CPU.

    `keypoints` (B, M, K, 2) in pixels; `visible` (B, M, K) bool: the keypoint is labeled. `box_size` (B, M, 2) is the
    width and height of the person's box in pixels.
    """

    keypoints: NDArray[np.float32]
    visible: NDArray[np.bool_]
    box_size: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, rows: slice) -> "Labels":
        """Labels of some of the images."""
        return Labels(self.keypoints[rows], self.visible[rows], self.box_size[rows])

    def moved(self, affine: Affine, flip: tuple[int, ...], size: tuple[int, int]) -> "Labels":
        """Move the people into a view of `size` (H, W); see `Scene.moved`.

        Runs on the CPU: for so few points a kernel launch costs more than the arithmetic.
        """
        order = affine.order(flip)[:, None]
        keypoints = np.take_along_axis(affine.host_points(self.keypoints), order[..., None], 2)
        inside = ((keypoints >= -0.5) & (keypoints < (size[1] - 0.5, size[0] - 0.5))).all(-1)
        visible = np.take_along_axis(self.visible, order, 2) & inside
        return Labels(keypoints, visible, (self.box_size * affine.host_scale).astype(np.float32))


@dataclass(frozen=True)
class Scene:
    """All people in B views, padded to M people with K keypoints; all tensors are on one device.

    - `keypoints` (B, M, K, 2) in pixels of the view.
    - `visible` (B, M, K) float in 0..1: the confidence in each keypoint, 1 for a label. 0 without a label, beyond the
      view, and for people of weight 0.
    - `weight` (B, M) float in 0..1: the confidence in the person, 0 for padding.
    - `box_size` (B, M, 2): width and height of the person's box in pixels of the view.
    - `valid` (B, 1, H/4, W/4) float: 1 where labels are complete, 0 in crowds, on people without labels, in uncertain
      boxes and beyond the image.
    - `extent`, of detected people only: smallest and largest x and y (B, M, 2 each) in pixels of all their detected
      keypoints, confident or not. Views that are moved from this one have none.
    """

    keypoints: Tensor
    visible: Tensor
    weight: Tensor
    box_size: Tensor
    valid: Tensor
    extent: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def people(self) -> int:
        """M, the same for every image, including padding; see `present`."""
        return self.keypoints.shape[1]

    @cached_property
    def shown(self) -> Tensor:
        """(B, M, K) bool: keypoints with a confidence above 0."""
        return self.visible > 0

    @cached_property
    def present(self) -> Tensor:
        """(B, M) bool: people with a keypoint whose confidence is above 0."""
        return self.shown.any(-1)

    @cached_property
    def centers(self) -> Tensor:
        """Mean (B, M, 2) of each person's visible keypoints in pixels; 0 for padding."""
        shown = self.shown[..., None]
        return (self.keypoints * shown).sum(2) / shown.sum(2).clamp_min(1)

    @property
    def area(self) -> Tensor:
        """Areas (B, M) of people's boxes in square pixels."""
        return self.box_size.prod(-1)

    @property
    def hull(self) -> Tensor:
        """Width and height (B, M, 2) in pixels of the box around each person's visible keypoints; 0 for padding."""
        low, high = _corners(self.keypoints, self.visible)
        return (high - low).clamp_min(0)

    @staticmethod
    def detected(keypoints: Tensor, scores: Tensor, person: Tensor, valid: Tensor, min_score: float = 0.0) -> "Scene":
        """Make the scene of detected people from `keypoints`, their `scores` (0: not detected) and `person` scores.

        Keypoints that score below `min_score` get a confidence of 0; the person's box still holds them.
        """
        low, high = _corners(keypoints, scores)
        return Scene(keypoints, scores * (scores >= min_score), person, (high - low).clamp_min(0), valid, (low, high))

    def moved(self, affine: Affine, flip: tuple[int, ...], size: tuple[int, int] | None = None) -> "Scene":
        """Move the people into another view of `size` (H, W), default this one's; `affine` (B) takes pixels to pixels.

        Where it mirrors, left and right keypoints are exchanged by `flip`. Keypoints outside of the view are not
        visible, people without a keypoint inside have weight 0, and the area beyond this view is unknown.
        """
        height, width = size or (self.valid.shape[-2] * REGION_STRIDE, self.valid.shape[-1] * REGION_STRIDE)
        keypoints, visible = (
            affine.exchanged(each, flip, dim=2) for each in (affine.points(self.keypoints), self.visible)
        )
        # A pixel reaches half a pixel beyond its center; the far border is outside.
        inside = (keypoints >= -0.5) & (keypoints < constant((width - 0.5, height - 0.5), keypoints.device))
        visible = visible * inside.all(-1)
        valid = affine.at_stride(REGION_STRIDE).image(self.valid, (height // REGION_STRIDE, width // REGION_STRIDE))
        weight = self.weight * (visible > 0).any(-1)
        return Scene(keypoints, visible, weight, self.box_size * affine.scale, valid)


def _corners(keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest x and y (B, M, 2 each) of visible keypoints; infinity and minus infinity without any."""
    hidden = (visible <= 0)[..., None]
    return keypoints.masked_fill(hidden, torch.inf).amin(2), keypoints.masked_fill(hidden, -torch.inf).amax(2)


@dataclass(frozen=True)
class DetectedPeople:
    """People detected in B views for an evaluation, padded to M: float32 tensors on the CPU, without NaN.

    `keypoints` (B, M, K, 2) are in pixels of the view. `scores` (B, M, K) are the keypoints' scores, `person` (B, M)
    the people's, best first and 0 for padding.
    """

    keypoints: Tensor
    scores: Tensor
    person: Tensor
