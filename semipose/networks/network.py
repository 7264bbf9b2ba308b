"""PoseNetwork: RGB images of range 0..1 go in and are normalized; named fields come out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.networks import STRIDE_MULTIPLE, check_size
from semipose.networks.backbone import Backbone
from semipose.networks.heads import Head


class PoseNetwork(nn.Module):
    """A backbone and a head that predicts one heatmap per keypoint, of stride `stride`.

    `mean` and `std` normalize each color. `flip[k]` is keypoint k's partner in a mirrored image. `config` holds the
    arguments of `build_network`, `keypoints` the keypoints' names (empty when unknown).
    """

    stride_multiple = STRIDE_MULTIPLE
    # Whether it predicts all people in a whole image, not the one person of a crop.
    detector_free = False
    # The seed of its random weights; parts that are added later use it too.
    seed = 0
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        flip: Sequence[int],
        config: dict[str, Any],
        keypoints: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: Any = head
        self.stride = backbone.strides[backbone.level] // head.upscale
        self.flip = tuple(flip)
        self.config = dict(config)
        self.keypoints = tuple(keypoints)
        # Not persistent: they belong to the architecture, and a state_dict holds learned values only.
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return maps of strides 4 to 32 of `image` (B, 3, H, W), RGB in 0..1, H and W multiples of 32."""
        features: list[Tensor] = self.backbone(self._normalized(image))
        return features

    def levels(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features, and the maps of the backbone's `earlier` stages."""
        return self.backbone.levels(self._normalized(image))

    def _normalized(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            found = f"{tuple(image.shape)} of {image.dtype}"
            raise ValueError(f"the image is {found}; expected float (B, 3, H, W), RGB in 0..1")
        check_size((image.shape[2], image.shape[3]))
        return (image - self.mean) / self.std

    def heatmaps(self, features: list[Tensor]) -> Tensor:
        """Predict maps (B, K, H / 4, W / 4) from the features of strides 4 to 32."""
        maps: Tensor = self.head(features if self.head.multi_scale else features[self.backbone.level])
        return maps

    def forward(self, image: Tensor) -> Fields:
        """Predict heatmaps `["heatmap"].maps` (B, K, H / 4, W / 4) of `image` (B, 3, H, W), RGB in 0..1."""
        maps = self.heatmaps(self.features(image))
        return Fields({"heatmap": Field(maps, "scalar", self.stride, self.flip)})


class SceneNetwork(PoseNetwork):
    """A backbone and a `SceneHead`: the fields of all people in a whole image."""

    detector_free = True

    def forward(self, image: Tensor) -> Fields:
        """Predict the head's fields of `image` (B, 3, H, W), RGB in 0..1."""
        fields: Fields = self.head(self.features(image))
        return fields
