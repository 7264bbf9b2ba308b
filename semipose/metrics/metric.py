"""Properties of a metric that its name decides: direction, unit and digits."""

import math
from collections.abc import Mapping

LOWER_IS_BETTER = frozenset({"pixel_error"})
IN_PIXELS = frozenset({"pixel_error"})
# Shown beside the metric that chooses the checkpoint.
COMMON_METRICS = ("pck@0.1", "pck@0.2", "oks_ap", "pixel_error")


def sign(metric: str) -> int:
    """Return 1 where higher values of `metric` are better, -1 where lower ones are."""
    return -1 if metric in LOWER_IS_BETTER else 1


def rank(values: Mapping[str, float], metric: str) -> float:
    """Number that is higher for better `values` of `metric`; -inf where the metric was not measured."""
    return sign(metric) * values[metric] if metric in values else -math.inf


def unit(metric: str) -> str:
    """Unit of a difference in `metric`: "px" or "points" (percentage points)."""
    return "px" if metric in IN_PIXELS else "points"


def digits(metric: str) -> int:
    """Decimal places worth printing."""
    return 2 if metric in IN_PIXELS else 1
