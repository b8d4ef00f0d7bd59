"""Values of the start form and the list of runs as HTML; no Gradio, no state. Every text passes through `escape`."""

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from medgrpo.training.config import Problem
from medgrpo.training.preview import Seen
from medgrpo.training.run_info import RunInfo
from medgrpo.ui.render import chip, escape
from medgrpo.ui.render_train import CHIPS, PHASES, duration


def problem(found: Problem) -> str:
    """One problem: field, value, reason, allowed range, and a button where a value is known that mends it."""
    allowed = f" Allowed: {escape(found.allowed)}." if found.allowed else ""
    mend = ""
    if found.mend is not None:
        says = f"Apply {found.field.rpartition('.')[2]}: {_short(found.mend)}"
        mend = (
            f' <button type="button" data-do="send" data-target="train-apply" data-value="{escape(found.field)}">'
            f"{escape(says)}</button>"
        )
    return (
        f'<p class="flaw" data-field="{escape(found.field)}"><i aria-hidden="true">▲</i> <b>{escape(found.field)}</b> is '
        f"<code>{escape(_short(found.value))}</code>: {escape(found.reason)}.{allowed}{mend}</p>"
    )


def sentence(text: str, kind: str = "flaw") -> str:
    """A message that belongs to no field; kind "flaw", "good" or "wait"."""
    shape = {"flaw": "▲", "good": "●", "wait": "◌"}[kind]
    return f'<p class="{kind}" role="status"><i aria-hidden="true">{shape}</i> {escape(text)}</p>' if text else ""


def estimate(
    memory_gb: float, parts: Sequence[tuple[str, float]], step: float, total: float, disk: float, says: str
) -> str:
    """What a run will take, in four figures, and how they were derived."""
    figures = (
        ("memory", f"{memory_gb:.1f} GB"),
        ("one step", duration(step)),
        ("in all", duration(total)),
        ("disk", f"{disk:.2f} GB"),
    )
    row = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)
    split = ", ".join(f"{escape(name)} {value:.2f}" for name, value in parts)
    memory = f"<p>Memory in GB: {split}.</p>" if split else ""
    return (
        f'<dl class="figures">{row}</dl><details class="how"><summary>How this was estimated</summary>{memory}'
        f"<p>{escape(says)}</p></details>"
    )


def audit(report: str, passed: bool) -> str:
    """The reward audit: passed or not in a line, the report below it."""
    says = sentence(
        "The rewards passed their audit." if passed else "The rewards failed their audit.", "good" if passed else "flaw"
    )
    return f'{says}<details class="how"><summary>Audit report</summary><pre>{escape(report)}</pre></details>'


def command(arguments: Sequence[str]) -> str:
    """The exact command line; it is copied as shown."""
    line = shlex.join(arguments)
    return (
        f'<div class="command"><div class="label"><b>Command line</b> '
        f'<button type="button" data-do="copy-command">Copy</button></div><pre>{escape(line)}</pre></div>'
    )


def preview(cases: Sequence[Seen], source: str) -> str:
    """Cases as the model will read them; the reference, which it never reads, stands apart."""
    templated = bool(cases) and cases[0].templated
    how = (
        "as the chat template of the model lays them out, special tokens included"
        if templated
        else "by role; the model's own chat template comes with its weights and adds its special tokens"
    )
    items = "".join(_seen(number, each) for number, each in enumerate(cases, 1))
    return f'<div class="seen"><p>{len(cases)} cases of <b>{escape(source)}</b>, {how}.</p>{items}</div>'


def _seen(number: int, each: Seen) -> str:
    reference = f"{each.case.answer} {each.case.unit}".strip()
    first = " ".join(each.case.question.split())
    imitate = f"<p><b>To imitate</b></p><pre>{escape(each.completion)}</pre>" if each.completion else ""
    return (
        f'<details data-fold="seen-{number}"><summary><b>{escape(reference)}</b> {escape(first[:90])}</summary>'
        f"<pre>{escape(each.prompt)}</pre>{imitate}<p><b>Reference</b>, not shown to the model: {escape(reference)}; "
        f"judged as {escape(each.case.kind)}; {escape(each.case.id)}</p></details>"
    )


def runs(found: Sequence[RunInfo], recorded: Mapping[str, str], chosen: str) -> str:
    """The list of runs, newest first, then the recordings; the chosen one is marked."""
    rows = [_row(info, chosen) for info in found]
    rows += [
        _button(
            run_id,
            f"{escape(title)} {chip('▷', 'recording', 'Recorded when it was trained; it can be replayed.', 'cut')}",
            chosen,
        )
        for run_id, title in recorded.items()
    ]
    empty = "" if found else '<p class="teach">No run here yet. Below is a recording; Start makes the first one.</p>'
    return f'{empty}<div class="runs" role="group" aria-label="Runs">{"".join(rows)}</div>'


def _row(info: RunInfo, chosen: str) -> str:
    shape, word, _ = PHASES.get(info.phase, ("○", info.phase, ""))
    place = f" ({info.position} in the queue)" if info.position else ""
    why = info.error or f"{info.model}, {info.source}"
    kind = "running" if info.active or info.position else CHIPS.get(info.phase, "cut")
    steps = f"{info.step} of {info.total}" if info.total else ""
    when = time.strftime("%d %b %H:%M", time.localtime(info.started)) if info.started else ""
    words = " · ".join(filter(None, (escape(info.stage), escape(info.profile), steps, when)))
    return _button(info.id, f"{escape(info.id)} {chip(shape, word + place, why, kind)}<small>{words}</small>", chosen)


def _button(run_id: str, inside: str, chosen: str) -> str:
    pressed = str(run_id == chosen).lower()
    return f'<button type="button" data-do="run" data-run="{escape(run_id)}" aria-pressed="{pressed}">{inside}</button>'


def _short(value: Any) -> str:
    text = "empty" if value is None or value == "" else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
