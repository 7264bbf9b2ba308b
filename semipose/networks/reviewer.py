"""The reviewer of Teacher-Reviewer-Student: a frozen network that keeps another network's earlier weights."""

from typing import Literal

import torch
from torch import Tensor, nn

from semipose.networks.ema import Ema, Network

Rule = Literal["average", "snapshot", "best"]


class Reviewer(Ema[Network]):
    """Keep a network's weights and batch norm statistics by one of three rules; called like the network.

    - "average": exponential moving average with `decay` (EMAN).
    - "snapshot": the network at the end of the last whole period, a `share` of the run (SSPCM, CVPR 2023).
    - "best": the network when it was best on validation.

    Until the first copy it holds the network's random start, and `ready` is 0. All of its state is in the state_dict:
    whether a copy is due depends on the number of the update alone.
    """

    def __init__(self, network: Network, rule: Rule, decay: float | None = None, share: float = 0.05) -> None:
        # A decay of 0 makes every update of it a plain copy.
        super().__init__(network, decay if rule == "average" else 0.0)
        self.rule, self.share, self.period = rule, share, 1

    def prepare(self, updates: int) -> None:
        """Set the period, and a decay that was not given, from the length of the run."""
        super().prepare(updates)
        self.period = max(1, round(self.share * updates))

    @property
    def ready(self) -> Tensor:
        """1.0 on the device once it has followed its network, else 0.0."""
        return self.updates.clamp_max(1).float()

    @torch.no_grad()
    def review(self, network: nn.Module, update: int, gate: Tensor | None = None) -> None:
        """Follow `network` if that is due after `update` (from 0) of the run; call it after `network` has moved.

        Where `gate` is 0 on the device nothing changes; a snapshot then waits for the end of the next period.
        """
        if self.rule == "average" or (self.rule == "snapshot" and (update + 1) % self.period == 0):
            self.update(network, gate)

    def found_best(self, network: nn.Module) -> None:
        """Copy `network`, which is now the best on validation, if the rule is "best"."""
        if self.rule == "best":
            self.update(network)
