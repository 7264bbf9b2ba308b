"""Networks of timm as backbones, `--network timm:NAME` (extra `timm`). Nothing is ever downloaded."""

from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from semipose.errors import UsageError
from semipose.networks.backbone import Backbone
from semipose.networks.hooks import changing
from semipose.networks.torchvision_loader import load_torchvision

# Height and width of the trial image: not square, and no size that a network is made for.
_TRIAL = (64, 96)


class TimmBackbone(Backbone):
    """timm's network `name` without its classifier, under timm's own parameter names (after `model.`).

    Its mean and std are those of its published weights. Differs from timm: dropout and stochastic depth are off,
    because they would draw from the global random state and break exact resume. Raises UsageError where timm is
    not installed or knows no such name. Also raises UsageError where the network cannot take images of any size to
    maps of strides 4, 8, 16 and 32.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = _create(load_timm(), name)
        self.indices = self._positions(name)
        self._stages: list[str] = []
        self.channels = self._try(name)
        # Layers behind the last map would never get a gradient.
        self.model.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        self.mean, self.std = (tuple(self.model.pretrained_cfg[key]) for key in ("mean", "std"))
        for part in self.model.modules():
            if isinstance(part, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
                part.p = 0.0
            elif hasattr(part, "drop_prob"):
                part.drop_prob = 0.0

    def _positions(self, name: str) -> list[int]:
        """Return the indices of the maps of strides 4 to 32 in timm's list for the network."""
        listed = [entry["reduction"] for entry in getattr(self.model, "feature_info", ())]
        if not set(self.strides) <= set(listed):
            found = ", ".join(map(str, dict.fromkeys(listed))) or "unknown to timm"
            raise UsageError(
                f"timm:{name} gives maps of stride {found}; expected 4, 8, 16 and 32. Choose a convolutional network "
                "or another of several scales, such as timm:convnext_atto."
            )
        return [listed.index(stride) for stride in self.strides]

    def _try(self, name: str) -> tuple[int, ...]:
        """Return the channels of the four maps of a small image, and check their sizes against the strides.

        Also records the stages: timm's modules that return these maps and are called with maps.
        """
        listed = [self.model.feature_info[index].get("module", "") for index in self.indices]
        modules = {module: listed_as for listed_as, module in self.model.named_modules() if listed_as in listed}
        seen: dict[nn.Module, list[bool]] = {module: [] for module in modules}

        def note(module: nn.Module, value: Tensor) -> Tensor:
            seen[module].append(_is_map(value))
            return value

        try:
            with torch.no_grad(), changing({module: partial(note, module) for module in modules}):
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
        self._stages = [modules[module] for module, maps_only in seen.items() if maps_only and all(maps_only)]
        self.train()
        return tuple(features.shape[1] for features in maps)

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(self.model.forward_intermediates(image, indices=self.indices, intermediates_only=True))

    def stages(self) -> list[nn.Module]:
        """Return the modules that timm takes its maps from; none for networks whose maps are not (B, C, h, w)."""
        return [self.model.get_submodule(name) for name in self._stages]

    def first_feature(self, stage: nn.Module) -> int:
        """Return the index of the map that timm takes from `stage`."""
        name = self._stages[self.stages().index(stage)]
        return [self.model.feature_info[index]["module"] for index in self.indices].index(name)


def _is_map(value: Tensor) -> bool:
    """Tell whether `value`, seen inside a network on the trial image, is a map finer than the deepest one."""
    height, width = value.shape[-2:] if value.ndim == 4 else (0, 0)
    return height * _TRIAL[1] == width * _TRIAL[0] and height > _TRIAL[0] // Backbone.strides[-1]


def load_timm() -> Any:
    """Import timm. Raises UsageError where it, or torchvision, is not installed."""
    try:
        load_torchvision()
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"networks timm:NAME need {error.name}, which is not installed: pip install 'semipose[timm]'."
        ) from error


def _create(timm: Any, name: str) -> Any:
    # timm's own networks only: other names would read a folder or the hub.
    if not timm.is_model(name):
        nearest = ", ".join(get_close_matches(name, timm.list_models(), n=3, cutoff=0))
        raise UsageError(f"timm {timm.__version__} has no network {name!r}; the nearest are {nearest}.")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"timm cannot build {name!r}: {error}.") from error
