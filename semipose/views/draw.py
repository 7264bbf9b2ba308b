"""Random numbers that depend only on (seed, update, stream, name): nothing to save, the same on any number of
processes."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose numbers are a function of `key` alone."""
    # Python's own hash() is salted per process; a seed made by adding would give neighbors the same stream.
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") & (2**63 - 1))


@dataclass(frozen=True)
class Draw:
    """Draws for one stream of one update: rows `start` to `start + count` of a global batch of `total` samples.

    Numbers are drawn on the CPU for the global batch and sliced, so that two processes get what one would get; they
    are small, so copying them to the device costs less than a generator per process would in exactness.
    """

    seed: int
    update: int
    stream: str
    count: int
    total: int
    start: int = 0
    device: torch.device | str = "cpu"

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(count, *shape) in 0..1."""
        return self._local(torch.rand(self.total, *shape, generator=self._generator(name)))

    def normal(self, name: str, *shape: int) -> Tensor:
        """(count, *shape) of mean 0 and standard deviation 1."""
        return self._local(torch.randn(self.total, *shape, generator=self._generator(name)))

    def shared(self, name: str, *shape: int) -> np.ndarray:
        """`shape` numbers in 0..1 for the batch as a whole, on the host: the same in all its parts and processes."""
        return torch.rand(shape, generator=self._generator(name)).numpy()

    def beta(self, name: str, alpha: float) -> Tensor:
        """(count,) in 0..1 from Beta(alpha, alpha), by its inverse distribution: one number each, none rejected."""
        from scipy.special import betaincinv  # slow to load, and few methods mix

        return self.place(betaincinv(alpha, alpha, self.host.uniform(name).numpy()).astype(np.float32))

    @property
    def host(self) -> "Draw":
        """The same numbers left on the CPU: arithmetic on a few of them is cheaper there than its launches."""
        return replace(self, device="cpu")

    def place(self, values: np.ndarray) -> Tensor:
        """What was computed from the host's numbers, on the device."""
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seed, self.update, self.stream, name)

    def _local(self, values: Tensor) -> Tensor:
        if self.count < self.total:
            values = values[self.start : self.start + self.count]
        return values.to(self.device, non_blocking=True)
