"""Several networks used as one: the mean of their fields."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from semipose.fields import Fields
from semipose.networks.network import PoseNetwork


class Ensemble(PoseNetwork):
    """The mean of the scalar fields of `members`, which answer with the same strides for the same keypoints.

    It shares its members' weights and has none of its own; `config` lists theirs as `members`.
    """

    def __init__(self, members: Sequence[PoseNetwork]) -> None:
        # Not PoseNetwork's: there is no backbone or head of its own.
        nn.Module.__init__(self)
        self.members = nn.ModuleList(members)
        first = members[0]
        self.stride, self.flip, self.keypoints = first.stride, first.flip, first.keypoints
        self.config = {"members": [member.config for member in members]}
        # An averaged copy among them must not come into train mode with the others.
        self._modes = [member.training for member in members]
        self.training = first.training

    def train(self, mode: bool = True) -> Self:
        """Eval mode for all members, or for each the mode in which it came."""
        self.training = mode
        for member, trained in zip(self.members, self._modes, strict=True):
            member.train(mode and trained)
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        """The first member's: features of different networks have no mean."""
        return cast(PoseNetwork, self.members[0]).features(image)

    def forward(self, image: Tensor) -> Fields:
        """Mean maps of `image` (B, 3, H, W), RGB in 0..1."""
        answers: list[Fields] = [member(image) for member in self.members]
        return Fields(
            {
                name: replace(field, maps=torch.stack([answer[name].maps for answer in answers]).mean(0))
                for name, field in answers[0].items()
                if field.kind == "scalar"
            }
        )
