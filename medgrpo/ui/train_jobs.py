"""Launch elsewhere: a run on a rented GPU through Hugging Face Jobs, with its price before and its log afterwards.

Nothing about a job is kept on this page: the Hub's own list finds jobs again after a reload, on any machine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medgrpo.errors import MedGRPOError, RunError
from medgrpo.settings import Settings
from medgrpo.training.config import RunConfig, read_config
from medgrpo.training.hub import Progress, find_token
from medgrpo.training.jobs import MINUTES, Flavour, Job, Jobs
from medgrpo.training.presets import presets
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui.background import watched
from medgrpo.ui.controls import page_html
from medgrpo.ui.render import escape
from medgrpo.ui.render_form import sentence
from medgrpo.ui.state import Visits

SHOWN = "As in the run shown above"
PLACE = "jobs"
POLL = 3.0
LOG_LINES = 200
TEACH = (
    "Rents a GPU at Hugging Face for one run and pushes the adapter to your private repository when it ends. The account that "
    "signs in pays by the minute; its credit must be positive."
)
SHAPES = {"RUNNING": "◌", "SCHEDULING": "◌", "COMPLETED": "●", "CANCELED": "■", "ERROR": "▲", "DELETED": "■"}


@dataclass(frozen=True)
class Parts:
    """The components of this part of the tab."""

    box: gr.Accordion
    config: gr.Dropdown
    repository: gr.Textbox
    flavour: gr.Dropdown
    minutes: gr.Number
    start: gr.Button
    job: gr.Dropdown
    find: gr.Button
    watch: gr.Button
    cancel: gr.Button
    said: gr.HTML
    state: gr.HTML
    log: gr.Textbox
    flavours: gr.State


def layout(settings: Settings) -> Parts:
    """Place the components."""
    with gr.Accordion("Launch elsewhere: Hugging Face Jobs", open=False, elem_id="jobs") as box:
        page_html(f"<p>{escape(TEACH)}</p>", "jobs-intro")
        config = gr.Dropdown([SHOWN, *presets()], value=SHOWN, label="Configuration", elem_id="jobs-config")
        repository = gr.Textbox(
            label="Repository for the adapter", placeholder="your-name/medgrpo-run", max_lines=1, max_length=100,
            elem_id="jobs-name",
        )  # fmt: skip
        flavour = gr.Dropdown(
            [], label="Machine and price", elem_id="jobs-flavour", info="Asked from the Hub on opening."
        )
        minutes = gr.Number(
            60, label="Time limit, minutes", precision=0, minimum=MINUTES[0], maximum=MINUTES[1], elem_id="jobs-minutes",
            info="The run saves and pushes shortly before.",
        )  # fmt: skip
        start = gr.Button("Choose a machine first", interactive=False, elem_id="jobs-start")
        said = page_html("", "jobs-said", visible=False, elem_classes="beside")
        job = gr.Dropdown([], label="Jobs", elem_id="jobs-job", info="Jobs go on when this page closes.")
        with gr.Row(elem_classes="actions"):
            find = gr.Button("Find my jobs", elem_id="jobs-find", min_width=96)
            watch = gr.Button("Watch", elem_id="jobs-watch", min_width=96)
            cancel = gr.Button("Cancel job", elem_id="jobs-cancel", min_width=96)
        state = page_html("", "jobs-state", visible=False, elem_classes="beside")
        log = gr.Textbox(label="Log", lines=8, max_lines=16, interactive=False, visible=False, elem_id="jobs-log")
    return Parts(
        box, config, repository, flavour, minutes, start, job, find, watch, cancel, said, state, log, gr.State([])
    )


def offer(flavours: Sequence[Flavour], name: str | None, minutes: float | None) -> gr.Button:
    """The start button, which carries the price: nothing is started at a cost that was not read first."""
    found = next((flavour for flavour in flavours if flavour.name == name), None)
    if found is None:
        return gr.Button("Choose a machine first", interactive=False)
    if not minutes or not MINUTES[0] <= minutes <= MINUTES[1]:
        return gr.Button(f"Choose a time limit of {MINUTES[0]} to {MINUTES[1]} minutes", interactive=False)
    price = f"${found.cost(minutes):.2f}"
    rate = f"${found.dollars_an_hour:.2f} an hour × {minutes:.0f} min"
    return gr.Button(f"Start for at most {price} ({rate})", interactive=True)


def choices(flavours: Sequence[Flavour]) -> list[tuple[str, str]]:
    """Label and name of each machine."""
    return [(f"{each.title}: {each.detail}, ${each.dollars_an_hour:.2f} an hour", each.name) for each in flavours]


def configuration(name: str, run_id: str | None, find: Callable[[str], RunDirectory]) -> RunConfig:
    """The configuration that a person chose: of the run shown, or a preset."""
    if name in presets():
        return read_config(presets()[name])
    if not run_id:
        raise RunError("No run is shown: choose one from the list above, or a preset.")
    return read_config(find(run_id).config_file)


def state(job: Job, flavours: Sequence[Flavour] = ()) -> str:
    """How a job is, and what it has cost so far, as HTML."""
    found = next((flavour for flavour in flavours if flavour.name == job.flavour), None)
    cost = f", about ${found.cost(job.seconds / 60):.2f} so far" if found else ""
    shape, says = SHAPES.get(job.stage, "◌"), f" {job.message}" if job.message else ""
    kind = "flaw" if job.stage == "ERROR" else "good" if job.stage == "COMPLETED" else "wait"
    goes = f" Pushes to {job.repository}." if job.repository else ""
    link = f'<a href="{escape(job.url)}" target="_blank" rel="noopener noreferrer">its page on the Hub</a>'
    return (
        f'<p class="{kind}" role="status"><i aria-hidden="true">{shape}</i> <b>{escape(job.stage.lower())}</b> on '
        f"{escape(job.flavour)}, {job.seconds / 60:.0f} min{cost}.{escape(says)}{escape(goes)} {link}</p>"
    )


class Handlers:
    """What the buttons do. Each asks `may` before anything else, and takes the token as Gradio hands it in."""

    def __init__(
        self,
        find: Callable[[str], RunDirectory],
        may: Callable[[gr.Request], None],
        settings: Settings,
        endpoint: str | None,
    ) -> None:
        self._find, self._may, self._settings, self._endpoint = find, may, settings, endpoint
        self._visits = Visits()

    def _jobs(self, signed_in: gr.OAuthToken | None) -> Jobs:
        token = find_token(signed_in.token if signed_in else None, self._settings.on_space)
        return Jobs(token, self._endpoint)

    def prices(self, request: gr.Request, signed_in: gr.OAuthToken | None) -> list[object]:
        """Fill the list of machines."""
        self._may(request)
        try:
            found = self._jobs(signed_in).flavours()
        except MedGRPOError as error:
            return [gr.skip(), gr.skip(), _say(str(error))]
        return [found, gr.Dropdown(choices(found)), gr.HTML("", visible=False)]

    def start(
        self, run_id: str, config: str, name: str, flavour: str, minutes: float, request: gr.Request,
        signed_in: gr.OAuthToken | None,
    ) -> Iterator[list[object]]:  # fmt: skip
        """Pack, upload and start a job, telling how far it is."""
        self._may(request)
        try:
            jobs, wanted = self._jobs(signed_in), configuration(config, run_id, self._find)
        except MedGRPOError as error:
            yield [_say(str(error)), gr.skip(), gr.skip()]
            return
        expires = float(signed_in.expires_at) if signed_in and signed_in.expires_at else None

        def launch(report: Callable[[Progress], None]) -> Job:
            repository = (name or "").strip()
            return jobs.launch(wanted, repository, flavour, minutes or 0, expires=expires, on_progress=report)

        for look in watched(launch):
            if look.result is not None:
                says = _say("Started. Its log appears below; the page may be closed.", "good")
                job = gr.Dropdown([label(look.result)], value=look.result.id)
                yield [says, job, gr.Button(interactive=True)]
            elif look.error is not None:
                yield [_say(str(look.error)), gr.Dropdown(value=None), gr.Button(interactive=True)]
            else:
                doing = look.progress.says if look.progress else "Packing sources and configuration"
                yield [_say(f"{doing} ({look.seconds:.0f} s).", "wait"), gr.skip(), gr.Button(interactive=False)]

    def mine(self, request: gr.Request, signed_in: gr.OAuthToken | None) -> list[object]:
        """Fill the list of jobs."""
        self._may(request)
        try:
            found = self._jobs(signed_in).mine()
        except MedGRPOError as error:
            return [gr.skip(), _say(str(error))]
        if not found:
            return [gr.Dropdown([], value=None), _say("There is no job of MedGRPO yet.", "wait")]
        return [gr.Dropdown([label(job) for job in found], value=found[0].id), gr.HTML("", visible=False)]

    def watch(
        self, job_id: str | None, flavours: list[Flavour], request: gr.Request, signed_in: gr.OAuthToken | None
    ) -> Iterator[list[object]]:
        """Status and log until the job ends, or this visitor watches another one."""
        self._may(request)
        if not job_id:
            yield [gr.skip(), gr.skip()]
            return
        visitor = str(request.session_hash)
        stop = self._visits.begin(visitor, PLACE)
        try:
            jobs = self._jobs(signed_in)
            while not stop.is_set():
                job = jobs.look(job_id)
                yield [gr.HTML(state(job, flavours), visible=True), gr.skip()]
                lines = jobs.logs(job_id, LOG_LINES)
                yield [gr.skip(), gr.Textbox("\n".join(lines), visible=bool(lines))]
                if job.ended:
                    return
                stop.event.wait(POLL)
        except MedGRPOError as error:
            yield [_say(str(error)), gr.skip()]
        finally:
            stop.set()
            self._visits.end(visitor, PLACE, stop)

    def cancel(
        self, job_id: str | None, flavours: list[Flavour], request: gr.Request, signed_in: gr.OAuthToken | None
    ) -> object:
        """End a job."""
        self._may(request)
        try:
            if not job_id:
                raise RunError("No job is chosen: Find my jobs lists them.")
            return gr.HTML(state(self._jobs(signed_in).cancel(job_id), flavours), visible=True)
        except MedGRPOError as error:
            return _say(str(error))


def wire(
    parts: Parts,
    chosen: Any,
    find: Callable[[str], RunDirectory],
    may: Callable[[gr.Request], None],
    settings: Settings,
    endpoint: str | None = None,
) -> None:
    """Join the components; see `train_hub.wire` for the arguments."""
    do = Handlers(find, may, settings, endpoint)
    calm: dict[str, Any] = {
        "show_progress": "minimal", "concurrency_id": "jobs", "concurrency_limit": 8, "api_visibility": "private",
    }  # fmt: skip
    live = calm | {"show_progress": "hidden", "trigger_mode": "multiple"}
    watching = {"fn": do.watch, "inputs": [parts.job, parts.flavours], "outputs": [parts.state, parts.log], **live}
    wanted = [chosen, parts.config, parts.repository, parts.flavour, parts.minutes]
    offered = {"fn": offer, "inputs": [parts.flavours, parts.flavour, parts.minutes], "outputs": [parts.start]}
    parts.box.expand(do.prices, None, [parts.flavours, parts.flavour, parts.said], **calm)
    gr.on(
        [parts.flavour.change, parts.minutes.change], **offered, queue=False, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    started = parts.start.click(
        do.start, wanted, [parts.said, parts.job, parts.start], **(live | {"trigger_mode": "once"})
    )
    started.success(**watching)
    parts.find.click(do.mine, None, [parts.job, parts.state], **calm)
    parts.watch.click(**watching)
    parts.cancel.click(do.cancel, [parts.job, parts.flavours], [parts.state], **calm)


def _say(words: str, kind: str = "flaw") -> gr.HTML:
    return gr.HTML(sentence(words, kind), visible=True)


def label(job: Job) -> tuple[str, str]:
    """Label and id of a job in the list."""
    return f"{job.created} {job.flavour} {job.stage.lower()} {job.repository}".strip(), job.id
