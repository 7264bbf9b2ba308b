"""95 % intervals by bootstrap over images: people of one image are drawn or left out together."""

from collections.abc import Callable, Iterator

import numpy as np

from semipose.errors import UsageError
from semipose.metrics.pck import Floats

# Numbers held at once while resampling (8 bytes each, a handful of such arrays).
BLOCK = 2_000_000

Interval = tuple[float, float]


def bootstrap(
    estimate: Callable[[Floats], dict[str, Floats]], images: int, *, resamples: int, seed: int, width: int
) -> dict[str, Interval]:
    """95 % percentile interval of every value that `estimate` gives for weights (R, `images`).

    A resample in which a value cannot be measured (NaN) does not count for it; a value never measured is
    absent.
    """
    blocks = [estimate(weights) for weights in draws(images, resamples=resamples, seed=seed, width=width)]
    spans = {}
    for name in blocks[0]:
        samples = np.concatenate([block[name] for block in blocks])
        samples = samples[~np.isnan(samples)]
        if len(samples):
            low, high = np.percentile(samples, [2.5, 97.5])
            spans[name] = (float(low), float(high))
    return spans


def draws(images: int, *, resamples: int, seed: int, width: int) -> Iterator[Floats]:
    """How often each image is drawn in each resample, in blocks (R, `images`) that keep R x `width` small."""
    if resamples < 1:
        raise UsageError(f"{resamples} resamples, expected at least 1.")
    generator = np.random.default_rng(seed)
    share = np.full(images, 1 / images)
    rows = max(1, BLOCK // width)
    for start in range(0, resamples, rows):
        yield generator.multinomial(images, share, size=min(rows, resamples - start)).astype(np.float64)
