"""Ensemble: several networks used as one, by the mean of their fields."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from semipose.fields import Fields
from semipose.networks.network import PoseNetwork


class Ensemble(PoseNetwork):
    """Average the scalar fields of `members`, which must have the same strides and keypoints.

    It shares its members' weights and has none of its own; `config` lists the members' configs as `members`.
    """

    def __init__(self, members: Sequence[PoseNetwork]) -> None:
        # Skips PoseNetwork's __init__: an ensemble has no backbone or head of its own.
        nn.Module.__init__(self)
        self.members = nn.ModuleList(members)
        first = members[0]
        self.stride, self.flip, self.keypoints = first.stride, first.flip, first.keypoints
        self.config = {"members": [member.config for member in members]}
        # An averaged copy among the members must stay in eval mode when the others train.
        self._modes = [member.training for member in members]
        self.training = first.training

    def train(self, mode: bool = True) -> Self:
        """Set eval mode for all members, or restore the mode that each had at the start."""
        self.training = mode
        for member, trained in zip(self.members, self._modes, strict=True):
            member.train(mode and trained)
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the first member's features: those of different networks have no mean."""
        return cast(PoseNetwork, self.members[0]).features(image)

    def forward(self, image: Tensor) -> Fields:
        """Predict the mean maps of `image` (B, 3, H, W), RGB in 0..1."""
        outputs: list[Fields] = [member(image) for member in self.members]
        return Fields(
            {
                name: replace(field, maps=torch.stack([output[name].maps for output in outputs]).mean(0))
                for name, field in outputs[0].items()
                if field.kind == "scalar"
            }
        )
