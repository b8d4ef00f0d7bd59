"""Push to the Hub, and launch elsewhere, on the Train tab.

The token is injected by Gradio into the handler that needs it (the visitor's, on a Space) or read from the environment
there, and handed on as an argument; no component, state or log holds it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgrpo.errors import MedGRPOError, RunError
from medgrpo.settings import Settings
from medgrpo.training.hub import Progress, PushReport, find_token, push
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui import recorded, train_jobs
from medgrpo.ui.background import Look, watched
from medgrpo.ui.controls import page_html
from medgrpo.ui.render import escape
from medgrpo.ui.render_form import sentence

TEACH = (
    "Sends the final adapter of the run above with its model card: use, limits, data, rewards, curves and the table before "
    "and after. Private unless you say otherwise."
)


@dataclass(frozen=True)
class Parts:
    """The components of this part of the tab."""

    name: gr.Textbox
    public: gr.Checkbox
    push: gr.Button
    said: gr.HTML
    jobs: train_jobs.Parts


def layout(settings: Settings) -> Parts:
    """Place the components."""
    with gr.Column(elem_id="train-hub"):
        page_html(f"<h3>Push to the Hub</h3><p>{escape(TEACH)}</p><p>{whose(settings)}</p>", "hub-title")
        name = gr.Textbox(
            label="Repository", placeholder="your-name/medgrpo-smollm2", max_lines=1, max_length=100, elem_id="hub-name"
        )
        public = gr.Checkbox(False, label="Public: everyone can see it", elem_id="hub-public", container=False)
        with gr.Row(elem_classes="actions"):
            button = gr.Button("Push to the Hub", elem_id="hub-push", min_width=96)
        said = page_html("", "hub-said", visible=False, elem_classes="beside")
        jobs = train_jobs.layout(settings)
    return Parts(name, public, button, said, jobs)


def whose(settings: Settings) -> str:
    """Whose token is used, in a sentence of HTML."""
    if settings.on_space:
        return "Done with your own sign-in; nothing of it is kept."
    return "Done with the token in HF_TOKEN or of <code>hf auth login</code> on this machine."


class Handler:
    """What the button does; its arguments are those of `wire`."""

    def __init__(
        self,
        find: Callable[[str], RunDirectory],
        may: Callable[[gr.Request], None],
        settings: Settings,
        endpoint: str | None = None,
    ) -> None:
        self._find, self._may, self._settings, self._endpoint = find, may, settings, endpoint

    def send(
        self, run_id: str, name: str, public: bool, request: gr.Request, signed_in: gr.OAuthToken | None
    ) -> Iterator[list[object]]:
        """Push the run's adapter, telling how far it is."""
        self._may(request)
        try:
            token = find_token(signed_in.token if signed_in else None, self._settings.on_space)
            run = pushable(run_id, self._find)
        except MedGRPOError as error:
            yield [gr.HTML(sentence(str(error)), visible=True), gr.Button(interactive=True)]
            return

        def work(report: Callable[[Progress], None]) -> PushReport:
            repository = (name or "").strip()
            return push(run, repository, token=token, private=not public, endpoint=self._endpoint, on_progress=report)

        for look in watched(work):
            ended = look.result is not None or look.error is not None
            yield [gr.HTML(shown(look), visible=True), gr.Button(interactive=ended)]


def wire(
    parts: Parts,
    chosen: Any,
    find: Callable[[str], RunDirectory],
    may: Callable[[gr.Request], None],
    settings: Settings,
    endpoint: str | None = None,
) -> None:
    """Join the components.

    Args:
        chosen: component that holds the run's id.
        find: the run's folder, for whoever may see it.
        may: raises gr.Error for people who may not train here; called before anything else.
        endpoint: of the Hub, for tests.
    """
    parts.push.click(
        Handler(find, may, settings, endpoint).send, [chosen, parts.name, parts.public], [parts.said, parts.push],
        show_progress="hidden", concurrency_id="hub", concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    train_jobs.wire(parts.jobs, chosen, find, may, settings, endpoint)


def pushable(run_id: str | None, find: Callable[[str], RunDirectory]) -> RunDirectory:
    """The run's folder. Raises RunError if none is chosen, or it is a recording."""
    if not run_id:
        raise RunError("No run is chosen: choose one from the list above.")
    if recorded.is_recorded(run_id):
        raise RunError("This is a recording that ships with MedGRPO: choose a run of your own from the list above.")
    return find(run_id)


def shown(look: Look[Progress, PushReport]) -> str:
    """How far a push is, as HTML."""
    if look.error is not None:
        return sentence(str(look.error))
    if look.result is not None:
        return done(look.result)
    progress = look.progress or Progress(0, 0, "Collecting the files")
    share = progress.done / progress.total if progress.total else 0.0
    return (
        f'<div class="progress"><progress max="1" value="{share:.3f}" aria-label="Sent">{share:.0%}</progress>'
        f"<span>{share:.0%}</span></div>" + sentence(f"{progress.says} ({look.seconds:.0f} s).", "wait")
    )


def done(report: PushReport) -> str:
    """What stands on the Hub, with its address."""
    seen = "only you can see it" if report.private else "everyone can see it"
    size = sum(report.files.values()) / 1e6
    link = f'<a href="{escape(report.url)}" target="_blank" rel="noopener noreferrer">{escape(report.url)}</a>'
    return (
        f'<p class="good" role="status"><i aria-hidden="true">●</i> Published and checked: {link}, {len(report.files)} files, '
        f"{size:.1f} MB, commit {escape(report.commit[:10])}; {seen}.</p>"
    )
