"""Choose the rows of each batch."""

import numpy as np
from numpy.typing import NDArray


class Sampler:
    """Chooses the rows of a stream for each update, from (seed, stream, update) alone.

    It has no state to save, so runs resume exactly. Each epoch is one pass in a new order; a batch that an epoch cannot
    fill continues with the next epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, stream: str) -> None:
        self.count, self.batch_size = count, batch_size
        self._key = [seed, *stream.encode()]
        self._orders: dict[int, NDArray[np.int64]] = {}

    def rows(self, update: int) -> NDArray[np.int64]:
        """Return (batch_size,) the rows of the global batch of this update."""
        positions = np.arange(update * self.batch_size, (update + 1) * self.batch_size)
        epochs = positions // self.count
        return np.concatenate(
            [self._order(int(epoch))[positions[epochs == epoch] % self.count] for epoch in np.unique(epochs)]
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            for old in [past for past in self._orders if past < epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = np.random.default_rng([*self._key, epoch]).permutation(self.count)
        return self._orders[epoch]
