"""The Compare tab: one case, both models, side by side.

`run` is a plain generator of `Screen` values and knows no components; `layout` places them; `wire` joins the two.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import gradio as gr

from medgrpo.engines.base import BASE, GRPO, Sampling
from medgrpo.errors import CaseError
from medgrpo.safety import clean_question, identifiers, red_flags
from medgrpo.ui import render
from medgrpo.ui.controls import (
    SamplingControls,
    example_buttons,
    page_html,
    sampling_controls,
    to_sampling,
    without_echo,
)
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Panel, Visits
from medgrpo.ui.stream import Question, answers

PLACE = "compare"
SAME, BARE = "Same instructions for both", "Base without instructions"
VARIANTS = (BASE, GRPO)
PROMISE = {
    BASE: "The model as it was published answers here.",
    GRPO: "The same model, tuned by reward, answers here: reasoning first, then the answer.",
}


@dataclass(frozen=True)
class Screen:
    """Everything the tab shows at one moment."""

    panels: Mapping[str, Panel]
    problem: str = ""
    emergencies: tuple[str, ...] = ()
    privacy: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        return any(panel.running for panel in self.panels.values())


def run(
    desk: Desk,
    visits: Visits,
    visitor: str,
    question: str,
    bare: bool,
    sampling: Sampling,
    before: Mapping[str, Panel] | None = None,
    only: str = "",
) -> Iterator[Screen]:
    """Both answers to a case, growing; with `only`, one of them again beside what the other said `before`.

    Closing the generator stops the models. The first screen, with its warnings, comes before any model is asked.
    """
    shown = {variant: panel.stopped() for variant, panel in (before or {}).items()}
    try:
        question = clean_question(question)
    except CaseError as error:
        yield Screen(shown, problem=str(error))
        return
    flags = tuple(flag.why for flag in red_flags(question))
    privacy = warnings(question)
    variants = [variant for variant in VARIANTS if variant in desk.variants and variant == (only or variant)]
    asks = [Question(question, variant, sampling, structured=not (bare and variant == BASE)) for variant in variants]
    stop = visits.begin(visitor, PLACE)
    if not only:
        shown = {}
    try:
        for panels in answers(desk, asks, stop):
            shown |= {panel.variant: panel for panel in panels}
            yield Screen(dict(shown), emergencies=flags, privacy=privacy)
    finally:
        stop.set()
        visits.end(visitor, PLACE, stop)


def warnings(question: str) -> tuple[str, ...]:
    """What looks like a patient identifier, in a sentence; empty if nothing does."""
    found = [str(what) for what in identifiers(question)]
    if not found:
        return ()
    return (f"This looks like it identifies a patient: {', '.join(found)}. Remove it; cases here should be made up.",)


@dataclass(frozen=True)
class Parts:
    """The components of the tab."""

    case: gr.Textbox
    instructions: gr.Radio
    sampling: SamplingControls
    run: gr.Button
    stop: gr.Button
    alerts: gr.HTML
    panels: dict[str, gr.HTML]
    verdict: gr.HTML
    live: gr.HTML
    latest: gr.State
    retries: dict[str, gr.Button] = field(default_factory=dict)

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.alerts, *self.panels.values(), self.verdict, self.live, self.run, self.stop, self.latest]


def layout(desk: Desk) -> Parts:
    """Place the components."""
    with gr.Row(elem_classes="ask"):
        with gr.Column(scale=3, min_width=300):
            case = gr.Textbox(
                label="Case",
                lines=5,
                max_lines=14,
                elem_id="case",
                placeholder="Age, sex, what happened, findings. Then the question.",
                info="Made-up cases; the more findings, the surer the answer. Ctrl+Enter runs.",
            )
            with gr.Row(elem_classes="bar"):
                with gr.Row(elem_classes="actions"):
                    go = gr.Button("Run", variant="primary", elem_id="run", min_width=96)
                    stop = gr.Button("Stop", elem_id="stop", interactive=False, min_width=96)
                instructions = gr.Radio(
                    [SAME, BARE], value=SAME, show_label=False, elem_id="instructions", container=False
                )
                sampling = sampling_controls()
        with gr.Column(scale=2, min_width=300):
            example_buttons("case")
    alerts = page_html("", "alerts")
    with gr.Row(elem_classes="panels", equal_height=True):
        panels = {}
        for variant in VARIANTS:
            with gr.Column(min_width=300):
                panels[variant] = page_html(render.empty(variant, promise(desk, variant)), f"panel-{variant}")
    verdict = page_html(render.verdict([]), "verdict")
    live = page_html("", "announce")
    retries = {variant: gr.Button("Retry", elem_id=f"retry-{variant}", visible="hidden") for variant in VARIANTS}
    return Parts(case, instructions, sampling, go, stop, alerts, panels, verdict, live, gr.State({}), retries)


def promise(desk: Desk, variant: str) -> str:
    """What an empty panel says."""
    return PROMISE[variant] if variant in desk.variants else render.no_adapter(desk.title)


def paint(desk: Desk, screen: Screen) -> list[object]:
    """A screen as the values of `Parts.outputs`."""
    views = [screen.panels[variant] for variant in VARIANTS if variant in screen.panels]
    alerts = (
        render.alert([screen.problem] if screen.problem else [], "problem")
        + render.alert(screen.emergencies, "emergency")
        + render.alert(screen.privacy, "privacy")
    )
    shown = [
        render.panel(screen.panels[variant], who(desk, screen.panels[variant]), retry=not screen.busy)
        if variant in screen.panels
        else render.empty(variant, promise(desk, variant))
        for variant in VARIANTS
    ]
    buttons = [gr.update(interactive=not screen.busy), gr.update(interactive=screen.busy)]
    return [alerts, *shown, render.verdict(views), render.announcement(views), *buttons, dict(screen.panels)]


def who(desk: Desk, panel: Panel) -> str:
    """Model and adapter of a panel, from the answer itself where there is one."""
    if panel.answer:
        return " + ".join(filter(None, (panel.answer.model, panel.answer.adapter)))
    return desk.title


def wire(parts: Parts, desk: Desk, visits: Visits) -> None:
    """Join the components to `run`."""

    def handler(only: str) -> Callable[..., Iterator[list[object]]]:
        def handle(
            question: str, instructions: str, temperature: float, top_p: float, tokens: float, seed: float | None,
            latest: dict[str, Panel], request: gr.Request,
        ) -> Iterator[list[object]]:  # fmt: skip
            sampling = to_sampling(temperature, top_p, tokens, seed)
            visitor = str(request.session_hash)
            screens = run(desk, visits, visitor, question, instructions == BARE, sampling, latest, only)
            yield from without_echo(paint(desk, screen) for screen in screens)

        return handle

    inputs = [parts.case, parts.instructions, *parts.sampling.inputs, parts.latest]
    triggers = {"": [parts.run.click, parts.case.submit]} | {
        variant: [button.click] for variant, button in parts.retries.items()
    }
    for only, events in triggers.items():
        gr.on(
            events, handler(only), inputs, parts.outputs, show_progress="hidden", trigger_mode="multiple",
            concurrency_id="engine", api_visibility="private",
        )  # fmt: skip

    def stop(request: gr.Request) -> None:
        visits.stop(str(request.session_hash), PLACE)

    parts.stop.click(stop, queue=False, show_progress="hidden", api_visibility="private")
