"""The Evaluate tab: measured answers, how sure the figures are, every case behind them, and a run of one's own.

`evaluate_view` decides what is shown, `render_evaluate` draws it, `evaluate_job` runs; this module places the components
and joins them. Figures come from files alone.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from medgrpo.engines.base import BASE, GRPO
from medgrpo.errors import MedGRPOError, RunError
from medgrpo.evaluation.report import markdown
from medgrpo.models import PROFILES
from medgrpo.settings import Settings
from medgrpo.ui import access, render, render_evaluate
from medgrpo.ui.controls import page_html
from medgrpo.ui.desk import Desk
from medgrpo.ui.evaluate_job import FEW, MOST, SOURCES, Job, Jobs, Order, check_size, unfinished
from medgrpo.ui.evaluate_view import ALL, HERE, OUTCOMES, Choice, Sight, choose, places, settled

VARIANTS = {"GRPO model": GRPO, "Base model": BASE}
TICK = 1.0
"""Seconds between looks at a running evaluation."""
SAVE = "(file) => file && document.dispatchEvent(new CustomEvent('medgrpo:save', {detail: JSON.parse(file)}))"


@dataclass(frozen=True)
class Asking:
    """The components that start and stop an evaluation."""

    variant: gr.Radio
    source: gr.Dropdown
    count: gr.Slider
    name: gr.Textbox
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML


@dataclass(frozen=True)
class Parts:
    """The components of the tab."""

    model: gr.Dropdown
    data: gr.Dropdown
    condition: gr.Dropdown
    register: gr.Dropdown
    chart: gr.HTML
    table: gr.HTML
    detail: gr.HTML
    outcome: gr.Radio
    cases: gr.HTML
    case: gr.HTML
    pick: gr.Textbox
    save_results: gr.Button
    save_report: gr.Button
    file: gr.Textbox
    more: gr.Button
    asking: Asking
    sight: gr.State
    timer: gr.Timer

    @property
    def view(self) -> list[Any]:
        """What `paint` fills, in its order."""
        pickers = [self.model, self.data, self.condition, self.register]
        return [
            *pickers,
            self.chart,
            self.table,
            self.detail,
            self.outcome,
            self.cases,
            self.case,
            self.more,
            self.sight,
        ]

    @property
    def running(self) -> list[Any]:
        """What `report` fills, in its order."""
        return [self.asking.progress, self.asking.run, self.asking.stop, self.timer]


def build(tab: gr.Tab, desk: Desk) -> None:
    """Place the components inside the tab and join them."""
    parts, jobs = _layout(), Jobs(desk)
    _wire_view(tab, parts, desk, jobs)
    _wire_run(parts, desk, jobs)


def paint(settings: Settings, sight: Sight) -> list[object]:
    """Everything the tab shows of a sight, as the values of `Parts.view`."""
    found = places(settings)
    profile = PROFILES.get(settings.model)
    sight = settled(sight, found, profile.title if profile else "")
    try:
        choice = choose(sight, found)
    except RunError as error:
        teach = f'<p class="teach">{render.escape(str(error))}</p>'
        empty = gr.Dropdown([ALL], value=ALL)
        pickers = [gr.Dropdown(list(found), value=sight.model or None), gr.Dropdown([], value=None), empty, empty]
        return [*pickers, teach, "", "", gr.skip(), "", "", gr.Button(visible=False), sight]
    sight, missing = choice.sight, choice.missing if choice.sight.model == HERE else 0
    return [
        gr.Dropdown(list(found), value=sight.model),
        gr.Dropdown(list(found[sight.model]), value=sight.data),
        gr.Dropdown([ALL, *choice.conditions], value=sight.condition),
        gr.Dropdown([ALL, *choice.registers], value=sight.register),
        render_evaluate.chart(choice),
        render_evaluate.filters(choice) + render_evaluate.sentences(choice) + render_evaluate.table(choice),
        render_evaluate.parts(choice) + render_evaluate.confusers(choice.arm),
        gr.Radio(label=f"Cases of {choice.arm.title}", value=sight.outcome),
        render_evaluate.cases(choice),
        render_evaluate.case(choice),
        gr.Button(f"Go on: {missing} answers are missing", visible=missing > 0),
        sight,
    ]


def picked(settings: Settings, sight: Sight, message: str) -> list[object]:
    """What a click on a bar, a case or a page changes; what stays is skipped, so that folded blocks keep still."""
    after = sight.after(message)
    values = paint(settings, after)
    return [gr.skip()] * 4 + values[4:] if after.arm != sight.arm else [gr.skip()] * 8 + values[8:]


def report(jobs: Jobs) -> list[object]:
    """Where the running evaluation stands, as the values of `Parts.running`."""
    job = jobs.last
    running = job is not None and job.running
    return [
        render_evaluate.progress(job),
        gr.Button(interactive=not running),
        gr.Button(interactive=running),
        gr.Timer(TICK, active=running),
    ]


def results_file(choice: Choice) -> str:
    """The answers of the chosen arm as a file for the browser: JSON with name, type and text."""
    name = f"{choice.evaluation.folder.name}-{choice.arm.name}.jsonl"
    text = "".join(json.dumps(result.record(), ensure_ascii=False) + "\n" for result in choice.arm.results)
    return json.dumps({"name": name, "type": "application/jsonl", "text": text})


def report_file(choice: Choice) -> str:
    """The report of the evaluation as a file for the browser, written from its answers."""
    name = f"{choice.evaluation.folder.name}-report.md"
    return json.dumps({"name": name, "type": "text/markdown", "text": markdown(choice.evaluation)})


def start(desk: Desk, jobs: Jobs, visitor: str, most: int, variant: str, data: str, count: float, name: str) -> Job:
    """Begin an evaluation of at most `most` cases.

    Raises:
        MedGRPOError: it cannot be run; the sentence says why.
    """
    order = Order.of(desk.settings, VARIANTS.get(variant, GRPO), data, int(count or 0), name or "", most)
    return jobs.start(order, visitor)


def go_on(desk: Desk, jobs: Jobs, visitor: str, most: int, sight: Sight) -> Job:
    """Go on with the chosen evaluation of this machine.

    Raises:
        MedGRPOError: it is complete, has more than `most` cases, or is of another adapter.
    """
    folder: Path | None = places(desk.settings).get(sight.model, {}).get(sight.data) if sight.model == HERE else None
    order = unfinished(folder) if folder else None
    if order is None:
        raise RunError("This evaluation is complete: there is nothing to go on with.")
    check_size(len(order.cases), most)
    return jobs.start(order, visitor)


def _layout() -> Parts:
    with gr.Row(elem_classes="ev-pickers"):
        model = gr.Dropdown([], label="Model", elem_id="evaluate-model", filterable=False)
        data = gr.Dropdown([], label="Data set", elem_id="evaluate-data", filterable=False)
        condition = gr.Dropdown([ALL], value=ALL, label="Condition", elem_id="evaluate-condition")
        register = gr.Dropdown([ALL], value=ALL, label="Register", elem_id="evaluate-register", filterable=False)
    chart = page_html('<p class="teach">Loading the evaluation.</p>', "evaluate-chart")
    table = page_html("", "evaluate-table")
    detail = page_html("", "evaluate-detail")
    outcome = gr.Radio(OUTCOMES, value=ALL, label="Cases", elem_id="evaluate-outcome")
    cases = page_html("", "evaluate-cases")
    case = page_html("", "evaluate-case")
    with gr.Row(elem_classes="ev-save"):
        save_results = gr.Button("Save answers (JSONL)", elem_id="evaluate-save-results", size="sm")
        save_report = gr.Button("Save report (Markdown)", elem_id="evaluate-save-report", size="sm")
        more = gr.Button("Go on", elem_id="evaluate-more", size="sm", visible=False)
    pick = gr.Textbox(visible="hidden", elem_id=render_evaluate.PICK)
    file = gr.Textbox(visible="hidden", elem_id="evaluate-file")
    return Parts(
        model, data, condition, register, chart, table, detail, outcome, cases, case, pick,
        save_results, save_report, file, more, _layout_asking(), gr.State(Sight()), gr.Timer(TICK, active=False),
    )  # fmt: skip


def _layout_asking() -> Asking:
    page_html(
        '<div class="intro"><h2>Run an evaluation</h2><p>The loaded model answers cases with known answers, one after '
        "another, between the questions of other visitors. It goes on when you leave, and can be stopped and taken up "
        "again under the same name.</p></div>",
        "evaluate-intro",
    )
    with gr.Row(elem_classes="ev-run"):
        variant = gr.Radio(list(VARIANTS), value="GRPO model", label="Model", elem_id="evaluate-variant")
        source = gr.Dropdown(
            list(SOURCES), value=next(iter(SOURCES)), label="Cases", elem_id="evaluate-source", filterable=False
        )
        count = gr.Slider(4, MOST, FEW, step=4, label="Number of cases", elem_id="evaluate-count")
        name = gr.Textbox(label="Name", placeholder="made from the choices", elem_id="evaluate-name", max_lines=1)
    with gr.Row(elem_classes="actions"):
        run = gr.Button("Evaluate", variant="primary", elem_id="evaluate-run", min_width=96)
        stop = gr.Button("Stop", elem_id="evaluate-stop", interactive=False, min_width=96)
    return Asking(variant, source, count, name, run, stop, page_html("", "evaluate-progress"))


def _wire_view(tab: gr.Tab, parts: Parts, desk: Desk, jobs: Jobs) -> None:
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def opened(sight: Sight) -> list[object]:
        return paint(desk.settings, sight) + report(jobs)

    def changed(field: str) -> Callable[[Sight, str], list[object]]:
        def change(sight: Sight, value: str) -> list[object]:
            return paint(desk.settings, sight.with_(field, value or ""))

        return change

    def pick(sight: Sight, message: str) -> list[object]:
        return picked(desk.settings, sight, message or "")

    def saved(make: Callable[[Choice], str]) -> Callable[[Sight], str]:
        def save(sight: Sight) -> str:
            try:
                return make(choose(settled(sight, found := places(desk.settings), ""), found))
            except MedGRPOError as error:
                raise gr.Error(str(error), print_exception=False) from error

        return save

    tab.select(opened, [parts.sight], [*parts.view, *parts.running], **quiet)
    for field in ("model", "data", "condition", "register", "outcome"):
        component = getattr(parts, field)
        component.input(changed(field), [parts.sight, component], parts.view, **quiet)
    parts.pick.change(pick, [parts.sight, parts.pick], parts.view, **quiet)
    for button, make in ((parts.save_results, results_file), (parts.save_report, report_file)):
        button.click(saved(make), [parts.sight], [parts.file], **quiet).success(None, [parts.file], None, js=SAVE)


def _wire_run(parts: Parts, desk: Desk, jobs: Jobs) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def begin(request: gr.Request, order: Callable[[str, int], Job]) -> list[object]:
        free = not access.refusal(desk.settings, request, access.signed_in(request))
        try:
            order(str(request.session_hash), MOST if free else FEW)
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return report(jobs)

    def run(variant: str, data: str, count: float, name: str, request: gr.Request) -> list[object]:
        return begin(request, lambda who, most: start(desk, jobs, who, most, variant, data, count, name))

    def more(sight: Sight, request: gr.Request) -> list[object]:
        return begin(request, lambda who, most: go_on(desk, jobs, who, most, sight))

    def stop(request: gr.Request) -> list[object]:
        job = jobs.last
        if job is not None and job.running:
            if job.visitor != str(request.session_hash):
                access.check(desk.settings, request)
            job.stop.set()
        return report(jobs)

    def look(sight: Sight, request: gr.Request) -> list[object]:
        job = jobs.last
        if job is None or job.running or job.visitor != str(request.session_hash):
            return [gr.skip()] * len(parts.view) + report(jobs)
        return paint(desk.settings, Sight(model=HERE, data=job.order.name, arm=job.title)) + report(jobs)

    asking = parts.asking
    chosen = [asking.variant, asking.source, asking.count, asking.name]
    asking.run.click(run, chosen, parts.running, **quiet)
    parts.more.click(more, [parts.sight], parts.running, **quiet)
    asking.stop.click(stop, None, parts.running, queue=False, **quiet)
    parts.timer.tick(look, [parts.sight], [*parts.view, *parts.running], queue=False, **quiet)
