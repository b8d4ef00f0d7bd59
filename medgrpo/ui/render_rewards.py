"""Score sheets and groups as HTML; pure, like `render`, and with the same escaping."""

from collections.abc import Sequence

from medgrpo.rewards import Score, total
from medgrpo.ui.render import escape


def sheet(scores: Sequence[Score]) -> str:
    """One row a reward: bar, value times weight, why; the total below."""
    whole = total(scores)
    rows = "".join(_row(score) for score in scores)
    earning = (score for score in scores if score.name != "length" and score.value is not None)  # length can only cost
    most = sum(score.weight for score in earning if score.weight > 0)
    return (
        f'<div class="sheet"><table><caption class="sr">Score of each reward</caption><tbody>{rows}</tbody>'
        f'<tfoot><tr><th scope="row">Total</th><td class="bar">{_bar(whole, most)}</td>'
        f'<td class="sum"><b>{_number(whole)}</b></td></tr></tfoot></table></div>'
    )


def _row(score: Score) -> str:
    if score.value is None:
        value = '<span class="none">no score</span>'
    else:
        value = f"{score.value:.2f} × {score.weight:g} = <b>{score.value * score.weight:.2f}</b>"
    return (
        f'<tr><th scope="row">{escape(score.name.replace("_", " "))}</th><td class="bar">{_bar(score.value, 1.0)}</td>'
        f'<td class="sum">{value}</td></tr><tr class="why"><td></td><td colspan="2">{escape(score.why)}</td></tr>'
    )


def _bar(value: float | None, most: float) -> str:
    """A bar from 0; negative values are drawn in the warning colour. The number stands beside it."""
    share = 0.0 if value is None or most <= 0 else max(-1.0, min(1.0, value / most))
    kind = " down" if share < 0 else ""
    return (
        f'<span class="track" aria-hidden="true"><span class="fill{kind} w{round(abs(share) * 20) * 5}"></span></span>'
    )


def group(totals: Sequence[float | None], advantages: Sequence[float]) -> str:
    """One row a completion of a group: total, advantage, and what training does with it."""
    if len(totals) < 2:
        return '<p class="teach">Write at least two completions: an advantage compares a completion with its group.</p>'
    widest = max(map(abs, advantages), default=0.0)
    rows = "".join(
        f'<tr><th scope="row">Completion {number}</th><td class="sum">{_number(whole)}</td>'
        f'<td class="both"><div>{_both_ways(advantage, widest)}</div></td><td class="sum"><b>{_signed(advantage)}</b></td>'
        f'<td class="fate">{_fate(advantage)}</td></tr>'
        for number, (whole, advantage) in enumerate(zip(totals, advantages, strict=True), 1)
    )
    return (
        '<div class="sheet group"><table><thead><tr><td></td><th scope="col" class="sum">Total</th>'
        '<td class="both"></td><th scope="col" class="sum">Advantage</th><th scope="col">Training makes it</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{_moral(totals, advantages)}</div>"
    )


def _number(total: float | None) -> str:
    return "no score" if total is None else f"{total:.2f}"


def _signed(advantage: float) -> str:
    return f"{advantage:+.2f}".replace("-", "−")


def _both_ways(advantage: float, widest: float) -> str:
    share = round(min(1.0, abs(advantage) / widest) * 20) * 5 if widest else 0
    left = f'<span class="fill down w{share if advantage < 0 else 0}"></span>'
    right = f'<span class="fill w{share if advantage > 0 else 0}"></span>'
    first = f'<span class="track left" aria-hidden="true">{left}</span>'
    return first + f'<span class="track" aria-hidden="true">{right}</span>'


def _fate(advantage: float) -> str:
    if abs(advantage) < 0.005:
        return '<span class="chip"><i aria-hidden="true">–</i> unchanged</span>'
    if advantage > 0:
        return '<span class="chip chip-ok"><i aria-hidden="true">▲</i> more likely</span>'
    return '<span class="chip chip-repaired"><i aria-hidden="true">▼</i> less likely</span>'


def _moral(totals: Sequence[float | None], advantages: Sequence[float]) -> str:
    known = [value for value in totals if value is not None]
    if len(known) < 2:
        return "<p>Fewer than two completions can be judged, so nothing is learned from this group.</p>"
    if all(abs(advantage) < 0.005 for advantage in advantages):
        return "<p>All completions earn the same, so nothing is learned from this group.</p>"
    mean = sum(known) / len(known)
    return (
        f"<p>Mean of the group {mean:.2f}. The advantage is (total − mean) / (standard deviation + 0.0001), "
        "computed by the function the trainer uses.</p>"
    )
