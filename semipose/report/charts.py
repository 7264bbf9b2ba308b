"""Curves in, SVG out: a few kilobytes each, crisp at any size, colored by the page's style sheet.

Charts are `Markup`, so that templates put them in as they are; names are escaped here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

Point = tuple[float, float]

# In units of the view box. The page scales it to its column, so that text stays about as large as the page's.
WIDTH, HEIGHT = 440, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 30
LANE_LEFT, LANE_HEIGHT = 116, 20
MIN_SMOOTHED = 25  # with fewer points each one matters
MAX_POINTS = 400  # more points than pixels only make the file large


@dataclass(frozen=True)
class Curve:
    """One line through `points` (x, y), in order of x.

    `tone` is its color (0..7). A `faint` curve lies behind the others and is not in the legend.
    """

    name: str
    points: Sequence[Point]
    tone: int
    dashed: bool = False
    faint: bool = False
    dots: bool = False


def chart(title: str, curves: Sequence[Curve], *, unit: str = "", log: bool = False, note: str = "") -> Markup:
    """Draw `curves` over the updates as a titled figure, empty without points. `log` makes y logarithmic."""
    curves = [_thinned(curve, log) for curve in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup()
    frame = _Frame.around([point for curve in curves for point in curve.points], log)
    drawn = "".join(_line(curve, frame, unit) for curve in sorted(curves, key=lambda curve: not curve.faint))
    caption = f'<p class="small">{escape(note)}</p>' if note else ""
    return _figure(title, curves, (WIDTH, HEIGHT), frame.axes() + drawn, caption)


def lanes(title: str, names: Sequence[str], curves: Sequence[Curve]) -> Markup:
    """Draw a titled figure with one lane for each of `names`, top down; points are (value, number of the lane)."""
    values = [value for curve in curves for value, _ in curve.points]
    if not values:
        return Markup()
    margin = 0.04 * (max(values) - min(values)) or 1.0
    axis = _LaneAxis(min(values) - margin, max(values) + margin)
    bottom = TOP + LANE_HEIGHT * len(names)
    grid = [_lane(axis, name, lane) for lane, name in enumerate(names)]
    for value in ticks(axis.low, axis.high):
        grid.append(
            f'<path class="grid" d="M{axis.x(value):.1f} {TOP}V{bottom}"/>'
            f'<text class="x" x="{axis.x(value):.1f}" y="{bottom + 18}">{_short(value)}</text>'
        )
    marks = [_lane_mark(axis, curve, value, lane) for curve in curves for value, lane in curve.points]
    return _figure(title, curves, (axis.width, bottom + BOTTOM), "".join(grid + marks))


@dataclass(frozen=True)
class _LaneAxis:
    """Horizontal axis of `lanes`, from `low` to `high`."""

    low: float
    high: float
    width: int = 2 * WIDTH

    def x(self, value: float) -> float:
        """Horizontal position of `value`."""
        return LANE_LEFT + (value - self.low) / (self.high - self.low) * (self.width - LANE_LEFT - RIGHT)


def _lane_y(lane: float) -> float:
    return TOP + LANE_HEIGHT * (lane + 0.5)


def _lane(axis: _LaneAxis, name: str, lane: int) -> str:
    y = _lane_y(lane)
    return (
        f'<path class="grid" d="M{LANE_LEFT} {y}H{axis.width - RIGHT}"/>'
        f'<text class="y" x="{LANE_LEFT - 8}" y="{y + 4}">{escape(name)}</text>'
    )


def _lane_mark(axis: _LaneAxis, curve: Curve, value: float, lane: float) -> str:
    """A square for dashed curves, a circle for others, with its value as tooltip."""
    x, y = axis.x(value), _lane_y(lane)
    title = f"<title>{escape(curve.name)}: {value:.1f}</title>"
    if curve.dashed:
        return f'<rect x="{x - 4:.1f}" y="{y - 4}" width="8" height="8" class="dot t{curve.tone}">{title}</rect>'
    return f'<circle cx="{x:.1f}" cy="{y}" r="4.4" class="dot t{curve.tone}">{title}</circle>'


def _figure(title: str, curves: Sequence[Curve], size: tuple[int, int], drawn: str, caption: str = "") -> Markup:
    """Frame the elements `drawn` in a view box of `size` (width, height), with a legend above, a `caption` below."""
    legend = "".join(
        f'<li><svg viewBox="0 0 22 8"><path class="line t{curve.tone}{" dashed" if curve.dashed else ""}" d="M1 4H21"/>'
        f"</svg>{escape(curve.name)}</li>"
        for curve in curves
        if not curve.faint
    )
    return Markup(
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong><ul class="legend">{legend}</ul>'
        f'</figcaption><svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg>{caption}</figure>"
    )


def smoothed(points: Sequence[Point], share: float = 0.08) -> list[Point]:
    """Centered running mean over `share` of the points, over fewer at the ends; few points stay as they are."""
    half = max(1, int(len(points) * share / 2)) if len(points) >= MIN_SMOOTHED else 0
    return [(x, _mean([y for _, y in points[max(0, i - half) : i + half + 1]])) for i, (x, _) in enumerate(points)]


def whisker(value: float, low: float, high: float, axis: float) -> Markup:
    """Draw a difference and its interval as a small mark on an axis from -`axis` to `axis`, with 0 in the middle."""
    tone = "good" if low > 0 else "bad" if high < 0 else "open"

    def x(number: float) -> float:
        return 60 + 56 * max(-1.0, min(1.0, number / axis))

    return Markup(
        f'<svg class="whisker {tone}" viewBox="0 0 120 14" aria-hidden="true"><path class="zero" d="M60 0V14"/>'
        f'<path class="span" d="M{x(low):.1f} 7H{x(high):.1f}"/><circle cx="{x(value):.1f}" cy="7" r="3.5"/></svg>'
    )


def ticks(low: float, high: float, max_ticks: int = 6) -> list[float]:
    """About `max_ticks` round numbers between `low` and `high`, which are included where they are round."""
    rough = (high - low) / max(1, max_ticks - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Frame:
    """Plotted range; y is log10 of the values where `log`."""

    x: Point
    y: Point
    log: bool

    @classmethod
    def around(cls, points: Sequence[Point], log: bool) -> "_Frame":
        xs = [x for x, _ in points]
        ys = [math.log10(y) if log else y for _, y in points]
        low, high = min(ys), max(ys)
        # A flat line still needs a height, and a small margin keeps lines off the frame.
        margin = max((high - low) * 0.06, abs(high) * 1e-3, 1e-9)
        low = 0.0 if not log and 0 <= low < 0.3 * high else low - margin
        return cls((min(0.0, *xs), max(*xs, 1.0)), (low, high + margin), log)

    def at(self, point: Point) -> Point:
        """Position of (x, y) in the view box."""
        x, y = point
        height = math.log10(y) if self.log else y
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (height - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> str:
        """Grid lines with their numbers."""
        parts = []
        for value, label in self._levels():
            y = self.at((0, value))[1]
            parts.append(
                f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{label}</text>'
            )
        bottom = HEIGHT - BOTTOM
        for value in ticks(*self.x):
            x = LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
            parts.append(
                f'<path class="grid" d="M{x:.1f} {bottom}v4"/>'
                f'<text class="x" x="{x:.1f}" y="{bottom + 18}">{_short(value)}</text>'
            )
        return "".join(parts)

    def _levels(self) -> list[tuple[float, str]]:
        if not self.log:
            return [(value, _short(value)) for value in ticks(*self.y)]
        powers = range(math.floor(self.y[0]), math.ceil(self.y[1]) + 1)
        steps = (1, 2, 5) if self.y[1] - self.y[0] < 2.5 else (1,)
        values = [step * 10.0**power for power in powers for step in steps]
        return [(value, _short(value)) for value in values if self.y[0] <= math.log10(value) <= self.y[1]]


def _thinned(curve: Curve, log: bool) -> Curve:
    """The curve with about `MAX_POINTS` points at most, without those that cannot be drawn (NaN; 0 on a log axis)."""
    good = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log)]
    step = max(1, -(-len(good) // MAX_POINTS))
    kept = good[::step] + (good[-1:] if good and (len(good) - 1) % step else [])
    return replace(curve, points=kept)


def _line(curve: Curve, frame: _Frame, unit: str) -> str:
    positions = [frame.at(point) for point in curve.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in positions)
    classes = f"line t{curve.tone}{' dashed' if curve.dashed else ''}{' faint' if curve.faint else ''}"
    drawn = f'<path class="{classes}" d="{path}"/>'
    if not (curve.dots or len(positions) == 1):
        return drawn
    marks = "".join(
        f'<circle class="dot t{curve.tone}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>'
        f"{escape(curve.name)}: {value:.4g}{escape(unit)} at update {update:.0f}</title></circle>"
        for (x, y), (update, value) in zip(positions, curve.points, strict=True)
    )
    return drawn + marks


def _short(value: float) -> str:
    """A tick's number in few characters: 1500 -> 1500, 20000 -> 20k, 0.00002 -> 2e-5."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{round(value, 10):g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
