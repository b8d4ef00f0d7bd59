"""The Train tab: left the form, right the list of runs and the run that is chosen, below what becomes of its adapter.

The tab is the same for everybody; what a visitor may not do is hidden when the page loads and refused by each handler.
Nothing here owns a run: every look reads the run directories, so the page can be closed and opened at any time.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from medgrpo.engines import choose
from medgrpo.errors import MedGRPOError, RunError
from medgrpo.settings import Settings
from medgrpo.training import adapters
from medgrpo.training.engine_room import EngineRoom
from medgrpo.training.machine import here
from medgrpo.training.manager import RunInfo, RunManager
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui import access, recorded, render_form, train_afterwards, train_form, train_hub, train_live
from medgrpo.ui.controls import page_html
from medgrpo.ui.desk import Desk

TICK = 2.0
"""Seconds between two looks at the runs while the tab is in use."""
UNLOADED = (
    "The chat is unloaded while a run needs the GPU, and comes back when it ends: the Train tab shows how far it is."
)
FRESH = 1.0
"""Seconds for which a list of the runs is good for every visitor."""


class Runs:
    """The runs of this machine and the recordings, for whoever may see them.

    Args:
        settings: of the process.
        manager: of the runs.
    """

    def __init__(self, settings: Settings, manager: RunManager) -> None:
        self.settings = settings
        self.manager = manager
        self._lock = threading.Lock()
        self._listed: tuple[float, list[RunInfo]] = (-FRESH, [])

    def reason(self, request: gr.Request | None) -> str:
        """Why this visitor sees recordings only; "" if they may train."""
        return access.refusal(self.settings, request, access.signed_in(request))

    def listed(self) -> list[RunInfo]:
        """Every run, newest first; empty if the folder cannot be read."""
        with self._lock:
            made, found = self._listed
            if time.monotonic() - made >= FRESH:
                try:
                    found = self.manager.runs()
                except RunError:
                    found = []
                self._listed = (time.monotonic(), found)
            return found

    def forget(self) -> None:
        """The next look reads the folders again."""
        with self._lock:
            self._listed = (-FRESH, [])

    def seen_by(self, request: gr.Request | None) -> list[RunInfo]:
        return [] if self.reason(request) else self.listed()

    def find(self, run_id: str) -> RunDirectory:
        """The folder of a run or recording, for the visitor whose request is being served.

        Raises:
            RunError: there is none, or the visitor may not see it.
        """
        if recorded.is_recorded(run_id):
            try:
                return recorded.recordings()[run_id]
            except KeyError:
                raise RunError(f"There is no recording {run_id!r}: choose one from the list.") from None
        if reason := self.reason(access.current_request()):
            raise RunError(reason)
        return self.manager.directory(run_id)

    def others(self) -> list[tuple[str, str]]:
        """Label and id of what a run can be laid over."""
        recordings = [(f"{recorded.title(each)} (recording)", each) for each in recorded.recordings()]
        return [(info.id, info.id) for info in self.seen_by(access.current_request())] + recordings

    def first(self, wanted: str, request: gr.Request | None) -> str:
        """The run that a page shows when it opens: the one in its address, one at work, the newest, a recording."""
        infos, recordings = self.seen_by(request), list(recorded.recordings())
        ids = [info.id for info in infos]
        if wanted in (*ids, *recordings):
            return wanted
        active = next((info.id for info in infos if info.active), "")
        return active or (ids or recordings or [""])[0]


@dataclass(frozen=True)
class Parts:
    """The components of the tab that belong to no part of it."""

    form_box: gr.Column
    reason: gr.HTML
    list: gr.HTML
    pick: gr.Textbox
    controls: gr.Row
    stop: gr.Button
    cancel: gr.Button
    resume: gr.Button
    said: gr.HTML
    chosen: gr.State
    seen: gr.State
    timer: gr.Timer


def build(
    tab: gr.Tab,
    demo: gr.Blocks,
    desk: Desk,
    settings: Settings,
    runs: Runs,
    after: Callable[..., Any],
    header: list[Any],
) -> None:
    """Place the tab and join it to the runs.

    Args:
        after, header: function and outputs that show another adapter in the head of the page.
    """
    if settings.on_space and settings.sign_in:
        gr.LoginButton(size="sm", elem_id="train-sign-in")
    reason = page_html("", "train-reason", visible=False)
    with gr.Row(elem_id="train"):
        with gr.Column(scale=2, min_width=300, visible=False, elem_id="train-form") as form_box:
            form = train_form.layout(runs.manager)
        with gr.Column(scale=5, min_width=300, elem_id="train-right"):
            parts, live = _layout_right(form_box, reason)
    with gr.Row(visible=False, elem_id="train-below") as below:
        with gr.Column(min_width=300):
            afterwards = train_afterwards.layout()
        with gr.Column(min_width=300):
            hub = train_hub.layout(settings)
    show = _show(runs)
    make_room(desk, runs.manager)
    shown = [parts.list, parts.controls, parts.stop, parts.cancel, parts.resume, afterwards.box, afterwards.adapter]
    shown += [*afterwards.buttons, parts.seen]
    train_form.wire(form, settings, runs.manager)
    train_live.wire(live, parts.chosen, runs.find, parts.timer, runs.others)
    train_hub.wire(hub, parts.chosen, runs.find, partial(access.check, settings), settings)
    train_afterwards.wire(afterwards, desk, runs.manager, settings, form.filled, train_form.fill, after, header)
    _wire_start(form, parts, runs)
    _wire_controls(parts, runs)
    _wire_page(tab, demo, parts, form, runs, show, shown, below)


def make_room(desk: Desk, manager: RunManager) -> EngineRoom | None:
    """Keep the chat engine off the GPU while a run needs it, whether anybody looks or not; None without a GPU."""
    machine = here(manager.folder)
    if not machine.gpus:
        return None
    share = desk.settings.gpu_memory if choose(desk.settings) == "vllm" else 0.0
    room = EngineRoom(manager, machine, lambda: desk.rest(UNLOADED), desk.wake, share)
    room.watch()
    return room


def _layout_right(form_box: gr.Column, reason: gr.HTML) -> tuple[Parts, Any]:
    listed = page_html("", "train-runs")
    pick = gr.Textbox("", elem_id="train-pick", visible="hidden")
    with gr.Row(elem_classes="actions", visible=False, elem_id="train-controls") as controls:
        stop = gr.Button("Stop and save", elem_id="train-stop", min_width=96)
        cancel = gr.Button("Cancel", elem_id="train-cancel", min_width=96)
        resume = gr.Button("Resume", elem_id="train-resume", min_width=96)
    said = page_html("", "train-said", visible=False, elem_classes="beside")
    live = train_live.layout()
    chosen, seen = gr.State(""), gr.State("")
    timer = gr.Timer(TICK, active=False)
    return Parts(form_box, reason, listed, pick, controls, stop, cancel, resume, said, chosen, seen, timer), live


def _show(runs: Runs) -> Callable[..., list[object]]:
    """A look at the list and at what can be done with the chosen run; unchanged values are not sent again."""

    def show(chosen: str, before: str, adapter: str | None, request: gr.Request) -> list[object]:
        infos = runs.seen_by(request)
        may = not runs.reason(request)
        recordings = {each: recorded.title(each) for each in recorded.recordings()}
        html = render_form.runs(infos, recordings, chosen)
        info = next((each for each in infos if each.id == chosen), None)
        found = adapters.adapters_of(info) if info else []
        options = [("final adapter" if each.step is None else f"checkpoint {each.step}", each.id) for each in found]
        ids = [each.id for each in found]
        value = adapter if adapter in ids else ids[0] if ids else None
        now = repr((html, options, value, info and (info.phase, info.resumable), may))
        if now == before:
            return [gr.skip() for _ in range(11)]
        working = info is not None and (info.active or info.position > 0)
        return [
            html,
            gr.Row(visible=info is not None),
            gr.Button(interactive=working),
            gr.Button(interactive=working),
            gr.Button(interactive=info is not None and info.resumable),
            gr.Column(visible=may),
            gr.Dropdown(options, value=value, interactive=bool(ids)),
            *(gr.Button(interactive=bool(ids)) for _ in range(3)),
            now,
        ]

    return show


def _wire_start(form: train_form.Parts, parts: Parts, runs: Runs) -> None:
    def start(text: str, name: str, request: gr.Request) -> Iterator[list[object]]:
        access.check(runs.settings, request)
        if reason := access.incapable():
            raise gr.Error(reason, print_exception=False)
        run_id = ""
        form.checks.starting(str(request.session_hash), text)
        for found, doing, run_id in train_form.begin(runs.manager, text, name):
            yield [*train_form.paint(found, doing), run_id or gr.skip(), gr.Button(interactive=not doing)]
        if run_id:
            runs.forget()

    form.start.click(
        start, [form.yaml, form.name], [*form.shown, parts.chosen, form.start], show_progress="hidden",
        concurrency_id="train-start", concurrency_limit=4, api_visibility="private",
    )  # fmt: skip


def _wire_controls(parts: Parts, runs: Runs) -> None:
    words = {
        "stop": "Asked to stop. The run ends after this step, saves and can be resumed.",
        "cancel": "Cancelled. The run is asked to end, and is ended if it doesn't within a minute.",
        "resume": "Goes on from its last whole checkpoint.",
    }

    def act(what: str) -> Callable[..., object]:
        def handle(chosen: str, request: gr.Request) -> object:
            access.check(runs.settings, request)
            if what == "resume" and (reason := access.incapable()):
                return gr.HTML(render_form.sentence(reason), visible=True)
            try:
                getattr(runs.manager, what)(chosen)
            except MedGRPOError as error:
                return gr.HTML(render_form.sentence(str(error)), visible=True)
            runs.forget()
            return gr.HTML(render_form.sentence(words[what], "good"), visible=True)

        return handle

    for what, button in (("stop", parts.stop), ("cancel", parts.cancel), ("resume", parts.resume)):
        button.click(act(what), [parts.chosen], [parts.said], show_progress="minimal", api_visibility="private")


def _wire_page(
    tab: gr.Tab, demo: gr.Blocks, parts: Parts, form: train_form.Parts, runs: Runs,
    show: Callable[..., list[object]], shown: Sequence[Any], below: gr.Row,
) -> None:  # fmt: skip
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    adapter = shown[6]

    def arrive(request: gr.Request) -> list[object]:
        reason = runs.reason(request)
        incapable = "" if reason else access.incapable()
        says = "".join(render_form.sentence(each, "wait") for each in (reason, incapable) if each)
        wanted = str(request.query_params.get("run", ""))
        usable = not reason and not incapable
        return [gr.Column(visible=usable), gr.Row(visible=not reason), gr.HTML(says, visible=bool(says)),
                runs.first(wanted, request)]  # fmt: skip

    def pick(asked: str) -> list[object]:
        return [asked.partition("#")[0], gr.HTML("", visible=False)]

    # through the queue, because the browser learns of a State's change from such events only
    heard = {key: value for key, value in quiet.items() if key != "queue"}
    look = {"fn": show, "inputs": [parts.chosen, parts.seen, adapter], "outputs": list(shown)}
    demo.load(arrive, None, [parts.form_box, below, parts.reason, parts.chosen], **heard).then(**look, **quiet)
    tab.select(lambda: gr.Timer(active=True), None, [parts.timer], **quiet)
    tab.select(lambda text, draft: gr.skip() if draft else text, [form.yaml, form.draft], [form.draft], **heard)
    parts.pick.change(pick, [parts.pick], [parts.chosen, parts.said], **heard)
    gr.on([parts.timer.tick, parts.chosen.change], **look, **quiet)
