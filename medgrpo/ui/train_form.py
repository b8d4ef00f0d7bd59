"""The start form: a preset, a few fields, the YAML they stand for, what is wrong with it, what it will take, Start.

The YAML text is the truth. A field writes into it, a preset, a file or a fork replaces it, and what it says is what
starts. Each change is checked at once as far as the text alone can show, and then against data, rewards and machine.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from medgrpo.data import GENERATED, TRAIN_ONLY
from medgrpo.data.hub import ADAPTERS
from medgrpo.errors import MedGRPOError, SettingsError
from medgrpo.models import PROFILES as MODELS
from medgrpo.rewards import PROFILES
from medgrpo.settings import Settings
from medgrpo.training.config import Problem, RunConfig, parse_config, problems
from medgrpo.training.machine import here
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import apply, preflight, read_yaml
from medgrpo.training.presets import presets, propose
from medgrpo.training.preview import preview
from medgrpo.ui import access, render_form
from medgrpo.ui.controls import page_html
from medgrpo.ui.train_fields import GRPO_ONLY, KEYS, Raw, beside, to_yaml, values, with_values

SOURCES = (
    "casebook",
    "casebook+out_of_scope",
    *TRAIN_ONLY,
    *(name for name in GENERATED if name != "casebook"),
    *ADAPTERS,
)
CHECKING = "Checking data, rewards and machine. The first look at a source takes a while."
PAIRS = (
    (("steps", "Steps", "of the optimiser"), ("group", "Group size", "answers to one case")),
    (("length", "Answer length", "most tokens"), ("rate", "Learning rate", "at its peak")),
    (("rank", "LoRA rank", "size of the adapter"), ("held_out", "Held-out cases", "watched; 0 for none")),
)
"""Fields that stand side by side: key, label, what it means."""
PAUSE = 0.4
"""Seconds without another change before the slow part of a check begins."""
GENERAL = ""
"""The place for what belongs to no field."""


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Attributes:
        problems: each in the place where it is shown.
        general: HTML for the place that belongs to no field.
        plan: HTML with estimate and audit.
        command: HTML with the command line; "" while there is none.
    """

    problems: tuple[Problem, ...] = ()
    general: str = ""
    plan: str = ""
    command: str = ""

    def beside(self, place: str) -> str:
        return "".join(render_form.problem(each) for each in self.problems if beside(each.field) == place)


def examine(manager: RunManager, text: str, quick: bool = False) -> tuple[Findings, RunConfig | None]:
    """What is wrong with a YAML text, and what the run will take; and the configuration if it may be started.

    Args:
        quick: only what takes no time; the rest (data, audit, the Hub) may take seconds.
    """
    try:
        found = preflight(read_yaml(text), here(manager.folder), manager.folder, quick)
    except MedGRPOError as error:
        return Findings(general=render_form.sentence(str(error))), None
    plan = command = ""
    if guess := found.estimate:
        plan = render_form.estimate(
            guess.memory_gb, guess.memory_parts, guess.step_seconds, guess.total_seconds, guess.disk_gb, guess.says
        )
    if found.audit:
        plan += render_form.audit(found.audit, not any(each.field.startswith("rewards") for each in found.problems))
    if found.config:
        command = render_form.command(manager.command(found.config, "RUN"))
    return Findings(tuple(found.problems), "", plan, command), found.config if found.good else None


def mended(manager: RunManager, text: str, key: str) -> str:
    """The text with the remedy for one key put in; as it was if there is none."""
    raw = read_yaml(text)
    for quick in (True, False):
        for each in preflight(raw, here(manager.folder), manager.folder, quick).problems:
            if each.field == key and each.mend is not None:
                return to_yaml(apply(raw, each))
    return text


@dataclass(frozen=True)
class Parts:
    """The components of the form."""

    preset: gr.Dropdown
    fields: dict[str, Any]
    notes: dict[str, gr.HTML]
    yaml: gr.Textbox
    mend: gr.Textbox
    seen: gr.HTML
    look: gr.Button
    plan: gr.HTML
    command: gr.HTML
    name: gr.Textbox
    start: gr.Button
    draft: gr.State = field(default_factory=lambda: gr.State(""))
    checks: "Checks" = field(default_factory=lambda: Checks())

    @property
    def shown(self) -> list[Any]:
        """Outputs for `paint`."""
        return [*self.notes.values(), self.plan, self.command]

    @property
    def filled(self) -> list[Any]:
        """Outputs for `fill`."""
        return [self.yaml, self.draft, *self.fields.values()]


def paint(found: Findings, working: str = "") -> list[object]:
    """Findings as the values of `Parts.shown`; `working` is what is being done meanwhile."""
    notes: list[object] = []
    for place in (*KEYS, GENERAL):
        html = found.beside(place)
        if place == GENERAL:
            html += found.general + render_form.sentence(working, "wait")
        notes.append(gr.HTML(html, visible=bool(html)))
    return [*notes, found.plan, found.command]


