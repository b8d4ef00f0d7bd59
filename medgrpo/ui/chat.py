"""The Base model and GRPO model tabs: a conversation with one model.

The conversation is a tuple of turns, each a question with the panel that answered it. What the model is told of earlier
turns are question and text pairs; `build_messages` takes only the answers out of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import gradio as gr

from medgrpo.engines.base import Sampling
from medgrpo.errors import CaseError
from medgrpo.safety import clean_question, red_flags
from medgrpo.ui import render
from medgrpo.ui.compare import promise, warnings, who
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


@dataclass(frozen=True)
class Turn:
    """One question, what has to be said about it before any model, and the panel below it."""

    question: str
    panel: Panel
    emergencies: tuple[str, ...] = ()
    privacy: tuple[str, ...] = ()


Turns = tuple[Turn, ...]


@dataclass(frozen=True)
class Screen:
    """Everything the tab shows at one moment. `box` is the text to put into the input, None to leave it alone."""

    turns: Turns
    box: str | None = None
    problem: str = ""

    @property
    def busy(self) -> bool:
        return any(turn.panel.running for turn in self.turns)


def settled(turns: Turns) -> Turns:
    """The turns of an earlier event: nothing in them is running any more."""
    return tuple(replace(turn, panel=turn.panel.stopped()) for turn in turns)


def history(turns: Turns) -> tuple[tuple[str, str], ...]:
    """Earlier question and text pairs; turns without any text are left out."""
    return tuple((turn.question, turn.panel.text) for turn in turns if turn.panel.text.strip())


def say(
    desk: Desk, visits: Visits, visitor: str, variant: str, question: str, turns: Turns, sampling: Sampling
) -> Iterator[Screen]:
    """The conversation with one more turn, growing. A question that can't be asked stays in the box."""
    turns = settled(turns)
    try:
        question = clean_question(question)
    except CaseError as error:
        yield Screen(turns, problem=str(error))
        return
    if variant not in desk.variants:
        yield Screen(turns, problem=render.no_adapter(desk.title))
        return
    flags, privacy = tuple(flag.why for flag in red_flags(question)), warnings(question)
    asked = Question(question, variant, sampling, history(turns))
    stop = visits.begin(visitor, variant)
    box: str | None = ""
    try:
        for panels in answers(desk, [asked], stop):
            yield Screen((*turns, Turn(question, panels[0], flags, privacy)), box)
            box = None
    finally:
        stop.set()
        visits.end(visitor, variant, stop)


def again(desk: Desk, visits: Visits, visitor: str, variant: str, turns: Turns, sampling: Sampling) -> Iterator[Screen]:
    """The last question once more; its first answer is dropped."""
    if not turns:
        yield Screen((), problem="There is no question to ask again: type a case first.")
        return
    for screen in say(desk, visits, visitor, variant, turns[-1].question, turns[:-1], sampling):
        yield replace(screen, box=None)


@dataclass(frozen=True)
class Parts:
    """The components of the tab."""

    variant: str
    talk: gr.HTML
    alerts: gr.HTML
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    retry: gr.Button
    clear: gr.Button
    live: gr.HTML
    sampling: SamplingControls
    turns: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.talk, self.alerts, self.live, self.box, self.send, self.stop, self.retry, self.clear, self.turns]


def layout(desk: Desk, variant: str) -> Parts:
    """Place the components."""
    with gr.Column(elem_classes="chat"):
        talk = page_html(render.empty(variant, promise(desk, variant), lettered=False), f"talk-{variant}")
        alerts = page_html("", f"alerts-{variant}")
        box = gr.Textbox(
            label="Your case or question",
            lines=3,
            max_lines=10,
            elem_id=f"box-{variant}",
            info="Made-up cases only. Ctrl+Enter sends.",
        )
        with gr.Row(elem_classes="bar"):
            with gr.Row(elem_classes="actions"):
                send = gr.Button("Send", variant="primary", elem_id=f"send-{variant}", min_width=96)
                stop = gr.Button("Stop", elem_id=f"stop-{variant}", interactive=False, min_width=96)
                retry = gr.Button("Ask again", elem_id=f"again-{variant}", interactive=False, min_width=96)
                clear = gr.Button("Clear", elem_id=f"clear-{variant}", interactive=False, min_width=96)
            sampling = sampling_controls()
        example_buttons(f"box-{variant}")
        live = page_html("", f"announce-{variant}", elem_classes="announce")
    return Parts(variant, talk, alerts, box, send, stop, retry, clear, live, sampling, gr.State(()))


def paint(desk: Desk, variant: str, screen: Screen) -> list[object]:
    """A screen as the values of `Parts.outputs`."""
    turns = "".join(_turn(desk, turn) for turn in screen.turns)
    idle, some = not screen.busy, bool(screen.turns)
    return [
        turns or render.empty(variant, promise(desk, variant), lettered=False),
        render.alert([screen.problem] if screen.problem else [], "problem"),
        render.announcement([turn.panel for turn in screen.turns[-1:]]),
        gr.skip() if screen.box is None else screen.box,
        gr.update(interactive=idle),
        gr.update(interactive=not idle),
        gr.update(interactive=idle and some),
        gr.update(interactive=idle and some),
        screen.turns,
    ]


def _turn(desk: Desk, turn: Turn) -> str:
    return (
        render.asked(turn.question)
        + render.alert(turn.emergencies, "emergency")
        + render.alert(turn.privacy, "privacy")
        + render.panel(turn.panel, who(desk, turn.panel), lettered=False, retry=False)
    )


def wire(parts: Parts, desk: Desk, visits: Visits) -> None:
    """Join the components to `say` and `again`."""
    variant = parts.variant

    def send(
        question: str,
        temperature: float,
        top_p: float,
        tokens: float,
        seed: float | None,
        turns: Turns,
        request: gr.Request,
    ) -> Iterator[list[object]]:
        sampling = to_sampling(temperature, top_p, tokens, seed)
        screens = say(desk, visits, str(request.session_hash), variant, question, tuple(turns), sampling)
        yield from without_echo(paint(desk, variant, screen) for screen in screens)

    def retry(
        temperature: float, top_p: float, tokens: float, seed: float | None, turns: Turns, request: gr.Request
    ) -> Iterator[list[object]]:
        sampling = to_sampling(temperature, top_p, tokens, seed)
        screens = again(desk, visits, str(request.session_hash), variant, tuple(turns), sampling)
        yield from without_echo(paint(desk, variant, screen) for screen in screens)

    def clear() -> list[object]:
        return paint(desk, variant, Screen((), ""))

    def stop(request: gr.Request) -> None:
        visits.stop(str(request.session_hash), variant)

    def listen(
        events: list[Callable[..., object]], fn: Callable[..., object], inputs: list[gr.components.Component]
    ) -> gr.events.Dependency:
        event: gr.events.Dependency = gr.on(
            events, fn, inputs, parts.outputs, show_progress="hidden", trigger_mode="multiple", concurrency_id="engine",
            api_visibility="private",
        )  # fmt: skip
        return event

    sent = listen([parts.send.click, parts.box.submit], send, [parts.box, *parts.sampling.inputs, parts.turns])
    retried = listen([parts.retry.click], retry, [*parts.sampling.inputs, parts.turns])
    # An answer still on its way to the browser must not come back after Clear: its event ends with it.
    parts.clear.click(
        clear,
        None,
        parts.outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        cancels=[sent, retried],
    )
    parts.stop.click(stop, queue=False, show_progress="hidden", api_visibility="private")
