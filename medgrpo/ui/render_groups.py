"""Completions of a group side by side, and held-out answers over time, as HTML; pure, with the escaping of `render`."""

from collections.abc import Mapping, Sequence

from medgrpo.answers import Answer
from medgrpo.cases import Case
from medgrpo.engines.base import Sampling
from medgrpo.parsing import parse
from medgrpo.rewards import Score
from medgrpo.training.groups import GONE, WAITING, Completion, Group, same_case, with_reasons
from medgrpo.training.held_out import BeforeAfter, Course, Row, Share, strict
from medgrpo.ui import render, render_rewards
from medgrpo.ui.render import chip, escape
from medgrpo.ui.state import Panel

VERDICTS: dict[bool | None, tuple[str, str, str]] = {
    True: ("●", "right", "ok"),
    False: ("○", "wrong", "error"),
    None: ("–", "not judged", "cut"),
}
WHY: dict[bool | None, str] = {
    True: "Right and well-formed.",
    False: "Wrong, or right in a broken form.",
    None: "The matcher can't judge this answer.",
}
NO_GROUPS = {
    "all": "No completions recorded yet. They come with the first step that the run records.",
    "no spread": "Every group here has spread: its completions earn different totals, so it teaches something.",
    "right but malformed": "No completion here has the right answer in a broken form.",
}


def group(found: Group, completions: Sequence[Completion], case: Case | None, waiting: bool = False) -> str:
    """A whole group: the case, then its completions side by side.

    Args:
        completions: of the group, in the order in which to show them.
        case: the one with the group's case id, if there is one; reasons come from it.
        waiting: the case is still being looked for.
    """
    known = case is not None and same_case(case, found.prompt)
    reference = f"<p><b>Reference:</b> {escape(_reference(case))}</p>" if case and known else ""
    about = (
        "All completions earn the same, so nothing is learned from this group."
        if found.flat
        else f"Mean of the group {found.mean:.2f}; above it a completion becomes more likely, below it less likely."
    )
    cards = "".join(_card(each, found, case, waiting) for each in completions)
    return (
        f'<section class="group-view"><div class="case"><p dir="auto">{escape(found.prompt)}</p>{reference}'
        f'<p class="teach">{escape(found.case_id)} · step {found.step} · {about}</p></div>'
        f'<div class="siblings" role="list" aria-label="Completions of the group">{cards}</div></section>'
    )


def no_group(which: str) -> str:
    """What an empty inspector teaches."""
    return f'<p class="teach">{NO_GROUPS.get(which, NO_GROUPS["all"])}</p>'


def title(found: Group) -> str:
    """A group in one line, for the list to choose from."""
    mark = "no spread" if found.flat else f"mean {found.mean:.2f}"
    return f"step {found.step} · {mark} · {_short(found.prompt)}"


def _reference(case: Case) -> str:
    return f"{case.answer} {case.unit}".strip()


def _card(each: Completion, found: Group, case: Case | None, waiting: bool) -> str:
    scores = with_reasons(each, found.prompt, case, WAITING if waiting else GONE)
    whole = "no score" if each.total is None else f"{each.total:.2f}"
    cut = chip("✂", "cut", f"Reached the length limit after {each.tokens} tokens.", "cut") if each.truncated else ""
    shape, word, kind = _fate(each.advantage)
    fate = chip(shape, word, "How the trainer used it: (total − mean of the group) / spread.", kind)
    advantage = f"{each.advantage:+.2f}".replace("-", "−")
    view = panel_of(each.text, f"{found.step}-{found.index}-{each.number}")
    return (
        f'<article class="panel sibling" role="listitem" aria-label="Completion {each.number}"><header>'
        f"<h4>Completion {each.number}</h4><span class='who'>{each.tokens} tokens</span>"
        f'<span class="chips"><b class="sum">total {whole}</b> <span>advantage {advantage}</span> {fate}{cut}</span>'
        f"</header>{render.sections(view)}"
        f'<div class="chips rewards">{"".join(_score(score) for score in scores)}</div>'
        f'<details class="reasoning why" data-fold="why-{found.step}-{found.index}-{each.number}">'
        f"<summary>Why these scores</summary>{render_rewards.sheet(scores)}</details></article>"
    )


def panel_of(text: str, name: str) -> Panel:
    """A recorded text as the panel that Compare would show; `name` keeps what a reader unfolded."""
    answer = Answer("", "grpo", "", "", Sampling(), text=text, sections=parse(text, final=True), done=True)
    return Panel("grpo", "done", answer, id=name)


def _fate(advantage: float) -> tuple[str, str, str]:
    if abs(advantage) < 0.005:
        return "–", "unchanged", ""
    return ("▲", "more likely", "ok") if advantage > 0 else ("▼", "less likely", "repaired")


