"""Networks of timm as backbones, `--network timm:NAME` (extra `timm`). Nothing is ever downloaded."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from semipose.errors import UsageError
from semipose.networks.backbone import Backbone
from semipose.networks.torchvision_loader import load_torchvision

# Height and width of the image that a network is tried with: no square, and no size that any is made for.
_TRIAL = (64, 96)


class TimmBackbone(Backbone):
    """timm's network `name` without its classifier, under timm's own parameter names (after `model.`).

    Its mean and std are those of its published weights. Differs from timm: dropout and stochastic depth are off,
    because they would draw from the global random state and break exact resume. Raises UsageError where timm is
    not installed or knows no such name, and where the network does not take images of any size to maps of strides
    4, 8, 16 and 32.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = _create(load_timm(), name)
        self.indices = self._positions(name)
        self.channels = self._try(name)
        # What stands behind the last map would never get a gradient.
        self.model.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        self.mean, self.std = (tuple(self.model.pretrained_cfg[key]) for key in ("mean", "std"))
        for part in self.model.modules():
            if isinstance(part, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
                part.p = 0.0
            elif hasattr(part, "drop_prob"):
                part.drop_prob = 0.0

    def _positions(self, name: str) -> list[int]:
        """Where the maps of strides 4 to 32 stand among those that timm lists for the network."""
        listed = [entry["reduction"] for entry in getattr(self.model, "feature_info", ())]
        if not set(self.strides) <= set(listed):
            found = ", ".join(map(str, dict.fromkeys(listed))) or "unknown to timm"
            raise UsageError(
                f"timm:{name} gives maps of stride {found}; expected 4, 8, 16 and 32. Choose a convolutional network "
                "or another of several scales, such as timm:convnext_atto."
            )
        return [listed.index(stride) for stride in self.strides]

    def _try(self, name: str) -> tuple[int, ...]:
        """The channels of the four maps of a small image, whose sizes must be what the strides say."""
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(1, 3, *_TRIAL))
            found = ", ".join("x".join(map(str, features.shape[2:])) for features in maps)
        except Exception as error:  # a network made for one size fails in any of a dozen ways
            maps, found = [], str(error) or type(error).__name__
        expected = ", ".join("x".join(str(side // stride) for side in _TRIAL) for stride in self.strides)
        if found != expected:
            raise UsageError(
                f"timm:{name} does not take images of any size: one of {_TRIAL[0]}x{_TRIAL[1]} gave {found}; expected "
                f"maps of {expected}. Choose another network, such as timm:convnext_atto."
            )
        self.train()
        return tuple(features.shape[1] for features in maps)

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.model.forward_intermediates(image, indices=self.indices, intermediates_only=True))


def load_timm() -> Any:
    """The package timm. Raises UsageError where it, or torchvision, is not installed."""
    try:
        load_torchvision()
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"networks timm:NAME need {error.name}, which is not installed: pip install 'semipose[timm]'."
        ) from error


def _create(timm: Any, name: str) -> Any:
    # Of timm's own networks alone: other names would read a folder or the hub.
    if not timm.is_model(name):
        nearest = ", ".join(get_close_matches(name, timm.list_models(), n=3, cutoff=0))
        raise UsageError(f"timm {timm.__version__} has no network {name!r}; the nearest are {nearest}.")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"timm cannot build {name!r}: {error}.") from error