def fill(text: str) -> list[object]:
    """A YAML text as the values of `Parts.filled`; fields keep what they show if it cannot be read."""
    try:
        raw = read_yaml(text)
    except SettingsError:
        return [text, text, *(gr.skip() for _ in KEYS)]
    usable = raw.get("stage", "grpo") == "grpo"
    return [text, text, *(_field(key, value, usable) for key, value in values(raw).items())]


def _field(key: str, value: Any, grpo: bool) -> object:
    return gr.update(value=value, interactive=grpo) if key in GRPO_ONLY else gr.update(value=value)


def layout(manager: RunManager) -> Parts:
    """Place the components."""
    machine = here(manager.folder)
    proposed, names = propose(machine), presets()
    text = names[proposed].read_text(encoding="utf-8") if names else to_yaml(RunConfig().as_mapping())
    shown = values(read_yaml(text))
    fields: dict[str, Any] = {}
    notes: dict[str, gr.HTML] = {}

    def place(key: str, component: Any, **options: Any) -> None:
        fields[key] = component(value=shown[key], elem_id=f"train-{key}", **options)

    def note(*keys: str) -> None:
        for key in keys:
            notes[key] = page_html("", f"train-{key}-note", visible=False, elem_classes="beside")

    preset = gr.Dropdown(
        [(f"{name} (fits this machine)" if name == proposed else name, name) for name in names],
        value=proposed or None, label="Preset", elem_id="train-preset", info=f"This machine: {machine}.",
    )  # fmt: skip
    custom: dict[str, Any] = {"allow_custom_value": True}
    place("model", gr.Dropdown, choices=list(MODELS), label="Base model", info="or a folder, .gguf, Hub id", **custom)
    note("model")
    place("source", gr.Dropdown, choices=list(SOURCES), label="Data", info="or a .csv, .jsonl, .parquet file", **custom)
    note("source")
    show = gr.Button("Preview five cases", size="sm", elem_id="train-look")
    seen = page_html("", "train-seen", visible=False)
    place("profile", gr.Dropdown, choices=list(PROFILES), label="Rewards", **custom)
    note("profile")
    place("weights", gr.Textbox, label="Weights", info="score × weight; 0 switches one off", lines=1, max_lines=4)
    note("weights")
    for pair in PAIRS:
        with gr.Row(elem_classes="pair"):
            for key, label, info in pair:
                with gr.Column(min_width=100):
                    place(key, gr.Number, label=label, info=info)
        note(*(key for key, _, _ in pair))
    with gr.Accordion("YAML: everything the run is told", open=False, elem_id="train-yaml-fold"):
        yaml = gr.Textbox(
            text, lines=16, max_lines=30, show_label=False, elem_id="train-yaml", buttons=["copy"], container=False
        )
        page_html(FILES, "train-files")
    plan = page_html("", "train-plan")
    command = page_html("", "train-command")
    name = gr.Textbox(
        "",
        label="Name",
        elem_id="train-name",
        max_lines=1,
        info="optional; letters, digits and . _ - become part of the run's id",
    )
    notes[GENERAL] = page_html("", "train-general", visible=False, elem_classes="beside")
    start = gr.Button("Start", variant="primary", elem_id="train-start")
    mend = gr.Textbox("", elem_id="train-apply", visible="hidden")
    return Parts(preset, fields, notes, yaml, mend, seen, show, plan, command, name, start)


FILES = (
    '<div class="files"><button type="button" data-do="save-yaml">Download</button> '
    '<button type="button" data-do="load-yaml">Load a file</button></div>'
)


def wire(parts: Parts, settings: Settings, manager: RunManager) -> None:
    """Join the components to the functions above."""
    # queued all of them: the browser learns of a State's change from events that went through the queue only
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    _wire_check(parts, settings, manager)

    def typed(text: str, *now: Any) -> list[object]:
        try:
            raw = read_yaml(text)
        except SettingsError:
            return [gr.skip(), gr.skip(), gr.skip()]
        after = with_values(raw, dict(zip(KEYS, now, strict=True)))
        if after == raw:  # a late answer must not put back what the box held before
            return [gr.skip(), gr.skip(), gr.skip()]
        written = to_yaml(after)
        other = _profile(after) != _profile(raw)
        return [written, written, values(after)["weights"] if other else gr.skip()]

    def chosen(name: str) -> list[object]:
        known = presets()
        if name not in known:
            raise gr.Error(f"There is no preset {name!r}: choose one of {', '.join(known)}.", print_exception=False)
        return fill(known[name].read_text(encoding="utf-8"))

    def mend(asked: str, text: str, request: gr.Request) -> list[object]:
        access.check(settings, request)
        try:
            return fill(mended(manager, text, asked.partition("#")[0]))
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def written(text: str, draft: str) -> list[object]:
        """What a person or a file put into the box; what this page put there itself is known already."""
        return fill(text)[1:] if text != draft else [gr.skip() for _ in parts.filled[1:]]

    # a Textbox tells of keys by `input` and of what is pasted, deleted or put in by the page only by `change`
    typing = [component.input for key, component in parts.fields.items() if key != "weights"]
    gr.on(
        [*typing, parts.fields["weights"].change], typed, [parts.yaml, *parts.fields.values()],
        [parts.yaml, parts.draft, parts.fields["weights"]], trigger_mode="always_last", **quiet,
    )  # fmt: skip
    parts.preset.input(chosen, [parts.preset], parts.filled, **quiet)
    parts.yaml.change(written, [parts.yaml, parts.draft], parts.filled[1:], trigger_mode="always_last", **quiet)
    parts.mend.change(mend, [parts.mend, parts.yaml], parts.filled, **quiet)
    _wire_preview(parts, settings)


