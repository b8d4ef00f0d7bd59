"""Charts are drawn from their values, hold their extremes, and never let a text become markup."""

import re

import numpy as np
import pytest

from medgrpo.training.curves import POINTS
from medgrpo.ui.charts import HIGH, WIDE, Frame, Limit, Line, lines, number, scale

XS = np.arange(1.0, 11.0)


def paths(shown: str, kind: str) -> list[list[tuple[int, int]]]:
    """Points of each path of a class."""
    found = re.findall(rf'<path class="{kind}[^"]*"[^>]* d="([^"]+)"', shown)
    return [[(int(x), int(y)) for x, y in re.findall(r"(-?\d+) (-?\d+)", path)] for path in found]


def test_a_line_runs_from_corner_to_corner() -> None:
    shown = lines(Frame("Reward", low=0.0, high=1.0), [Line("reward", XS, np.linspace(0, 1, 10))])
    ((*points,),) = paths(shown, "line")
    assert points[0] == (0, HIGH)
    assert points[-1] == (WIDE, 0)
    assert 'data-name="reward"' in shown
    assert ">1</b>" in shown  # the latest value beside the title


def test_planned_steps_leave_room_on_the_right() -> None:
    shown = lines(Frame("Reward", last=19.0), [Line("reward", XS, np.linspace(0, 1, 10))])
    assert paths(shown, "line")[0][-1][0] == WIDE / 2
    assert "step 19" in shown


def test_bands_stack_and_negative_ones_hang_below_zero() -> None:
    bands = [Line("a", XS, np.full(10, 1.0)), Line("b", XS, np.full(10, 2.0)), Line("cost", XS, np.full(10, -1.0))]
    shown = lines(Frame("Reward"), [], (), bands)
    low, high, _ = scale(-1.0, 3.0)

    def value(y: int) -> float:
        return high - y / HIGH * (high - low)

    edges = []
    for points in paths(shown, "band"):
        half = len(points) // 2
        assert points[:half] == [(x, points[0][1]) for x, _ in points[:half]]
        assert [x for x, _ in points[half:]] == [x for x, _ in points[:half]][::-1]
        edges.append((value(points[-1][1]), value(points[0][1])))
    assert edges == [pytest.approx((0, 1), abs=0.01), pytest.approx((1, 3), abs=0.01), pytest.approx((-1, 0), abs=0.01)]


def test_a_band_that_changes_its_sign_moves_to_the_other_side() -> None:
    values = np.array([1.0, -1.0])
    shown = lines(Frame("Reward"), [], (), [Line("a", XS[:2], np.ones(2)), Line("b", XS[:2], values)])
    (first, second), (top, bottom) = paths(shown, "band")[1][:2], paths(shown, "band")[1][2:][::-1]
    low, high, _ = scale(-1.0, 2.0)
    heights = [round(high - y / HIGH * (high - low)) for _, y in (first, second, top, bottom)]
    assert heights == [2, 0, 1, -1]


def test_a_long_run_is_thinned_and_keeps_its_spike() -> None:
    values = np.random.default_rng(0).normal(0, 0.01, 20_000)
    values[13_337] = 5.0
    shown = lines(Frame("Reward"), [Line("reward", np.arange(20_000.0), values)])
    (points,) = paths(shown, "line")
    assert len(points) <= POINTS
    low, high, _ = scale(float(values.min()), 5.0)
    assert high - min(y for _, y in points) / HIGH * (high - low) == pytest.approx(5.0, abs=0.01)
    assert len(shown) < 10_000


def test_gaps_and_lone_values_are_drawn() -> None:
    nan = float("nan")
    shown = lines(Frame("KL"), [Line("kl", XS[:3], np.array([nan, 0.2, nan]))])
    assert len(paths(shown, "line")[0]) == 2  # a dot
    assert "Nothing logged yet" in lines(Frame("KL"), [Line("kl", XS, np.full(10, nan))])
    assert "Nothing logged yet" in lines(Frame("KL"), [])
    assert "Nothing logged yet" in lines(Frame("KL"), [Line("kl", np.empty(0), np.empty(0))])


def test_a_limit_far_above_does_not_flatten_the_curve() -> None:
    values = Line("length", XS, np.linspace(100, 110, 10))
    assert '<path class="limit"' not in lines(Frame("Length"), [values], [Limit("limit 4096", 4096.0)])
    near = lines(Frame("Length", low=0.0), [values], [Limit("limit 128", 128.0)])
    assert '<path class="limit"' in near
    assert "limit 128" in near


def test_every_text_is_escaped() -> None:
    bad = '<img src=x onerror=1>"'
    shown = lines(Frame(bad, bad, shown=bad, big=True), [Line(bad, XS, XS)], [Limit(bad, 5.0)])
    assert "<img" not in shown
    assert 'onerror=1>"' not in shown


def test_a_reader_hears_first_and_latest() -> None:
    shown = lines(Frame("Groups without spread", unit="%"), [Line("share", XS, np.linspace(0.1, 0.7, 10))])
    assert 'aria-label="Groups without spread. share: 10 % at first, 70 % now."' in shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "", "0"), (0.12345, "", "0.123"), (1234.5, "", "1,234"), (-0.5, "", "−0.5"), (2e-4, "", "2.0e−4"),
        (0.7, "%", "70 %"), (0.016, "%", "1.6 %"), (0.0, "%", "0 %"), (137.2, "tokens", "137 tokens"),
        (float("nan"), "", "–"), (float("inf"), "%", "–"), (1e9, "", "1.0e9"),
    ],
)  # fmt: skip
def test_numbers_read_well(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-0.02, 0.13), (119.7, 120.3), (5, 5), (0, 0), (-3, -3), (0, 2e-4), (0, 9e7)]
)
def test_a_scale_holds_its_values_on_round_numbers(low: float, high: float) -> None:
    bottom, top, ticks = scale(low, high)
    assert bottom <= low + 1e-9
    assert top >= high - 1e-9
    assert top > bottom
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == bottom
    assert ticks[-1] == pytest.approx(top)
