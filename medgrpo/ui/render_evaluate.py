"""Evaluations as HTML: chart, table, comparison, cases side by side. Pure, with the escaping of `render`.

A bar is an inline drawing that stretches; its name and its number are text beside it, so the chart reads on a phone, in the
dark and without colours. Rows that can be chosen are buttons; `page.js` sends their value to the hidden box `evaluate-pick`.
"""

from collections.abc import Iterable, Mapping, Sequence

from medgrpo.answers import Answer
from medgrpo.cases import Case
from medgrpo.engines.base import Sampling
from medgrpo.evaluation.folder import Arm, Kind, compared
from medgrpo.evaluation.measures import Result, Share
from medgrpo.evaluation.report import MEASURES, measures_of, paired_sentence, title_of
from medgrpo.evaluation.summary import Summary, compare_paired, near_confusers, summarise
from medgrpo.parsing import parse
from medgrpo.ui import render
from medgrpo.ui.evaluate_job import Job
from medgrpo.ui.evaluate_view import ALL, PAGE, Choice, outcome
from medgrpo.ui.render import escape
from medgrpo.ui.state import Panel

PICK = "evaluate-pick"
SHOWN = 110
"""Characters of an answer in the list of cases."""
WORDS: dict[Kind, str] = {"control": "control", "base": "base model", "sft": "after SFT", "grpo": "after GRPO"}
MARKS = {"Right": ("✓", "right", "ok"), "Wrong": ("✕", "wrong", "error"), "Malformed": ("◇", "malformed", "repaired"),
         "Not judged": ("?", "not judged", "none")}  # fmt: skip


def chart(choice: Choice) -> str:
    """Strict accuracy of every arm with its interval; a bar is a button that lists its cases."""
    rows = "".join(_bar(arm, summarise(arm.results).strict, arm.title == choice.arm.title) for arm in choice.arms)
    kinds = dict.fromkeys(arm.kind for arm in choice.arms)
    legend = "".join(f'<span><i class="ev-{kind}" aria-hidden="true"></i>{WORDS[kind]}</span>' for kind in kinds)
    ticks = "".join(f"<span>{tick}</span>" for tick in ("0", "25", "50", "75", "100"))
    return (
        f'<figure class="ev-chart"><figcaption><h2>{escape(title_of(choice.evaluation))}</h2>'
        "<p>Strict accuracy in per cent: right, and exactly in form. The thin line is the 95 % interval. Choose a bar to "
        f"see its cases.{_uneven(choice)}</p></figcaption>"
        f'<div class="ev-bars">{rows}<div class="ev-axis" aria-hidden="true">{ticks}</div></div>'
        f'<div class="ev-legend">{legend}</div></figure>'
    )


def _uneven(choice: Choice) -> str:
    """A warning where the arms did not answer the same number of cases."""
    counts = {arm.title: len({result.case for result in arm.results}) for arm in choice.arms}
    if len(set(counts.values())) < 2:
        return ""
    said = ", ".join(f"{escape(title)} {count}" for title, count in counts.items())
    return f" <b>Not every arm answered the same cases ({said}); the sentences below count the shared ones alone.</b>"


def _bar(arm: Arm, share: Share, chosen: bool) -> str:
    said = percent(share)
    label = f"{arm.title}, {WORDS[arm.kind]}: {said}" + (f", 95 % interval {interval(share)}" if share.of else "")
    return (
        f'<button type="button" class="ev-bar" data-do="send" data-target="{PICK}" data-value="arm:{escape(arm.title)}"'
        f' aria-pressed="{str(chosen).lower()}" aria-label="{escape(label)}"><span class="ev-name">{escape(arm.title)}</span>'
        f'{drawing(arm.kind, share)}<span class="ev-value"><b>{said}</b> <small>{interval(share)}</small></span></button>'
    )


