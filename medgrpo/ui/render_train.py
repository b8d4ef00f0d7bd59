"""One run as HTML: where it stands, its health, its log and its difference from another run. Pure; escapes all text."""

import time
from collections.abc import Sequence

from medgrpo.training.health import Finding
from medgrpo.training.overlay import Difference
from medgrpo.training.view import View
from medgrpo.ui.render import escape

PHASES = {
    "queued": ("◌", "queued", "Waits until the run before it has ended."),
    "preparing": ("◌", "preparing", "Reads the cases and audits the rewards."),
    "loading": ("◌", "loading", "Loads the model."),
    "generating": ("◌", "writing completions", "The policy answers the cases of this step."),
    "training": ("▶", "training", "Steps are being taken."),
    "evaluating": ("◌", "answering held-out cases", "The watched cases are answered; no step is taken meanwhile."),
    "saving": ("◌", "saving", "Writes the adapter."),
    "finished": ("●", "finished", "All steps are done and the adapter is saved."),
    "stopped": ("■", "stopped", "Ended on request after saving; it can be resumed."),
    "failed": ("▲", "failed", "Ended with an error."),
    "interrupted": ("▲", "interrupted", "The process is gone; it can be resumed from its last checkpoint."),
}
CHIPS = {"finished": "ok", "stopped": "cut", "failed": "error", "interrupted": "error"}
LEVELS = {
    "bad": ("▲", "Act", "bad"),
    "warn": ("◆", "Look", "warn"),
    "good": ("●", "Well", "good"),
    "info": ("i", "Note", "info"),
}
EMPTY = '<p class="teach">No run is chosen. Start one on the left, or choose one from the list.</p>'


def state(view: View, name: str, recorded: bool = False) -> str:
    """Name, phase, step of steps with the time left, and what a person should know about the run."""
    status = view.status
    shape, word, why = PHASES.get(status.phase, ("○", status.phase, ""))
    kind = "running" if status.active else CHIPS.get(status.phase, "cut")
    mark = (
        '<span class="chip chip-recording" title="Nothing is being trained: these are the files of an earlier run.">'
        '<i aria-hidden="true">▷</i> recording</span>'
        if recorded
        else ""
    )
    chip = (
        f'<span class="chip chip-{kind}" title="{escape(why)}"><i aria-hidden="true">{shape}</i> {escape(word)}</span>'
    )
    return (
        f'<div class="run" data-phase="{escape(status.phase)}" data-step="{status.step}">'
        f"<header><h2>{escape(name)}</h2>{mark}{chip}</header>{_progress(view)}{_about(view)}{_messages(view)}</div>"
    )


def _progress(view: View) -> str:
    step, total = view.status.step, view.status.total
    most = max(total, step, 1)
    left = view.seconds_left
    words = f"step {step:,} of {total:,}" if total else f"step {step:,}"
    if left is not None and left > 0:
        words += f", about {duration(left)} left"
    return (
        f'<div class="progress"><progress max="{most}" value="{step}" aria-label="Steps done">{step}</progress>'
        f"<span>{words}</span></div>"
    )


def _about(view: View) -> str:
    started = view.status.started
    parts = [
        {"sft": "SFT", "grpo": "GRPO"}.get(view.stage, view.stage),
        str(view.setting("model", "")),
        str(view.setting("data.source", "")),
        f"rewards {view.setting('rewards.profile', '')}" if view.stage == "grpo" else "",
        time.strftime("%d %b %Y %H:%M", time.localtime(started)) if started else "",
    ]
    return f'<p class="about">{escape(" · ".join(filter(None, parts)))}</p>'


def _messages(view: View) -> str:
    status = view.status
    found = ""
    if status.error:
        found += (
            f'<div class="alert alert-problem" role="alert"><b>{escape(status.phase)}.</b> {escape(status.error)}</div>'
        )
    if status.notes:
        found += f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in status.notes)}</ul>'
    return found


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{max(1, round(seconds)):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def health(found: Sequence[Finding]) -> str:
    """What the metrics say, worst first: mark and word, what is seen, what to do."""
    items = "".join(
        f'<li class="level-{LEVELS[each.level][2]}"><b><i aria-hidden="true">{LEVELS[each.level][0]}</i> '
        f"{LEVELS[each.level][1]}</b><p>{escape(each.seen)}"
        f"{f' <span>{escape(each.remedy)}</span>' if each.remedy else ''}</p></li>"
        for each in found
    )
    return f'<section class="health" aria-label="Health"><h3>Health</h3><ul>{items}</ul></section>'


def log(text: str, attempt: int) -> str:
    """The end of a log, latest line at the bottom and in sight."""
    if not text:
        return '<p class="teach">No log here. A run that trains on this machine writes one.</p>'
    lines = f"<pre>{escape(text)}</pre>"
    return (
        f'<div class="log" tabindex="0" role="region" aria-label="End of the log of attempt {attempt}">{lines}</div>'
        f'<p class="teach">Last lines of logs/attempt_{attempt}.log.</p>'
    )


def differences(found: Sequence[Difference], this: str, other: str) -> str:
    """The settings in which two runs differ."""
    if not found:
        return '<p class="teach">The two runs have the same configuration.</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(each.name)}</th><td>{escape(each.this)}</td><td>{escape(each.other)}</td></tr>'
        for each in found
    )
    return (
        '<div class="sheet settings"><table><thead><tr><th scope="col">Setting</th>'
        f'<th scope="col">{escape(this)}</th><th scope="col">{escape(other)}</th></tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )
