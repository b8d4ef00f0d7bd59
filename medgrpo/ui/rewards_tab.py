"""The Rewards tab: what each reward gives a completion and why, and what a group of completions teaches.

Every number comes from the functions the trainer uses (`medgrpo.rewards`). It needs no model and no GPU; where there is a
model, it can be asked for a completion too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgrpo.errors import EngineError, MedGRPOError
from medgrpo.rewards import PROFILES, advantages, explain, total
from medgrpo.ui import render, render_rewards
from medgrpo.ui.attempts import attempts, cases
from medgrpo.ui.controls import page_html
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Visits
from medgrpo.ui.stream import Question, answers

PROFILE = "medgrpo"
WEIGHTS = PROFILES[PROFILE]
GROUP, MOST = 4, 8
PLACE = "rewards"
KINDS = [
    "Gold",
    "Right, no form",
    "Form, wrong answer",
    "Form only",
    "Two answers",
    "Case copied",
    "Cut off",
    "Rambling",
]
FIRST = [
    "Gold",
    "Form, wrong answer",
    "Right, no form",
    "Rambling",
    "Two answers",
    "Case copied",
    "Form only",
    "Cut off",
]
"""What the boxes of a new group hold, in order."""

INTRO = (
    '<div class="intro"><h2>A group, as GRPO sees it</h2><p>The model writes several completions to one case. Those '
    "that earn more than their group's average become more likely. Change a text, or the weight of a reward, and "
    "watch what training would do.</p></div>"
)


def score(title: str, completion: str, profile: str) -> str:
    """The score sheet of a completion for the case with this title."""
    found = cases().get(title)
    if found is None:
        return render.alert(["Choose a case first; its reference answer decides what is right."], "problem")
    if not (completion or "").strip():
        return '<p class="teach">Write a completion, or choose one above. Its score appears here as you type.</p>'
    return render_rewards.sheet(explain(completion, found[0], profile))


def compare_group(title: str, texts: Sequence[str], weights: Sequence[float]) -> str:
    """Totals and advantages of the completions that are not empty, with these weights."""
    found = cases().get(title)
    if found is None:
        return ""
    written = [text for text in texts if (text or "").strip()]
    chosen = dict(zip(WEIGHTS, map(float, weights), strict=True))
    totals = [total(explain(text, found[0], chosen)) for text in written]
    return render_rewards.group(totals, advantages(totals))


def pick(title: str) -> tuple[str, list[str]]:
    """Text of the case with its reference as HTML, and the completions a new group begins with."""
    found = cases().get(title)
    if found is None:
        return "", [""] * MOST
    case, gold = found
    made = attempts(case, gold)
    reference = f"{case.answer} {case.unit}".strip()
    shown = (
        f'<div class="case"><p dir="auto">{render.escape(case.question)}</p>'
        f"<p><b>Reference:</b> {render.escape(reference)}</p></div>"
    )
    return shown, [made[kind] for kind in FIRST]


def written(desk: Desk, visits: Visits, visitor: str, title: str) -> Iterator[str]:
    """What the trained model (without an adapter the base model) writes for the case with this title, growing.

    Raises:
        EngineError: it cannot be asked, or broke; the text so far stays.
    """
    found = cases().get(title)
    if found is None:
        return
    stop = visits.begin(visitor, PLACE)
    try:
        for (panel,) in answers(desk, [Question(found[0].question, desk.variants[-1])], stop):
            if panel.phase == "error":
                raise EngineError(panel.note)
            if panel.text and not stop.is_set():
                yield panel.text
    finally:
        stop.set()
        visits.end(visitor, PLACE, stop)


@dataclass(frozen=True)
class Parts:
    """The components of the tab."""

    case: gr.Dropdown
    profile: gr.Dropdown
    kind: gr.Radio
    ask: gr.Button
    text: gr.HTML
    completion: gr.Textbox
    sheet: gr.HTML
    size: gr.Slider
    boxes: list[gr.Textbox]
    weights: list[gr.Slider]
    group: gr.HTML


def build(tab: gr.Tab, desk: Desk, visits: Visits) -> None:
    """Place the components inside the tab and join them to the functions above."""
    parts = _layout()
    _wire(tab, parts, visits)
    _wire_model(parts, desk, visits)


def _layout() -> Parts:
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=1, min_width=300):
            case = gr.Dropdown([], label="Case", elem_id="reward-case", filterable=True)
            text = page_html('<p class="teach">Loading the cases.</p>', "reward-text")
            kind = gr.Radio(KINDS, value="Gold", label="Try", elem_id="reward-kind")
            ask = gr.Button("Ask the model", elem_id="reward-ask", size="sm")
            completion = gr.Textbox(label="Completion", lines=9, max_lines=20, elem_id="reward-completion")
        with gr.Column(scale=1, min_width=300):
            profile = gr.Dropdown(list(PROFILES), value=PROFILE, label="Rewards", elem_id="reward-profile")
            sheet = page_html("", "reward-sheet")
    page_html(INTRO, "group-intro")
    with gr.Row(elem_classes="weights"):
        weights = [
            gr.Slider(0, 3, weight, step=0.05, label=name.replace("_", " ").capitalize(), elem_id=f"weight-{name}")
            for name, weight in WEIGHTS.items()
        ]
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=1, min_width=300):
            size = gr.Slider(2, MOST, GROUP, step=1, label="Completions in the group", elem_id="group-size")
            boxes = [_box(number) for number in range(1, MOST + 1)]
        with gr.Column(scale=1, min_width=300):
            group = page_html("", "group-sheet")
    return Parts(case, profile, kind, ask, text, completion, sheet, size, boxes, weights, group)


def _box(number: int) -> gr.Textbox:
    label, shown = f"Completion {number}", number <= GROUP
    return gr.Textbox(label=label, lines=3, max_lines=6, visible=shown, elem_id=f"group-{number}")


def _wire(tab: gr.Tab, parts: Parts, visits: Visits) -> None:
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def first(title: str | None) -> object:
        try:
            titles = list(cases())
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return gr.skip() if title else gr.Dropdown(titles, value=titles[0])

    def chosen(title: str, kind: str, size: float, request: gr.Request) -> list[object]:
        shown, texts = pick(title)
        texts = [text if number < size else "" for number, text in enumerate(texts)]
        return [shown, example(title, kind, request), *texts]

    def example(title: str, kind: str, request: gr.Request) -> str:
        visits.stop(str(request.session_hash), PLACE)
        found = cases().get(title)
        return attempts(*found)[kind] if found else ""

    def resized(title: str, size: float, *texts: str) -> list[object]:
        _, fresh = pick(title)
        return [
            gr.Textbox(visible=number < size, value=(text or fresh[number]) if number < size else "")
            for number, text in enumerate(texts)
        ]

    def grouped(title: str, *values: str | float) -> str:
        return compare_group(title, [str(text or "") for text in values[:MOST]], [float(w) for w in values[MOST:]])

    tab.select(first, [parts.case], [parts.case], **quiet)
    parts.case.change(
        chosen, [parts.case, parts.kind, parts.size], [parts.text, parts.completion, *parts.boxes], **quiet
    )
    parts.kind.change(example, [parts.case, parts.kind], [parts.completion], **quiet)
    parts.size.change(resized, [parts.case, parts.size, *parts.boxes], parts.boxes, **quiet)
    gr.on(
        [parts.completion.change, parts.profile.change],
        score,
        [parts.case, parts.completion, parts.profile],
        [parts.sheet],
        trigger_mode="always_last",
        **quiet,
    )
    gr.on(
        [*(box.change for box in parts.boxes), *(weight.change for weight in parts.weights)],
        grouped,
        [parts.case, *parts.boxes, *parts.weights],
        [parts.group],
        trigger_mode="always_last",
        **quiet,
    )


def _wire_model(parts: Parts, desk: Desk, visits: Visits) -> None:
    def ask(title: str, request: gr.Request) -> Iterator[str]:
        try:
            yield from written(desk, visits, str(request.session_hash), title)
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error

    parts.ask.click(
        ask, [parts.case], [parts.completion], show_progress="minimal", concurrency_id="engine",
        api_visibility="private",
    )  # fmt: skip
