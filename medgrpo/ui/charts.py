"""Charts as inline SVG with their words in HTML; pure, no script, no colour alone.

The drawing stretches to any width and the words don't, so a chart reads the same on a phone and in a talk. A line is
told apart by colour, dash and a name in the legend; `page.js` reads values back from the paths when a pointer or a
finger moves over a chart, so nothing is sent twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgrpo.training.curves import Numbers, thin
from medgrpo.ui.render import escape

WIDE, HIGH = 2000, 1000
"""The drawing's own grid; whole numbers in it keep paths short."""
ROOM = 0.07
"""Share of the chart's height from which a band carries its name."""
KINDS = 9
"""Colours and dashes in style.css: s0 to s8."""


@dataclass(frozen=True)
class Line:
    """One curve: `ys[i]` at step `xs[i]`; NaN leaves a gap out. `kind` is its colour and dash, 0 to 8."""

    name: str
    xs: Numbers
    ys: Numbers
    kind: int = 0
    quiet: bool = False
    """Drawn thin and without a place in the legend, such as raw values behind their running mean."""


@dataclass(frozen=True)
class Limit:
    """A level to compare with, drawn dashed across the chart."""

    name: str
    value: float


@dataclass(frozen=True)
class Frame:
    """How a chart is framed.

    Attributes:
        title: above it; `why` explains it to who asks.
        unit: behind the values; "%" shows shares as per cent.
        last: step at the right edge, such as the planned last one; 0 takes the data's.
        low, high: the least range of values that is shown.
        big: the tall chart.
        shown: what stands beside the title; "" takes the latest value of a single line.
    """

    title: str
    why: str = ""
    unit: str = ""
    last: float = 0.0
    low: float | None = None
    high: float | None = None
    big: bool = False
    shown: str = ""


def lines(frame: Frame, curves: Sequence[Line], limits: Sequence[Limit] = (), bands: Sequence[Line] = ()) -> str:
    """A line chart; `bands` are stacked under the lines, positive ones upwards from 0 and negative ones downwards."""
    drawn = [line for line in curves if len(line.xs) and not bool(np.isnan(line.ys).all())]
    stacked = _stack(bands)
    if not drawn and not stacked:
        return _figure(frame, '<p class="teach">Nothing logged yet.</p>', [], "")
    first, last = _steps(frame, [*drawn, *bands])
    heights = [line.ys for line in drawn] + [edge for _, low, top in stacked for edge in (low, top)]
    low, high, ticks = scale(*_reach(frame, heights, limits))
    place = _Place(first, last, low, high)
    marks = "".join(_grid(place, ticks)) + "".join(_band(place, band) for band in stacked)
    marks += "".join(_limit(place, limit) for limit in limits if low <= limit.value <= high)
    marks += "".join(_path(place, line) for line in drawn)
    words = _ticks(frame, place, ticks) + "".join(_label(place, band) for band in stacked)
    plot = (
        f'<div class="plot" tabindex="0" role="img" aria-label="{escape(_spoken(frame, drawn, bands))}"'
        f' data-x="{first:g},{last:g}" data-y="{low:.10g},{high:.10g}" data-unit="{escape(frame.unit)}">'
        f'<svg viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" aria-hidden="true">{marks}</svg>{words}'
        '<i class="cross" hidden></i><div class="read" hidden></div></div>'
    )
    named = [line for line in (*bands, *drawn) if line.name and not line.quiet]
    return _figure(frame, plot, named, _latest(frame, drawn, bands), limits)


def number(value: float, unit: str = "") -> str:
    """A value as a person reads it: shares as per cent, three digits that count, the unit behind."""
    if not math.isfinite(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.0f} %" if abs(value) >= 0.1 or value == 0 else f"{100 * value:.1f} %"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        text = f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text.replace('-', '−')} {unit}".strip()


def scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range that holds both values, ending on round numbers, and three to six round numbers in it."""
    if high - low < 1e-12:
        low, high = (low - abs(low) * 0.1 - 1e-9, high + abs(high) * 0.1 + 1e-9) if low else (0.0, 1.0)
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= raw * 0.999)
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return bottom, top, [bottom + i * step for i in range(round((top - bottom) / step) + 1)]


@dataclass(frozen=True)
class _Place:
    first: float
    last: float
    low: float
    high: float

    def x(self, steps: Numbers) -> Numbers:
        return np.rint((steps - self.first) / max(1e-9, self.last - self.first) * WIDE)

    def y(self, values: Numbers) -> Numbers:
        return np.rint((self.high - values) / (self.high - self.low) * HIGH)

    def height(self, value: float) -> float:
        """Per cent from the top."""
        return 100 * (self.high - value) / (self.high - self.low)


Band = tuple[Line, Numbers, Numbers]


def _stack(bands: Sequence[Line]) -> list[Band]:
    """Lower and upper edge of each band, all over the same steps: those that keep the extremes of their sum."""
    if not bands or not len(bands[0].xs):
        return []
    index = thin(np.sum([band.ys for band in bands], axis=0))
    up, down = np.zeros(len(index)), np.zeros(len(index))
    made = []
    for band in bands:
        values = band.ys[index]
        low = np.where(values >= 0, up, down + values)
        top = np.where(values >= 0, up + values, down)
        up, down = np.where(values >= 0, top, up), np.where(values >= 0, down, low)
        made.append((Line(band.name, band.xs[index], values, band.kind), low, top))
    return made


def _steps(frame: Frame, drawn: Sequence[Line]) -> tuple[float, float]:
    first = min(float(line.xs[0]) for line in drawn if len(line.xs))
    last = max(frame.last, *(float(line.xs[-1]) for line in drawn if len(line.xs)))
    return first, max(last, first + 1)


def _reach(frame: Frame, heights: Sequence[Numbers], limits: Sequence[Limit]) -> tuple[float, float]:
    low = min(float(np.nanmin(values)) for values in heights if len(values))
    high = max(float(np.nanmax(values)) for values in heights if len(values))
    near = [limit.value for limit in limits if low - (high - low) <= limit.value <= max(high * 1.6, high + high - low)]
    low, high = min([low, *near]), max([high, *near])
    low = low if frame.low is None else min(low, frame.low)
    return low, high if frame.high is None else max(high, frame.high)


def _grid(place: _Place, ticks: Sequence[float]) -> list[str]:
    at = place.y(np.array(ticks))
    return [
        f'<path class="{"zero" if abs(tick) < 1e-12 else "grid"}" d="M0 {y:.0f}H{WIDE}"/>'
        for tick, y in zip(ticks, at, strict=True)
    ]


def _points(place: _Place, xs: Numbers, ys: Numbers) -> str:
    return "L".join(map("{} {}".format, place.x(xs).astype(int).tolist(), place.y(ys).astype(int).tolist()))


def _path(place: _Place, line: Line) -> str:
    index = thin(line.ys)
    points = _points(place, line.xs[index], line.ys[index])
    if len(index) == 1:
        points += f"L{points}"  # a lone value becomes a dot through the round cap
    return f'<path class="line s{line.kind % KINDS}{" quiet" if line.quiet else ""}"{_name(line)} d="M{points}"/>'


def _band(place: _Place, band: Band) -> str:
    line, low, top = band
    there = _points(place, line.xs, top)
    back = _points(place, line.xs[::-1], low[::-1])
    return f'<path class="band s{line.kind % KINDS}"{_name(line)} d="M{there}L{back}Z"/>'


def _label(place: _Place, band: Band) -> str:
    """The name inside the band, at its left end, if it is high enough there."""
    line, low, top = band
    middle, high = float(low[0] + top[0]) / 2, abs(float(top[0] - low[0]))
    if high / (place.high - place.low) < ROOM:
        return ""
    return f'<span class="tag" style="top:{place.height(middle):.1f}%">{escape(line.name)}</span>'


def _name(line: Line) -> str:
    return "" if line.quiet or not line.name else f' data-name="{escape(line.name)}"'


def _limit(place: _Place, limit: Limit) -> str:
    y = place.y(np.array([limit.value]))[0]
    return f'<path class="limit" d="M0 {y:.0f}H{WIDE}"/>'


def _ticks(frame: Frame, place: _Place, ticks: Sequence[float]) -> str:
    kept = ticks if frame.big or len(ticks) < 4 else ticks[:: 2 if len(ticks) % 2 else len(ticks) - 1]
    unit = frame.unit if frame.unit == "%" else ""
    left = "".join(
        f'<span class="y" style="top:{place.height(tick):.1f}%">{number(_clean(tick), unit)}</span>' for tick in kept
    )
    return f'{left}<span class="x0">{place.first:,.0f}</span><span class="x1">step {place.last:,.0f}</span>'


def _clean(tick: float) -> float:
    return 0.0 if abs(tick) < 1e-12 else float(f"{tick:.6g}")


def _latest(frame: Frame, drawn: Sequence[Line], bands: Sequence[Line]) -> str:
    if frame.shown or bands or not drawn:
        return frame.shown
    known = drawn[-1].ys[~np.isnan(drawn[-1].ys)]
    return number(float(known[-1]), frame.unit)


def _spoken(frame: Frame, drawn: Sequence[Line], bands: Sequence[Line]) -> str:
    """What a screen reader says: each line's first and latest value."""
    parts = []
    for line in (*bands, *(each for each in drawn if each.name and not each.quiet)):
        known = line.ys[~np.isnan(line.ys)]
        if len(known):
            ends = f"{number(float(known[0]), frame.unit)} at first, {number(float(known[-1]), frame.unit)} now"
            parts.append(f"{line.name}: {ends}")
    return f"{frame.title}. {'; '.join(parts)}."


def _figure(frame: Frame, plot: str, named: Sequence[Line], shown: str, limits: Sequence[Limit] = ()) -> str:
    keys = "".join(
        f'<span class="key"><i class="s{line.kind % KINDS}" aria-hidden="true"></i>{escape(line.name)}</span>'
        for line in named
    )
    keys += "".join(
        f'<span class="key"><i class="limit" aria-hidden="true"></i>{escape(limit.name)}</span>' for limit in limits
    )
    legend = f'<div class="legend">{keys}</div>' if len(named) + len(limits) > 1 or frame.big else ""
    value = f"<b>{escape(shown)}</b>" if shown else ""
    return (
        f'<figure class="chart{" big" if frame.big else ""}"><figcaption title="{escape(frame.why)}">'
        f"<span>{escape(frame.title)}</span>{value}</figcaption>{plot}{legend}</figure>"
    )
