"""Heads: features of stride 4 to 32 to maps of stride 4."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

# Of each transposed convolution: itself, batch norm, ReLU.
_LAYERS = 3


class DeconvHead(nn.Module):
    """Transposed convolutions (4x4, stride 2, no bias, batch norm, ReLU), then 1x1 to `outputs` maps.

    The head of Simple Baselines (Xiao et al., 2018), whose parameter names it keeps. Each entry of `channels`
    doubles the resolution: (B, inputs, h, w) -> (B, outputs, 8h, 8w) with three of them. With none it is the head of
    HRNet, the 1x1 convolution alone.
    """

    def __init__(self, inputs: int, outputs: int, channels: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        self.upscale = 2 ** len(channels)
        layers: list[nn.Module] = []
        for before, after in pairwise([inputs, *channels]):
            deconv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)
            nn.init.normal_(deconv.weight, std=0.001)
            layers += [deconv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d([inputs, *channels][-1], outputs, 1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))

    def after(self, deconvolutions: int | None) -> nn.Module:
        """The module that the map after so many transposed convolutions goes into, None for all of them.

        Raises ValueError where there are not as many.
        """
        parts = [*self.deconv_layers, self.final_layer]
        number = len(parts) - 1 if deconvolutions is None else _LAYERS * deconvolutions
        if number >= len(parts):
            found = len(self.deconv_layers) // _LAYERS
            raise ValueError(f"the head has {found} deconvolutions, so no map after {deconvolutions}")
        return parts[number]

    def forward(self, features: Tensor) -> Tensor:
        maps: Tensor = self.final_layer(self.deconv_layers(features))
        return maps