def _score(score: Score) -> str:
    name = score.name.replace("_", " ")
    if score.value is None:
        return chip("–", f"{name}: no score", score.why, "none")
    if score.name == "length":
        shape, kind = ("●", "ok") if score.value >= 0 else ("○", "error")
    else:
        full, some = score.value >= 1, score.value > 0
        shape, kind = ("●", "ok") if full else ("◐", "repaired") if some else ("○", "error")
    return chip(shape, f"{name} {score.value:.2f}".replace("-", "−"), score.why, kind)


MARKS = 16
"""Most evaluations that are marked for one case."""


def course(found: Course, steps: Sequence[int], at: int) -> str:
    """The verdicts of one case over all evaluations; the shown step is marked."""
    kept = (
        {round(i * (len(steps) - 1) / (MARKS - 1)) for i in range(MARKS)} if len(steps) > MARKS else range(len(steps))
    )
    marks = "".join(
        f'<span class="mark{" now" if step == at else ""}">{chip(*_verdict(verdict), _kind(verdict))}'
        f"<small>step {step:,}</small></span>"
        for place, (step, verdict) in enumerate(zip(steps, found.verdicts, strict=True))
        if place in kept or step == at
    )
    return f'<div class="course" role="group" aria-label="This case over the run">{marks}</div>'


def _verdict(verdict: bool | None) -> tuple[str, str, str]:
    shape, word, _ = VERDICTS[verdict]
    return shape, word, WHY[verdict]


def _kind(verdict: bool | None) -> str:
    return VERDICTS[verdict][2]


def held_out(
    found: Course, steps: Sequence[int], first: Mapping[str, object] | None, now: Mapping[str, object] | None, at: int
) -> str:
    """One patient: the case, its course, and the first answer beside the one at the chosen step."""
    cards = _answered(first, steps[0], found.case_id)
    if at != steps[0]:
        cards += _answered(now, at, found.case_id)
    return (
        f'<section class="held-out"><div class="case"><p dir="auto">{escape(found.question)}</p>'
        f"<p><b>Reference:</b> {escape(found.reference)} · <span>{escape(found.change)}</span></p></div>"
        f'{course(found, steps, at)}<div class="siblings two">{cards}</div></section>'
    )


def _answered(answer: Mapping[str, object] | None, step: int, case_id: str) -> str:
    name = "Before training (step 0)" if step == 0 else f"Step {step:,}"
    if answer is None:
        return f'<article class="panel"><header><h4>{name}</h4></header><p class="teach">Not asked at this step.</p></article>'
    form = render.FORMAT_CHIPS.get(str(answer.get("format")), render.FORMAT_CHIPS["missing"])
    verdict = strict(answer)
    shape, word, _ = VERDICTS[verdict]
    chips = chip(*form, str(answer.get("format"))) + chip(shape, word, str(answer.get("why") or ""), _kind(verdict))
    if answer.get("truncated"):
        chips += chip("✂", "cut", "Reached the length limit.", "cut")
    view = panel_of(str(answer.get("text") or ""), f"held-{case_id}-{step}")
    return (
        f'<article class="panel" aria-label="{name}"><header><h4>{name}</h4><span class="chips">{chips}</span></header>'
        f'{render.sections(view)}<p class="teach">{escape(str(answer.get("why") or ""))}</p></article>'
    )


def course_title(found: Course) -> str:
    """A held-out case in one line, for the list to choose from."""
    return f"{found.change} · {found.reference} · {_short(found.question)}"


def before_after(found: BeforeAfter | None) -> str:
    """The table at the end: each measure before and after with its 95 % interval, and the paired test in a sentence."""
    if found is None:
        return '<p class="teach">A table of before and after appears with the second evaluation.</p>'
    rows = "".join(_row(row) for row in found.rows)
    points = 100 * (found.won - found.lost) / max(1, found.pairs)
    chance = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    doubt = "" if found.p < 0.05 else " That much can be chance."
    return (
        '<div class="sheet before-after"><table><caption>Before and after, the same cases '
        "(95 % Wilson intervals)</caption><thead><tr><th></th>"
        f'<th scope="col">Step {found.first:,}</th><th scope="col">Step {found.last:,}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f"<p>{f'{points:+.1f}'.replace('-', '−')} points on {found.pairs} cases: {found.won} won, {found.lost} lost "
        f"(McNemar, exact, {chance}).{doubt}</p></div>"
    )


def _row(row: Row) -> str:
    return (
        f'<tr><th scope="row" title="{escape(row.why)}">{escape(row.name)}</th>'
        f"<td>{share(row.before)}</td><td>{share(row.after)}</td></tr>"
    )


def share(found: Share) -> str:
    """A share with its interval."""
    if not found.of:
        return "no case"
    low, high = found.interval
    return f"<b>{100 * found.value:.1f} %</b> <small>{100 * low:.1f}–{100 * high:.1f}</small>"


def _short(text: str, most: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rsplit(' ', 1)[0]} …"
