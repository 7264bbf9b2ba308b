"""Random numbers keyed by (seed, update, stream, name).

There is no state to save, and the numbers are the same on any number of processes.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def generator(*key: int | str) -> torch.Generator:
    """Make a CPU generator that depends on `key` alone."""
    # Python's own hash() is salted per process; a seed made by adding would give neighbors the same stream.
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") & (2**63 - 1))


@dataclass(frozen=True)
class RandomKey:
    """Random numbers for one stream of one update: rows `start` to `start + count` of a global batch of `total`.

    Numbers are drawn on the host for the global batch and sliced, so two processes get the same as one. They stay on
    the host until `to_device`: for so few numbers, arithmetic there is cheaper than kernel launches.
    """

    seed: int
    update: int
    stream: str
    count: int
    total: int
    start: int = 0
    device: torch.device | str = "cpu"

    def uniform(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Draw (count, *shape) uniform numbers in 0..1."""
        return self._local(self.shared(name, self.total, *shape))

    def normal(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Draw (count, *shape) normal numbers of mean 0 and standard deviation 1."""
        return self._local(_as_numpy(torch.randn(self.total, *shape, generator=self._generator(name))))

    def shared(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Draw uniform numbers in 0..1 of `shape` for the whole batch, the same in all its parts and processes."""
        return _as_numpy(torch.rand(shape, generator=self._generator(name)))

    def beta(self, name: str, alpha: float) -> Tensor:
        """Draw (count,) numbers in 0..1 from Beta(alpha, alpha), by its inverse distribution function."""
        from scipy.special import betaincinv  # slow to load, and few methods mix

        return self.to_device(betaincinv(alpha, alpha, self.uniform(name)).astype(np.float32))

    def to_device(self, values: NDArray[Any]) -> Tensor:
        """Copy an array computed from the host's numbers to the device."""
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seed, self.update, self.stream, name)

    def _local(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values[self.start : self.start + self.count]


def _as_numpy(values: Tensor) -> NDArray[np.float32]:
    """View a tensor as an array, without the detour through autograd that `Tensor.numpy` takes."""
    numbers: NDArray[np.float32] = np.from_dlpack(values)  # type: ignore[assignment]
    return numbers
