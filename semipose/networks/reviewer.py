"""The reviewer: a frozen network that keeps what another one has been."""

from typing import Literal

import torch
from torch import Tensor, nn

from semipose.networks.ema import Ema, Network

Rule = Literal["average", "snapshot", "best"]


class Reviewer(Ema[Network]):
    """A memory of a network's weights and batch norm statistics, by one of three rules; called like the network.

    "average" follows it by exponential averaging with `decay` (EMAN), "snapshot" is the network as it was at the end
    of the last whole period, the `share` of the run (SSPCM, CVPR 2023), "best" as it was when validation found it best.
    Until a snapshot or a best one was taken it is the network's random start, and `ready` is 0.
    All of its state is in the state_dict: what is due depends on the number of the update alone.
    """

    def __init__(self, network: Network, rule: Rule, decay: float | None = None, share: float = 0.05) -> None:
        # A decay of 0 makes every update of it a plain copy.
        super().__init__(network, decay if rule == "average" else 0.0)
        self.rule, self.share, self.period = rule, share, 1

    def prepare(self, updates: int) -> None:
        """Told the length of the run: set the period from it, and a decay that was not given."""
        super().prepare(updates)
        self.period = max(1, round(self.share * updates))

    @property
    def ready(self) -> Tensor:
        """1.0 on the device once it has followed its network, else 0.0."""
        return self.updates.clamp_max(1).float()

    @torch.no_grad()
    def review(self, network: nn.Module, update: int, gate: Tensor | None = None) -> None:
        """After `update` (from 0) of the run and after `network` itself has moved: follow it, if that is due.

        Where `gate` is 0 on the device nothing changes; a snapshot then waits for the end of the next period.
        """
        if self.rule == "average" or (self.rule == "snapshot" and (update + 1) % self.period == 0):
            self.update(network, gate)

    def found_best(self, network: nn.Module) -> None:
        """Told that `network` is now the best it has been on validation."""
        if self.rule == "best":
            self.update(network)
