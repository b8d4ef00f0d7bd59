"""One run as it happens: where it stands, its curves and health, its completions, held-out cases, log, and another run.

The page holds nothing: every look reads the run directory, and `see` turns it into the values of the components. Each
part carries a mark of what it was made from; a part whose mark is the one last sent is neither made nor sent again, so
nothing on the page moves unless something happened. A recording is shown as it stood at the step it has been played to.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import gradio as gr

from medgrpo.errors import MedGRPOError
from medgrpo.training.groups import FILTERS
from medgrpo.training.run_directory import RunDirectory
from medgrpo.ui import recorded
from medgrpo.ui.controls import page_html
from medgrpo.ui.known_cases import KnownCases
from medgrpo.ui.recorded import SPEEDS, Place, Replay
from medgrpo.ui.state import Kept
from medgrpo.ui.train_sight import LATEST, Picks, Sight, log_text, see

Find = Callable[[str], RunDirectory]
Others = Callable[[], Sequence[tuple[str, str]]]
Playing = Kept[Replay | None]

SAVE = """(text) => {
  const cut = text.indexOf("\\n");
  if (cut < 1) return "";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text.slice(cut + 1)], { type: "text/plain" }));
  link.download = text.slice(0, cut);
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  return "";
}"""
"""Saves a text whose first line is the name of the file; nothing is written on the server."""


PICKED = ("step", "which", "prompt", "held_step", "held_case", "other")
"""Components whose values are kept as `Picks`."""
NO_LOG = "This run has no log here: only a run that trains on this machine writes one."


@dataclass(frozen=True)
class LiveParts:
    """The components of the live view, in the order in which `see` names its parts."""

    state: gr.HTML
    bar: gr.Row
    play: gr.Button
    scrub: gr.Slider
    speed: gr.Radio
    clock: gr.Timer
    rewards: gr.HTML
    health: gr.HTML
    charts: gr.HTML
    step: gr.Dropdown
    prompt: gr.Dropdown
    group: gr.HTML
    held_step: gr.Slider
    held_case: gr.Dropdown
    held: gr.HTML
    table: gr.HTML
    log: gr.HTML
    other: gr.Dropdown
    overlay: gr.HTML
    download: gr.Button
    which: gr.Radio
    file: gr.Textbox
    seen: gr.State
    replay: gr.State
    picks: gr.State

    SHOWN = 20  # the first so many are outputs of every look

    @property
    def outputs(self) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)[: self.SHOWN]] + [self.seen]

    @property
    def names(self) -> list[str]:
        return [each.name for each in fields(self)[: self.SHOWN]]


def layout() -> LiveParts:
    """Place the components of one run."""
    made: dict[str, Any] = {"state": page_html("", "run-state")}
    with gr.Row(elem_classes="replay", visible=False, elem_id="replay") as made["bar"]:
        made["play"] = gr.Button("Pause", elem_id="replay-play", min_width=96, scale=0)
        made["scrub"] = gr.Slider(0, 1, 0, step=1, label="Step of the recording", elem_id="replay-scrub")
        speeds = [(f"{speed}×", speed) for speed in SPEEDS]
        made["speed"] = gr.Radio(speeds, value=SPEEDS[0], label="Speed", elem_id="replay-speed")
    made["clock"] = gr.Timer(1.0, active=False)
    for name in ("rewards", "health", "charts"):
        made[name] = page_html("", f"run-{name}")
    with gr.Tabs(elem_id="run-tabs"):
        with gr.Tab("Completions", id="completions"):
            made |= _completions()
        with gr.Tab("Held-out", id="held-out"):
            made |= _held_out()
        with gr.Tab("Log", id="log"):
            made["log"] = page_html("", "run-log")
            made["download"] = gr.Button("Download the log", elem_id="run-log-download", size="sm")
            made["file"] = gr.Textbox(visible="hidden", elem_id="run-log-file")
        with gr.Tab("Two runs", id="overlay"):
            made["other"] = gr.Dropdown([], label="Other run", elem_id="run-other", filterable=True)
            made["overlay"] = page_html("", "run-overlay")
    return LiveParts(**made, seen=gr.State({}), replay=gr.State(Kept(None)), picks=gr.State(Kept(Picks())))


def _completions() -> dict[str, Any]:
    with gr.Row(elem_classes="pick"):
        step = gr.Dropdown(
            [("latest recorded", LATEST)], value=LATEST, label="Step", elem_id="group-step", filterable=True, scale=1
        )
        which = gr.Radio(
            [(name.capitalize(), name) for name in FILTERS], value="all", label="Show", elem_id="group-filter", scale=3,
            min_width=320,
        )  # fmt: skip
    # the list changes while a run goes on; an entry that has just gone counts as none, not as an error
    prompt = gr.Dropdown([], label="Prompt", elem_id="group-prompt", filterable=True, allow_custom_value=True)
    return {"step": step, "which": which, "prompt": prompt, "group": page_html("", "group-view")}


def _held_out() -> dict[str, Any]:
    table = page_html("", "held-table")
    with gr.Row(elem_classes="pick"):
        held_case = gr.Dropdown([], label="Patient", elem_id="held-case", filterable=True, scale=3)
        held_step = gr.Slider(0, 1, 0, step=1, label="Answer at step", elem_id="held-step", scale=2)
    return {"table": table, "held_case": held_case, "held_step": held_step, "held": page_html("", "held-view")}


def wire(parts: LiveParts, chosen: Any, find: Find, timer: gr.Timer, others: Others | None = None) -> None:
    """Join the components to a run.

    Args:
        chosen: component whose value is the id of the run, "" or None for none.
        find: the run of an id; raises MedGRPOError for one that is not there.
        timer: ticks while the tab is in use.
        others: label and id of the runs that this visitor may compare with; the shipped recordings if left out.
    """
    known = KnownCases()
    listed = others or _recordings
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    held = [chosen, parts.seen, parts.replay, parts.picks]  # no component that a late answer could contradict

    def look(
        run_id: str | None, seen: dict[str, str], replay: Playing, picks: Kept[Picks], begins: bool = True
    ) -> list[object]:
        place = played(run_id, replay, find, time.monotonic(), begins)
        sight = see(run_id, find, picks.value.of(run_id), place, seen, known, listed)
        return [*paint(parts.names, sight), sight.seen]

    def arrived(run_id: str | None, seen: dict[str, str], replay: Playing, picks: Kept[Picks]) -> list[object]:
        """A run was chosen, perhaps by the page as it loads: a recording waits for the tab's own tick to begin."""
        return look(run_id, seen, replay, picks, begins=False)

    def pick(name: str) -> Callable[..., list[object]]:
        def handle(
            value: Any, run_id: str | None, seen: dict[str, str], replay: Playing, picks: Kept[Picks]
        ) -> list[object]:
            wanted = {name: chosen_value(name, value, seen)}
            picks.change(lambda before: replace(before.of(run_id), **wanted))
            return look(run_id, seen, replay, picks)

        return handle

    chosen.change(arrived, held, parts.outputs, **quiet)
    gr.on([timer.tick, parts.clock.tick], look, held, parts.outputs, **quiet)
    for name in PICKED:
        component = getattr(parts, name)
        component.input(pick(name), [component, *held], parts.outputs, trigger_mode="always_last", **quiet)
    _wire_replay(parts, find, look, held, quiet)
    _wire_download(parts, chosen, find, quiet)


