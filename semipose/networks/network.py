"""PoseNetwork: RGB images of range 0..1 to named fields; normalization happens inside."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.networks import STRIDE_MULTIPLE, check_size
from semipose.networks.backbone import Backbone
from semipose.networks.heads import Head


class PoseNetwork(nn.Module):
    """A backbone and a head that makes one heatmap per keypoint, of stride `stride`.

    `mean` and `std` normalize each color. `flip[k]` is keypoint k's partner in a mirrored image. `config` is
    what `build_network` was given, `keypoints` the keypoints' names (empty when unknown).
    """

    stride_multiple = STRIDE_MULTIPLE
    # Whether it answers for everybody in a whole image, and not for the one person of a crop.
    detector_free = False
    # What its random weights were drawn from; parts that are added to it draw from it, too.
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
        # They belong to the architecture, not to the weights: a state_dict holds only what is learned.
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Maps of strides 4, 8, 16 and 32 of `image` (B, 3, H, W), RGB in 0..1, H and W multiples of 32."""
        features: list[Tensor] = self.backbone(self._normalized(image))
        return features

    def levels(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features, and the maps of the backbone's `earlier` stages."""
        return self.backbone.levels(self._normalized(image))

    def _normalized(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            found = f"{tuple(image.shape)} of {image.dtype}"
            raise ValueError(f"the image is {found}; expected float (B, 3, H, W), RGB in 0..1")
        check_size((image.shape[2], image.shape[3]))
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> Fields:
        """Heatmaps `["heatmap"].maps` (B, K, H / 4, W / 4) of `image` (B, 3, H, W), RGB in 0..1."""
        maps = self.head(self.features(image)[self.backbone.level])
        return Fields({"heatmap": Field(maps, "scalar", self.stride, self.flip)})


class SceneNetwork(PoseNetwork):
    """A backbone and a `SceneHead`: the fields of everybody in a whole image."""

    detector_free = True

    def forward(self, image: Tensor) -> Fields:
        """The head's fields of `image` (B, 3, H, W), RGB in 0..1."""
        fields: Fields = self.head(self.features(image))
        return fields
