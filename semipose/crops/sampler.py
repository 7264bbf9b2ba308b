"""Which people are in the batch of an update."""

import numpy as np
from numpy.typing import NDArray


class Sampler:
    """Rows of a stream for each update, a function of (seed, stream, update) alone: nothing to save, exact resume.

    Each epoch is one pass in a new order; a batch that an epoch cannot fill goes on into the next.
    """

    def __init__(self, count: int, batch_size: int, seed: int, stream: str) -> None:
        self.count, self.batch_size = count, batch_size
        self._key = [seed, *stream.encode()]
        self._orders: dict[int, NDArray[np.int64]] = {}

    def rows(self, update: int) -> NDArray[np.int64]:
        """(batch_size,) rows of the global batch of this update."""
        places = np.arange(update * self.batch_size, (update + 1) * self.batch_size)
        epochs = places // self.count
        return np.concatenate(
            [self._order(int(epoch))[places[epochs == epoch] % self.count] for epoch in np.unique(epochs)]
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            for old in [known for known in self._orders if known < epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = np.random.default_rng([*self._key, epoch]).permutation(self.count)
        return self._orders[epoch]