class Checks:
    """The checks of what stands in the form: only the newest of a visitor shows anything, and none over what Start says."""

    def __init__(self) -> None:
        self._newest: dict[str, str] = {}  # visitor -> text
        self._begun: dict[str, str] = {}

    def starting(self, visitor: str, text: str) -> None:
        """Start was pressed: neither a check under way nor one of the same text that is still to come shows anything."""
        self._newest.pop(visitor, None)
        self._begun[visitor] = text

    def run(self, manager: RunManager, visitor: str, text: str) -> Iterator[list[object]]:
        """Values of `Parts.shown`: at once what is wrong in the text itself, later what takes time to find."""
        if self._begun.pop(visitor, None) == text:
            return
        newest = self._newest
        newest[visitor] = text
        first, usable = examine(manager, text, quick=True)
        if newest.get(visitor) == text:
            yield paint(first, CHECKING if usable else "")
            time.sleep(PAUSE if usable else 0.0)
        if usable and newest.get(visitor) == text:
            found, _ = examine(manager, text)
            if newest.get(visitor) == text:
                yield paint(found)
        if newest.get(visitor) == text:
            del newest[visitor]
        else:  # Gradio sends the last values again at the end: not those of an older text over a newer one's
            yield [gr.skip() for _ in paint(first)]


def _wire_check(parts: Parts, settings: Settings, manager: RunManager) -> None:
    def check(text: str, request: gr.Request) -> Iterator[list[object]]:
        access.check(settings, request)
        yield from parts.checks.run(manager, str(request.session_hash), text)

    parts.draft.change(
        check, [parts.draft], parts.shown, show_progress="hidden", trigger_mode="multiple",
        concurrency_id="train-check", concurrency_limit=8, api_visibility="private",
    )  # fmt: skip


def _profile(raw: Raw) -> object:
    rewards = raw.get("rewards")
    return rewards.get("profile") if isinstance(rewards, dict) else None


def _wire_preview(parts: Parts, settings: Settings) -> None:
    def show(text: str, request: gr.Request) -> Iterator[object]:
        access.check(settings, request)
        yield gr.HTML(render_form.sentence("Loading five cases.", "wait"), visible=True)
        try:
            raw = read_yaml(text)
            found = [each for each in problems(raw) if each.field.startswith(("data", "stage"))]
            if found:
                yield gr.HTML("".join(render_form.problem(each) for each in found))
                return
            usable: Raw = {key: raw[key] for key in ("stage", "model", "seed", "data") if key in raw}
            config = parse_config(usable)
            yield gr.HTML(render_form.preview(preview(config), config.data.source))
        except MedGRPOError as error:
            yield gr.HTML(render_form.sentence(str(error)))

    parts.look.click(
        show, [parts.yaml], [parts.seen], show_progress="hidden", concurrency_id="train-check", api_visibility="private"
    )


def begin(manager: RunManager, text: str, name: str) -> Iterator[tuple[Findings, str, str]]:
    """Check and start: (what was found, what is being done, id of the run once it began or waits).

    Nothing is started unless the last check finds nothing.
    """
    found, config = examine(manager, text, quick=True)
    if config:
        yield found, CHECKING, ""
        found, config = examine(manager, text)
    if config is None:
        yield found, "", ""
        return
    yield found, "Starting the run.", ""
    try:
        info = manager.start(config, name or "")
    except MedGRPOError as error:
        yield Findings(general=render_form.sentence(str(error)), plan=found.plan, command=found.command), "", ""
        return
    says = (
        f"{info.id} waits in the queue at place {info.position}; it starts by itself when the run before it has ended."
        if info.position
        else f"{info.id} has started. You may close this page; the run goes on."
    )
    command = render_form.command(manager.command(config, info.id))
    yield Findings(general=render_form.sentence(says, "good"), plan=found.plan, command=command), "", info.id
