"""Components that more than one tab has, and what their values mean."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgrpo.engines.base import Sampling
from medgrpo.ui import render
from medgrpo.ui.examples import by_specialty

DEFAULTS = Sampling()
MOST_TOKENS = 1024


@dataclass(frozen=True)
class SamplingControls:
    """The four sliders and boxes, in the order in which handlers take them."""

    temperature: gr.Slider
    top_p: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [self.temperature, self.top_p, self.max_tokens, self.seed]


def sampling_controls() -> SamplingControls:
    """A folded block with what decides the next token."""
    with gr.Accordion("Sampling", open=False, elem_classes="sampling"):
        return SamplingControls(
            gr.Slider(0, 1.5, DEFAULTS.temperature, step=0.1, label="Temperature", info="0 repeats exactly"),
            gr.Slider(0.05, 1, DEFAULTS.top_p, step=0.05, label="Top-p", info="share of tokens kept"),
            gr.Slider(32, MOST_TOKENS, DEFAULTS.max_tokens, step=32, label="Most tokens", info="longest answer"),
            gr.Number(DEFAULTS.seed, label="Seed", precision=0, info="empty draws one"),
        )


def to_sampling(temperature: float, top_p: float, max_tokens: float, seed: float | None) -> Sampling:
    """The values of the controls as a Sampling; an empty box counts as the default, an empty seed as none."""
    return Sampling(
        temperature=DEFAULTS.temperature if temperature is None else float(temperature),
        top_p=float(top_p or DEFAULTS.top_p),
        max_tokens=min(MOST_TOKENS, max(1, int(max_tokens or DEFAULTS.max_tokens))),
        seed=None if seed is None else int(seed),
    )


def without_echo(screens: Iterable[list[object]]) -> Iterator[list[object]]:
    """The screens of a streaming event, and a last one that changes nothing.

    At the end of an event Gradio sends its last values once more, and by then a newer event may have written there.
    """
    screen: list[object] = []
    for screen in screens:
        yield screen
    yield [gr.skip() for _ in screen]


def page_html(value: str, elem_id: str, **options: Any) -> gr.HTML:
    """A place for rendered HTML: no template but the value itself, none of Gradio's prose styles, no script."""
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=None, padding=False, **options)


def example_buttons(target: str) -> gr.HTML:
    """Buttons that put an example into the text box with the element id `target`; they work in the browser alone."""
    groups = "".join(
        f'<div class="group"><span>{render.escape(specialty)}</span>'
        + "".join(
            f'<button type="button" data-do="example" data-target="{target}" data-case="{example.id}"'
            f' data-text="{render.escape(example.text)}">{render.escape(example.title)}</button>'
            for example in examples
        )
        + "</div>"
        for specialty, examples in by_specialty().items()
    )
    return page_html(
        f'<div class="examples" role="group" aria-label="Example cases">{groups}</div>', f"{target}-examples"
    )
