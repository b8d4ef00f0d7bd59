"""Values in, HTML out; no Gradio, no state.

Every string that a person or a model wrote passes through `escape` before it becomes part of the page, and nothing else
makes HTML. The skeleton of a panel never changes its order of elements: the page updates it in place, twelve times a
second, and a block that a reader unfolded must still be the same element afterwards.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence

from medgrpo.answers import Answer
from medgrpo.engines.base import Health
from medgrpo.evaluation.misplaced import misplaced
from medgrpo.rewards import told_apart
from medgrpo.safety import DISCLAIMER
from medgrpo.ui.state import Panel

TITLES = {"base": "Base model", "grpo": "GRPO model"}
LETTERS = {"base": "A", "grpo": "B"}
FORMAT_CHIPS = {
    "ok": ("●", "well-formed", "Exactly one reasoning block, then one answer block."),
    "repaired": ("◐", "repaired", "Tags are missing, doubled or out of place; the page put the text in order."),
    "missing": ("○", "no structure", "No tags at all: the text as it came."),
}
MISPLACED = (
    "In the casebook this is said of another finding (a rule that compares words). On hard test cases answers with such a "
    "mark were wrong at least three times as often as the others."
)
_CONTROL = {c: 0x2400 + c for c in range(32) if c not in (9, 10)} | {127: 0x2421}
_LEAD_IN = re.compile(
    r"^\s*(the )?(single )?(most )?(likely |probable )?(diagnosis|answer|cause) ?(here |is |: ?)+", re.ASCII
)
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")


def escape(text: str) -> str:
    """Text that is shown as written: no character of it is markup, control characters become visible signs."""
    clean = text.replace("\r\n", "\n").translate(_CONTROL).encode("utf-8", "replace").decode()
    return html.escape(clean, quote=True)


def prose(text: str) -> str:
    """Escaped text with `**bold**` set in bold, the one mark that small models use all the time."""
    return _BOLD.sub(r"<strong>\1</strong>", escape(text))


def quoting(text: str, told: str, marks: Sequence[tuple[int, int]] = ()) -> str:
    """As `prose`, each quote marked by whether it was told, and what is said out of place; nothing where nothing was told."""
    if not told:
        return prose(text)
    pieces, at = [], 0
    for piece, real in told_apart(text, told):
        pieces.append(_said(text, at, at + len(piece), marks) if real is None else _quote(piece, real))
        at += len(piece)
    return "".join(pieces)


def _said(text: str, at: int, end: int, marks: Sequence[tuple[int, int]]) -> str:
    """What stands between two quotes, with the marks in it."""
    marked = ""
    for start, stop in marks:
        if at <= start < stop <= end:
            sign = '<sup role="img" aria-label="said of another finding">⇄</sup>'
            marked += f'{prose(text[at:start])}<span class="misplaced" title="{MISPLACED}">{prose(text[start:stop])}{sign}</span>'
            at = stop
    return marked + prose(text[at:end])


def _quote(phrase: str, real: bool) -> str:
    if real:
        return f'<span class="quote" title="Stands in the case in these words.">{escape(phrase)}</span>'
    sign = '<sup role="img" aria-label="not in the case">≠</sup>'
    return f'<span class="quote false" title="Does not stand in the case in these words.">{escape(phrase)}{sign}</span>'


def chip(shape: str, word: str, why: str, kind: str) -> str:
    """A word with a shape and a colour, never a colour alone."""
    return (
        f'<span class="chip chip-{kind}" title="{escape(why)}"><i aria-hidden="true">{shape}</i> {escape(word)}</span>'
    )


def asked(question: str) -> str:
    """What a person asked, in a conversation."""
    return f'<div class="asked" dir="auto">{escape(question)}</div>'


def panel(view: Panel, who: str = "", lettered: bool = True, retry: bool = True) -> str:
    """One answer: title, chips, reasoning, answer, disclaimer.

    Args:
        view: what to show.
        who: names of model and adapter, shown beside the title.
        lettered: with "A" or "B" before the title, for comparing.
        retry: with a retry button if there was an error.
    """
    answer, marks = view.answer, _marks(view)
    title = TITLES.get(view.variant, view.variant)
    letter = f'<b class="letter">{LETTERS.get(view.variant, "")}</b>' if lettered else ""
    return (
        f'<article class="panel" data-variant="{escape(view.variant)}" data-phase="{view.phase}" data-id="{view.id}"'
        f' aria-label="{escape(title)}" aria-busy="{str(view.running).lower()}"{_record(view)}>'
        f"<header><h2>{letter}{escape(title)}</h2>"
        f'<span class="who">{escape(who)}</span><span class="chips">{"".join(_chips(view, len(marks)))}</span></header>'
        f'<p class="note"{"" if view.running and _note(view) else " hidden"}>{escape(_note(view))}</p>'
        f"{_reasoning(view, marks)}{_answer(view)}"
        f'<p class="error" role="alert"{"" if view.phase == "error" else " hidden"}>{escape(view.note)}'
        f"{_retry(view) if retry and view.phase == 'error' else ''}</p>"
        f"<footer{'' if answer and answer.text else ' hidden'}><span>{escape(DISCLAIMER)}</span>{_copy(view)}</footer>"
        f"</article>"
    )


def empty(variant: str, sentence: str, lettered: bool = True) -> str:
    """A panel before its first answer: it says what will be here, or what is needed first."""
    title = TITLES.get(variant, variant)
    letter = f'<b class="letter">{LETTERS.get(variant, "")}</b>' if lettered else ""
    return (
        f'<article class="panel" data-variant="{variant}" data-phase="empty"'
        f' aria-label="{title}"><header><h2>{letter}{title}</h2></header>'
        f'<p class="teach">{escape(sentence)}</p></article>'
    )


def no_adapter(model: str) -> str:
    """What a missing adapter teaches."""
    return (
        f"No adapter for {model} yet. Train one with python -m train.grpo, "
        f"or set MEDGRPO_ADAPTER to a folder or a Hub id and start again."
    )


def speed(answer: Answer) -> str:
    """Tokens a second after the first token, tokens, seconds."""
    writing = answer.seconds - (answer.first_seconds or 0.0)
    rate = f"{(answer.tokens - 1) / writing:.0f} tok/s · " if answer.tokens > 1 and writing > 0.05 else ""
    return f"{rate}{answer.tokens} {'token' if answer.tokens == 1 else 'tokens'} · {answer.seconds:.1f} s"


def _marks(view: Panel) -> list[tuple[int, int]]:
    """Misplaced explanations in the reasoning of a finished answer."""
    answer = view.answer
    return misplaced(answer.sections.reasoning) if view.phase == "done" and answer and answer.told else []


def _chips(view: Panel, strays: int) -> Iterable[str]:
    answer = view.answer
    if view.phase == "done" and answer:
        shape, word, why = FORMAT_CHIPS[answer.sections.status]
        yield chip(shape, word, why, answer.sections.status)
        yield from _quotes_chip(answer)
        if strays:
            yield chip("⇄", f"{strays} explanation{'s' * (strays > 1)} out of place", MISPLACED, "repaired")
        if answer.tokens >= answer.sampling.max_tokens:
            yield chip("✂", f"cut at {answer.sampling.max_tokens} tokens", "Allow more tokens under Sampling.", "cut")
    if view.phase == "stopped":
        yield chip("■", "stopped", "Stopped before the model was done.", "cut")
    if view.phase == "error":
        yield chip("▲", "error", view.note, "error")
    if view.running:
        yield chip("◌", "writing" if view.text else "waiting", "The answer isn't complete yet.", "running")
    if answer and answer.text:
        yield f'<span class="speed">{speed(answer)}</span>'


def _quotes_chip(answer: Answer) -> Iterable[str]:
    quotes = [real for _, real in told_apart(answer.sections.reasoning, answer.told) if real is not None]
    if quotes and answer.told:
        why = "Phrases in quotation marks that stand in the case word for word. The others are marked in the reasoning."
        word = f"{sum(quotes)} of {len(quotes)} quotes in the case"
        yield chip("❝", word, why, "ok" if all(quotes) else "repaired")


def _note(view: Panel) -> str:
    if view.text or not view.running:
        return ""
    return view.note or "Reading the case."


def _reasoning(view: Panel, marks: Sequence[tuple[int, int]]) -> str:
    answer = view.answer
    text = answer.sections.reasoning if answer else ""
    writing = view.running and not (answer and answer.sections.answer)
    unfinished = not view.running and not (answer and answer.sections.answer)
    return (
        f'<details class="reasoning{" live" if writing else ""}" data-fold="{view.id}-{view.variant}"'
        f"{' open' if writing or unfinished else ''}{'' if text else ' hidden'}>"
        f"<summary>{escape(reasoning_title(view))}</summary>"
        f'<div class="reasoning-body" tabindex="0" role="region" aria-label="Reasoning text">'
        f'<div class="text" dir="auto">{quoting(text, answer.told if answer else "", marks)}</div></div></details>'
    )


def reasoning_title(view: Panel) -> str:
    """The one line a folded reasoning block is read by."""
    answer = view.answer
    if answer is None:
        return "Reasoning"
    if answer.reasoning_seconds is not None:
        return f"Reasoning ({answer.reasoning_seconds - (answer.first_seconds or 0.0):.1f} s)"
    if view.phase == "stopped":
        return "Reasoning (stopped)"
    if view.phase == "error":
        return "Reasoning (broken off)"
    if view.phase == "done":
        return "Reasoning" if answer.sections.answer else "Reasoning (no answer followed)"
    return f"Reasoning, {answer.seconds:.0f} s"


def _answer(view: Panel) -> str:
    answer = view.answer
    text = answer.sections.answer if answer else ""
    status = answer.sections.status if answer else "missing"
    label = "Text as it came" if status == "missing" else "Answer"
    if view.phase == "done" and answer and not answer.text.strip():
        label, text = "Answer", "The model wrote nothing. Ask again, or change the sampling."
    return (
        f'<section class="answer"{"" if text else " hidden"}><h3>{label}</h3>'
        f'<div class="text" dir="auto">{prose(text)}</div></section>'
    )


def sections(view: Panel) -> str:
    """Reasoning folded above the answer, as in a panel, without the frame around them."""
    return _reasoning(view, _marks(view)) + _answer(view)


def _retry(view: Panel) -> str:
    return f' <button type="button" data-do="retry" data-variant="{escape(view.variant)}">Retry</button>'


def _copy(view: Panel) -> str:
    return (
        '<button type="button" data-do="copy-answer" hidden></button>'
        if view.running
        else ('<button type="button" data-do="copy-answer">Copy answer</button>')
    )


def _record(view: Panel) -> str:
    """The answer record, for copy and export in the browser; nothing is written on the server."""
    if view.running or view.answer is None:
        return ""
    return f' data-record="{escape(json.dumps({"state": view.phase, **view.answer.record()}))}"'


def first_statement(answer: str) -> str:
    """The part of an answer that is compared: up to the first stop, in lower case, without lead-in and punctuation."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    head = re.split(r"(?<=\w)[.;!?](?:\s|$)", line.replace("*", ""), maxsplit=1)[0].lower()
    head = _LEAD_IN.sub("", head[:300])
    return " ".join(re.findall(r"\w+", re.sub(r"^(an?|the) ", "", head)))


