"""Curves of a run as standalone SVG pictures, for the model card.

An SVG is text: it needs no plotting library, stays sharp, and the Hub shows it like any picture of a repository. Colours
are fixed on a white ground because the page around the picture is not ours. Long runs are smoothed, and the title says so.
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medgrpo.training.curves import Metrics, Numbers, contributions, running_mean, thin

COLOURS = ("#0f766e", "#b45309", "#4f46e5", "#be123c", "#4d7c0f", "#0369a1", "#7e22ce", "#57534e")
DASHES = ("", "6 3", "2 3", "9 3 2 3")
"""Lines differ by dash as well as by colour, for readers who don't see the colours."""
WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 44, 66
SMOOTH = 200
"""From this many steps on, a point is the mean over the last hundredth of the run."""


@dataclass(frozen=True)
class Line:
    """A name with its steps and values, shape (n,) each; NaN is no point.

    `style` picks colour and dash, so that the same thing looks the same in every picture.
    """

    name: str
    steps: Numbers
    values: Numbers
    style: int = 0


def run_pictures(metrics: Metrics, weights: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """The pictures of a run: file name -> (title, SVG). What the run never logged is left out.

    Args:
        weights: reward name -> weight; empty for supervised fine-tuning.
    """
    column = metrics.column
    wanted: dict[str, tuple[str, dict[str, Numbers]]] = {
        "reward.svg": (
            "Reward: total and weighted parts",
            {"total": column("reward"), **contributions(metrics, weights)},
        ),
        "rewards.svg": ("Mean of each reward, unweighted", {name: column(f"rewards/{name}/mean") for name in weights}),
        "groups.svg": (
            "Groups without spread, completions cut off",
            {
                "groups without spread": column("frac_reward_zero_std"),
                "completions cut off": column("completions/clipped_ratio"),
            },
        ),
        "length.svg": (
            "Tokens of a completion",
            {"mean": column("completions/mean_length"), "longest": column("completions/max_length")},
        ),
        "entropy.svg": ("Entropy of the policy", {"entropy": column("entropy")}),
        "loss.svg": ("Loss", {} if weights else {"loss": column("loss")}),
    }
    styles = ["total", *weights]
    width = len(metrics) // 100 if len(metrics) >= SMOOTH else 1
    drawn = {}
    for file, (title, named) in wanted.items():
        title += f" (mean over {width} steps)" if width > 1 else ""
        lines = [
            Line(name, metrics.steps, running_mean(values, width), styles.index(name) if name in styles else place)
            for place, (name, values) in enumerate(named.items())
            if not np.isnan(values).all()
        ]
        if lines:
            drawn[file] = (title, line_chart(title, lines, percent=file == "groups.svg"))
    return drawn


def line_chart(title: str, lines: Sequence[Line], percent: bool = False) -> str:
    """An SVG of lines over steps with axes, ticks, legend and a title that screen readers find."""
    kept = [(line, thin(line.values)) for line in lines]
    shown = [Line(line.name, line.steps[places], line.values[places], line.style) for line, places in kept]
    xs = [float(step) for line in shown for step in line.steps] or [0.0]
    ys = [float(value) for line in shown for value in line.values] or [0.0]
    ticks = nice_ticks(0.0 if percent else min(ys), 1.0 if percent else max(ys))
    low, high, first, last = ticks[0], ticks[-1], min(xs), max(xs)

    def x(step: float) -> float:
        return LEFT + (step - first) / ((last - first) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="13" fill="#1b242c">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600">{html.escape(title)}</text>',
    ]
    for tick in ticks:
        at, label = y(tick), f"{tick:.0%}" if percent else f"{tick:g}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dde2e6"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#56636e">{label}</text>')
    for tick in (tick for tick in nice_ticks(first, last) if first <= tick <= last):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#56636e">{tick:g}</text>'
        )
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 34}" text-anchor="end" fill="#56636e">step</text>')
    return "\n".join([*parts, *(_drawn(line, x, y) for line in shown), *_legend(shown), "</svg>", ""])


def _drawn(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The line; a point alone becomes a dot."""
    points = [f"{x(step):.1f},{y(value):.1f}" for step, value in zip(line.steps, line.values, strict=True)]
    if len(points) == 1:
        across, _, down = points[0].partition(",")
        return f'<circle cx="{across}" cy="{down}" r="3" fill="{COLOURS[line.style % len(COLOURS)]}"/>'
    return f'<polyline fill="none" {_stroke(line.style)} points="{" ".join(points)}"/>'


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, at = [], float(LEFT)
    for line in lines:
        parts.append(
            f'<line x1="{at:.0f}" x2="{at + 22:.0f}" y1="{HEIGHT - 16}" y2="{HEIGHT - 16}" {_stroke(line.style)}/>'
        )
        parts.append(f'<text x="{at + 28:.0f}" y="{HEIGHT - 12}">{html.escape(line.name)}</text>')
        at += 46 + 7.2 * len(line.name)
    return parts


def _stroke(style: int) -> str:
    colour, dash = COLOURS[style % len(COLOURS)], DASHES[style % len(DASHES)]
    return f'stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low to high."""
    if high <= low:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(count * step, 12) for count in range(first, last + 1)]