def drawing(kind: Kind, share: Share) -> str:
    """One bar from 0 to 100 % with its interval, as wide as its place."""
    grid = "".join(f'<path class="ev-grid" d="M{x} 0V24"/>' for x in (0, 250, 500, 750, 1000))
    if not share.of:
        return f'<svg viewBox="0 0 1000 24" preserveAspectRatio="none" aria-hidden="true">{grid}</svg>'
    value, low, high = (round(1000 * x) for x in (share.value, share.low, share.high))
    line = f"M{low} 12H{high}M{low} 7V17M{high} 7V17"
    return (
        f'<svg viewBox="0 0 1000 24" preserveAspectRatio="none" aria-hidden="true">{grid}'
        f'<rect class="ev-{kind}" y="4" width="{max(3, value)}" height="16"/>'
        f'<path class="ev-halo" d="{line}"/><path class="ev-line" d="{line}"/></svg>'
    )


def percent(share: Share) -> str:
    """A share in per cent, or a dash."""
    return f"{100 * share.value:.1f} %" if share.of else "–"


def interval(share: Share) -> str:
    """The interval in per cent, or nothing."""
    return f"{100 * share.low:.1f}–{100 * share.high:.1f}" if share.of else ""


def table(choice: Choice) -> str:
    """All measures, one row an arm."""
    summaries: dict[str, Summary] = {arm.title: summarise(arm.results) for arm in choice.arms}
    names = measures_of(summaries)
    heads = "".join(f'<th scope="col" title="{escape(MEASURES[name][1])}">{MEASURES[name][0]}</th>' for name in names)
    rows = "".join(_measured(arm, summaries[arm.title], names) for arm in choice.arms)
    legend = "; ".join(f"<b>{MEASURES[name][0]}</b>: {escape(MEASURES[name][1])}" for name in names)
    return (
        '<div class="sheet ev-table" tabindex="0" role="region" aria-label="All measures"><table>'
        f'<thead><tr><th scope="col">arm</th><th scope="col">cases</th>{heads}<th scope="col">real citations an answer</th>'
        f'<th scope="col">tokens</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<details class="ev-legend-text"><summary>What is counted</summary><p>{legend}. Small numbers are 95 % Wilson '
        "intervals; several answers or quotations of one case count as one cluster.</p></details>"
    )


def _measured(arm: Arm, summary: Summary, names: Sequence[str]) -> str:
    cells = "".join(f"<td>{percent(share)}<small>{interval(share)}</small></td>" for share in _shares(summary, names))
    cited = f"{summary.mean_citations:.1f}" if summary.mean_tokens else "–"
    length = f"{summary.mean_tokens:.0f}" if summary.mean_tokens else "–"
    return (
        f'<tr><th scope="row"><i class="ev-{arm.kind}" aria-hidden="true"></i>{escape(arm.title)}</th>'
        f"<td>{summary.cases}</td>{cells}<td>{cited}</td><td>{length}</td></tr>"
    )


def _shares(summary: Summary, names: Sequence[str]) -> Iterable[Share]:
    return (getattr(summary, name) for name in names)


def sentences(choice: Choice) -> str:
    """The reference against every other arm, on the same cases, in plain words."""
    reference = choice.reference
    if reference is None or len(choice.arms) < 2:
        return ""
    said = [
        paired_sentence(reference.title, arm.title, compare_paired(arm.results, reference.results))
        for arm in compared(choice.arms, reference)
    ]
    first, rest = said[0], "".join(f"<li>{escape(each)}</li>" for each in said[1:])
    more = f"<ul>{rest}</ul>" if rest else ""
    return f'<div class="ev-said"><h3>On the same cases</h3><p>{escape(first)}</p>{more}</div>'


def parts(choice: Choice) -> str:
    """Small bars of the main arms by register and by condition."""
    summaries = {arm.title: (arm, summarise(arm.results)) for arm in choice.main}
    by_register = {title: (arm, summary.by_group) for title, (arm, summary) in summaries.items()}
    by_condition = {title: (arm, summary.by_condition) for title, (arm, summary) in summaries.items()}
    return _small("by register", by_register, choice.registers) + _small(
        "by condition", by_condition, choice.conditions
    )


