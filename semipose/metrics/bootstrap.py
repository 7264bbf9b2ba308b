"""95 % intervals by bootstrap over images, so that the people of an image stay together."""

from collections.abc import Callable, Iterator

import numpy as np

from semipose.errors import UsageError
from semipose.metrics.pck import Floats

# Limit of an array made while resampling: 2 million numbers of 8 bytes, in a handful of such arrays.
NUMBERS_PER_BLOCK = 2_000_000

Interval = tuple[float, float]


def bootstrap(
    estimate: Callable[[Floats], dict[str, Floats]], images: int, *, resamples: int, seed: int, width: int
) -> dict[str, Interval]:
    """Return the 95 % percentile interval of every value that `estimate` computes from weights (R, `images`).

    Resamples in which a value is NaN are left out for that value; a value that is always NaN is absent.
    """
    blocks = [estimate(weights) for weights in resample_weights(images, resamples=resamples, seed=seed, width=width)]
    spans = {}
    for name in blocks[0]:
        samples = np.concatenate([block[name] for block in blocks])
        samples = samples[~np.isnan(samples)]
        if len(samples):
            low, high = np.percentile(samples, [2.5, 97.5])
            spans[name] = (float(low), float(high))
    return spans


def resample_weights(images: int, *, resamples: int, seed: int, width: int) -> Iterator[Floats]:
    """Yield each image's count in each resample, in blocks (R, `images`) that keep R x `width` small."""
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}; expected at least 1.")
    generator = np.random.default_rng(seed)
    share = np.full(images, 1 / images)
    rows = max(1, NUMBERS_PER_BLOCK // width)
    for start in range(0, resamples, rows):
        yield generator.multinomial(images, share, size=min(rows, resamples - start)).astype(np.float64)