def _recordings() -> list[tuple[str, str]]:
    return [(f"{recorded.title(each)} (recording)", each) for each in recorded.recordings()]


def chosen_value(name: str, value: Any, seen: Mapping[str, str]) -> Any:
    """What a pick means: nothing chosen is the default, and a slider at its end follows the run."""
    if name == "held_step":
        return None if value is None or seen.get("held_step") == repr(int(value)) else float(value)
    return value or {"step": LATEST, "which": FILTERS[0]}.get(name, "")


def _wire_replay(
    parts: LiveParts, find: Find, look: Callable[..., list[object]], held: list[Any], quiet: dict[str, Any]
) -> None:
    def changed(run_id: str, playing: Playing, change: Callable[[Replay, RunDirectory, float], Replay]) -> None:
        """Nothing for a run that is no recording, or not the one that was played."""
        now = time.monotonic()
        if (playing.value or Replay()).run_id == run_id:
            run = find(run_id)
            playing.change(lambda before: change(before, run, now) if before else None)

    def press(run_id: str, seen: dict[str, str], replay: Playing, picks: Kept[Picks]) -> list[object]:
        changed(run_id, replay, recorded.pressed)
        return look(run_id, seen, replay, picks)

    def scrub(step: float, run_id: str, seen: dict[str, str], replay: Playing, picks: Kept[Picks]) -> list[object]:
        changed(run_id, replay, lambda before, _, __: recorded.moved(before, step or 0))
        return look(run_id, {**seen, "scrub": repr(int(step or 0))}, replay, picks)  # the slider stands there already

    def hurry(speed: float, run_id: str, seen: dict[str, str], replay: Playing, picks: Kept[Picks]) -> list[object]:
        changed(run_id, replay, lambda before, run, now: recorded.hurried(before, run, speed or 1, now))
        return look(run_id, seen, replay, picks)

    parts.play.click(press, held, parts.outputs, **quiet)
    parts.scrub.input(scrub, [parts.scrub, *held], parts.outputs, trigger_mode="always_last", **quiet)
    parts.speed.input(hurry, [parts.speed, *held], parts.outputs, **quiet)


def _wire_download(parts: LiveParts, chosen: Any, find: Find, quiet: dict[str, Any]) -> None:
    def whole(run_id: str | None) -> str:
        try:
            text = log_text(find(run_id or ""), whole=True)
        except MedGRPOError as error:
            raise gr.Error(str(error), print_exception=False) from error
        if not text:
            raise gr.Error(NO_LOG, print_exception=False)
        return f"{str(run_id).replace(':', '-')}.log\n{text}"

    parts.download.click(whole, [chosen], [parts.file], **quiet).success(
        None, [parts.file], [parts.file], js=SAVE, api_visibility="private"
    )


def played(run_id: str | None, replay: Playing, find: Find, now: float, begins: bool = True) -> Place | None:
    """Where the replay of a recording stands; None for a run that is none. Only a look that `begins` starts it."""
    try:
        run = find(run_id) if run_id and recorded.is_recorded(run_id) else None
    except MedGRPOError:
        run = None
    if run is None or not run_id:
        replay.change(lambda _: None)
        return None

    def looked(before: Replay | None) -> Replay:
        if before is None or before.run_id != run_id:
            before = recorded.begin(run_id, run)
        return recorded.looked_at(before, now) if begins else before

    at = replay.change(looked)
    return recorded.place(at, run, now) if at else None


def paint(names: Sequence[str], sight: Sight) -> list[object]:
    """A sight as the values of the parts; what did not change is skipped."""
    return [gr.update(**sight.values[name]) if name in sight.values else gr.skip() for name in names]