def agreement(panels: Sequence[Panel]) -> str:
    """Whether two finished answers begin with the same statement, in words; "" if there aren't two."""
    texts = [view.answer.sections.answer for view in panels if view.phase == "done" and view.answer]
    if len(texts) != 2 or not all(text.strip() for text in texts):
        return ""
    first, second = map(first_statement, texts)
    return "same answer" if first and first == second else "different answers"


def verdict(panels: Sequence[Panel]) -> str:
    """The line below two answers: agreement, copy and export, which is better."""
    finished = [view for view in panels if view.answer and view.text]
    if not finished or any(view.running for view in panels):
        return '<div class="verdict" hidden></div>'
    says = agreement(panels)
    shape = {"same answer": "=", "different answers": "≠"}.get(says, "")
    why = "Compares the first statement of each answer, word by word."
    mark = f'<i aria-hidden="true">{shape}</i> {says}'
    line = f'<span class="agreement" title="{why}">{mark}</span>' if says else ""
    buttons = "".join(
        f'<button type="button" data-do="{do}">{label}</button>'
        for do, label in (("copy-all", "Copy all"), ("export-json", "Export JSON"), ("export-md", "Export Markdown"))
    )
    votes = "".join(
        f'<button type="button" data-do="vote" data-vote="{vote}" aria-pressed="false">{label}</button>'
        for vote, label in (("A", "A"), ("same", "Same"), ("B", "B"), ("neither", "Neither"))
    )
    ask = f'<span class="vote" role="group" aria-label="Which is better?">Which is better? {votes}</span>'
    vote = ask if len(finished) == 2 else ""
    return f'<div class="verdict" data-agreement="{says}">{line}<span class="tools">{buttons}</span>{vote}</div>'