def _small(title: str, shares: Mapping[str, tuple[Arm, Mapping[str, Share]]], names: Sequence[str]) -> str:
    shown = [name for name in names if any(name in found for _, found in shares.values())]
    if len(shown) < 2:
        return ""
    cards = "".join(
        f'<div class="ev-card"><h4>{escape(name.replace("_", " "))}</h4>'
        + "".join(_line(arm, found.get(name, Share(0, 0, 0.0, 1.0))) for arm, found in shares.values())
        + "</div>"
        for name in shown
    )
    folded = " open" if len(shown) <= 8 else ""
    return (
        f'<details class="ev-parts" data-fold="ev-{title}"{folded}><summary>Strict accuracy: {title}</summary>'
        f'<div class="ev-cards">{cards}</div></details>'
    )


def _line(arm: Arm, share: Share) -> str:
    counted = f"{share.hits}/{share.of}" if share.of else "–"
    return (
        f'<div class="ev-line-row"><span title="{escape(arm.title)}">{escape(arm.title)}</span>{drawing(arm.kind, share)}'
        f'<span class="ev-count">{counted}</span></div>'
    )


def confusers(arm: Arm) -> str:
    """What the chosen arm answered instead, by condition; "" where no condition of the knowledge base was asked for."""
    found = near_confusers(arm.results)
    if not found:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{row.right} of {row.answers}</td>'
        f"<td>{', '.join(f'{escape(other)} <b>{n}</b>' for other, n in row.near.items() if n) or '–'}</td>"
        f"<td>{row.far or '–'}</td><td>{row.declined or '–'}</td><td>{row.unclear or '–'}</td></tr>"
        for name, row in found.items()
    )
    return (
        f'<details class="ev-parts" data-fold="ev-confusers"><summary>What {escape(arm.title)} answered instead</summary>'
        '<p class="teach">Near confusers are the conditions that the knowledge base names as easily mistaken for this one.</p>'
        '<div class="sheet ev-table" tabindex="0" role="region" aria-label="Answers by condition"><table><thead><tr>'
        '<th scope="col">condition</th><th scope="col">right</th><th scope="col">near confusers</th>'
        '<th scope="col">another condition</th><th scope="col">declined</th><th scope="col">unclear</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def cases(choice: Choice) -> str:
    """One page of the chosen arm's cases with their outcome; a row is a button that opens the case."""
    listed, page = choice.listed, choice.sight.page
    if not listed:
        return '<p class="teach">No case of this arm passes the filters. Choose All to see every case.</p>'
    shown = listed[page * PAGE : (page + 1) * PAGE]
    rows = "".join(_case_row(choice, result) for result in shown)
    count = f"{page * PAGE + 1}–{page * PAGE + len(shown)} of {len(listed)}"
    pages = _turn("Earlier", page - 1, page > 0) + _turn("Later", page + 1, (page + 1) * PAGE < len(listed))
    return f'<div class="ev-list" role="group" aria-label="Cases">{rows}</div><p class="ev-pages"><span>{count}</span>{pages}</p>'


def _turn(word: str, page: int, possible: bool) -> str:
    button = f'<button type="button" data-do="send" data-target="{PICK}" data-value="page:{page}">{word}</button>'
    return button if possible else ""


def _case_row(choice: Choice, result: Result) -> str:
    said = result.choice or _brief(result.label) or "no answer"
    seed = f" · seed {result.seed}" if len({r.seed for r in choice.arm.results}) > 1 else ""
    return (
        f'<button type="button" data-do="send" data-target="{PICK}" data-value="case:{escape(result.case_id)}"'
        f' aria-pressed="{str(result.case_id == choice.sight.case).lower()}">{mark(result)}'
        f'<span class="ev-said-what">{escape(said)}</span>'
        f"<small>reference: {escape(expected(choice, result))} · {escape(result.case_id)}{seed}</small></button>"
    )


def _brief(label: str) -> str:
    """The first statement of an answer, cut for a list."""
    first = label.split(". ")[0].split("\n")[0].strip(" .")
    return first if len(first) <= SHOWN else f"{first[:SHOWN].rstrip()}…"


def expected(choice: Choice, result: Result) -> str:
    """The reference of a case, for choices with the option's text."""
    case = choice.evaluation.cases.get(result.case_id)
    option = case.options.get(case.answer, "") if case else ""
    return f"{result.condition}. {option}" if option else f"{result.condition} {case.unit if case else ''}".strip()


def mark(result: Result) -> str:
    """The outcome as shape, word and colour."""
    shape, word, kind = MARKS[outcome(result)]
    return render.chip(shape, word, result.why, kind)


def case(choice: Choice) -> str:
    """The open case: what was asked, and what the arms answered, side by side."""
    found = choice.evaluation.cases.get(choice.sight.case)
    if found is None:
        return (
            '<p class="teach">Choose a case: its question opens here with the answers of the models side by side.</p>'
        )
    shown = {arm.title: arm for arm in (*choice.main, choice.arm) if arm.kind != "control" or arm is choice.arm}
    panels = []
    for arm in shown.values():
        answer = next((result for result in arm.results if result.case_id == found.id), None)
        panels.append(_answer(arm, answer, found))
    return (
        f'<div class="ev-case"><div class="case"><p dir="auto">{escape(found.question)}</p>'
        f"<p><b>Reference:</b> {escape(_reference(found))} <small>{escape(found.id)}</small></p></div>"
        f'<div class="ev-answers">{"".join(panels)}</div></div>'
    )


def _reference(found: Case) -> str:
    option = found.options.get(found.answer, "")
    return f"{found.answer}. {option}" if option else f"{found.answer} {found.unit}".strip()


def _answer(arm: Arm, result: Result | None, found: Case) -> str:
    if result is None:
        return render.empty(escape(arm.title), "This arm was not asked this case.", lettered=False)
    settings = {
        key: value for key, value in dict(arm.settings.get("sampling") or {}).items() if key in Sampling.__annotations__
    }
    answer = Answer(
        found.question,
        arm.title,
        str(arm.settings.get("model", "")),
        str(arm.settings.get("adapter", "")),
        Sampling(**settings),
        text=result.text,
        sections=parse(result.text, final=True),
        tokens=result.tokens,
        seconds=result.seconds,
        done=True,
        told=found.question,
    )
    who = " + ".join(filter(None, (answer.model, answer.adapter)))
    view = Panel(arm.title, "done", answer, id=f"{found.id}-{arm.name}")
    verdict = f'<p class="ev-verdict">{mark(result)} {escape(result.why)}</p>'
    return f'<div class="ev-answer">{verdict}{render.panel(view, who, lettered=False, retry=False)}</div>'


def progress(job: Job | None) -> str:
    """Where the evaluation stands, in words and as a bar; "" if there was none."""
    if job is None:
        return ""
    done, of = len(job.results), max(1, job.of)
    right = job.right
    accuracy = f", {right.hits} right: {percent(right)} <small>({interval(right)})</small>" if right.of else ""
    left = job.seconds_left if done < of else None
    soon = f" About {_duration(left)} left." if job.running and left is not None else ""
    state = {
        "running": "Stopping." if job.stop.is_set() else "Running." if done < of else "Writing the report.",
        "done": "Done.",
        "stopped": "Stopped. What was answered is kept: press Evaluate again to go on.",
        "failed": escape(job.note),
    }[job.state]
    return (
        f'<div class="ev-progress" data-state="{job.state}"><p role="status"><b>{escape(job.order.name)}</b>, '
        f"{escape(job.title)}: {done} of {job.of} answered{accuracy}. {state}{soon}</p>"
        f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="progressbar" aria-label="Cases answered" '
        f'aria-valuemin="0" aria-valuemax="{job.of}" aria-valuenow="{done}"><rect class="ev-rail" width="1000" height="10"/>'
        f'<rect class="ev-grpo" width="{round(1000 * done / of)}" height="10"/></svg></div>'
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def filters(choice: Choice) -> str:
    """What the filters leave, in words; "" without a filter."""
    chosen = [each for each in (choice.sight.condition, choice.sight.register) if each != ALL]
    return f'<p class="ev-filter">Only {escape(" · ".join(chosen))}.</p>' if chosen else ""