def alert(sentences: Sequence[str], kind: str) -> str:
    """Sentences that must be seen: "emergency", "privacy" or "problem". An empty list hides the place."""
    marks = {"emergency": ("⚠", "Possible emergency"), "privacy": ("⚑", "Identifiers"), "problem": ("▲", "Not sent")}
    if not sentences:
        return f'<div class="alert alert-{kind}" hidden></div>'
    shape, title = marks[kind]
    items = " ".join(escape(sentence) for sentence in sentences)
    return (
        f'<div class="alert alert-{kind}" role="alert"><b><i aria-hidden="true">{shape}</i> {title}.</b> {items}</div>'
    )


def status(health: Health, engine: str, model: str, adapter: str, waiting: int, busy: bool) -> str:
    """The dot of the header with its words."""
    queue = f", {waiting} waiting" if waiting else ""
    words = {"loading": "loading", "down": "down", "ready": f"busy{queue}" if busy else "ready"}[health.state]
    names = (
        " · ".join(filter(None, (engine, model, f"adapter {adapter}" if adapter else "no adapter")))
        if engine
        else model
    )
    detail = names if health.state == "ready" else health.detail
    kind = "busy" if busy and health.state == "ready" else health.state
    return (
        f'<div class="status status-{kind}" title="{escape(health.detail)}">'
        f'<i aria-hidden="true"></i><b>{words}</b> <span>{escape(detail)}</span></div>'
    )


def masthead(title: str, tagline: str, dot: str) -> str:
    """The head of the page: name, status, the two switches, the disclaimer."""
    return (
        f'<div class="frame"><div class="title"><h1>{escape(title)}</h1><span>{escape(tagline)}</span></div>{dot}'
        '<div class="tools"><button type="button" data-do="talk" title="Larger text, for a talk">Aa</button>'
        '<button type="button" data-do="theme" title="Light or dark" aria-label="Light or dark">◐</button></div></div>'
        f'<p class="disclaimer">{escape(DISCLAIMER)} Don\'t enter patient identifiers.</p>'
    )


def announcement(panels: Sequence[Panel]) -> str:
    """What a screen reader is told, once per change."""
    if any(view.running for view in panels):
        says = "Writing." if any(view.text for view in panels) else "Waiting for the model."
    else:
        words = {"done": "ready", "stopped": "stopped", "error": "failed"}
        says = " ".join(f"{TITLES.get(v.variant, '')}: {words[v.phase]}." for v in panels if v.phase in words)
    return f'<div role="status">{says}</div>'
