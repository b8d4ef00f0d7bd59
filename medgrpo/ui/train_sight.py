"""What the live view shows of a run at one moment, as plain values: no components, no events.

`see` walks the parts of the view. Each has a mark made of everything its content depends on; a part is only rendered if
its mark differs from the one that this visitor was sent last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgrpo.errors import MedGRPOError
from medgrpo.training import groups, held_out
from medgrpo.training.health import findings
from medgrpo.training.held_out import Course
from medgrpo.training.overlay import differences
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View
from medgrpo.ui import recorded, render, render_curves, render_groups, render_train
from medgrpo.ui.known_cases import KnownCases
from medgrpo.ui.recorded import Place

LATEST, ALL = "latest", "all"
LISTED = 400
"""Most steps, prompts or patients in a list to choose from."""
TAIL, WHOLE = 48_000, 20_000_000
"""Bytes of a log that are shown, and that are downloaded."""
LINES = 200
LONG = 200
"""Characters from which a mark is kept as its hash, so that a visitor costs little memory."""


@dataclass(frozen=True)
class Picks:
    """What a visitor chose to look at in one run; what was not chosen follows the run.

    Attributes:
        run_id: the run that the choices belong to.
        step: a recorded step, `LATEST` or `ALL`.
        which: one of `groups.FILTERS`.
        prompt: key of a group, "" for the first one listed, of all groups the first that has spread.
        held_step: training step whose answers are shown, None for the latest evaluation.
        held_case: id of a held-out case, "" for one that is worth a look.
        other: id of the run to compare with.
    """

    run_id: str = ""
    step: str = LATEST
    which: str = "all"
    prompt: str = ""
    held_step: float | None = None
    held_case: str = ""
    other: str = ""

    def of(self, run_id: str | None) -> "Picks":
        """The choices for a run: those made for another one count no more, but for filter and other run."""
        same = self.run_id == (run_id or "")
        return self if same else Picks(run_id or "", which=self.which, other=self.other)


@dataclass
class Sight:
    """What is to be sent: part -> properties of its component; and the marks of everything sent so far."""

    seen: dict[str, str]
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, part: str, mark: object, make: Callable[[], dict[str, Any]]) -> None:
        """Make and send a part unless it was last made from the same."""
        said = repr(mark)
        said = said if len(said) < LONG else str(hash(said))
        if self.seen.get(part) != said:
            self.seen[part] = said
            self.values[part] = make()

    def html(self, part: str, text: str) -> None:
        """Send a text unless it is the one sent last."""
        self.put(part, hash(text), lambda: {"value": text})


def see(
    run_id: str | None,
    find: Callable[[str], RunDirectory],
    picks: Picks,
    place: Place | None,
    seen: Mapping[str, str],
    known: KnownCases,
    others: Callable[[], Sequence[tuple[str, str]]],
) -> Sight:
    """Everything that changed since `seen`; `place` is where a recording stands that is played."""
    fresh = seen.get("run") != repr(run_id)
    sight = Sight({"run": repr(run_id)} if fresh else dict(seen))
    try:
        if not run_id:
            raise MedGRPOError("")
        run = find(run_id)
    except MedGRPOError as error:
        _nothing(sight, str(error))
        return sight
    view = View(run, place.step if place and place.step < place.last else None)
    sight.html("state", render_train.state(view, recorded.title(run_id), place is not None))
    _replay(sight, place)
    mark = (run_id, view.metrics.version, view.until, view.evaluation_steps[-1:], view.status.total, view.stage)
    sight.put("rewards", mark, lambda: {"value": render_curves.first(view)})
    sight.html("health", render_train.health(findings(view)))
    sight.put("charts", mark, lambda: {"value": render_curves.rest(view)})
    _completions(sight, view, picks, known)
    _held_out(sight, view, picks)
    _log(sight, run)
    _overlay(sight, run_id, view, find, picks, others)
    return sight


def _nothing(sight: Sight, why: str) -> None:
    sight.html("state", render.alert([why], "problem") if why else render_train.EMPTY)
    sight.put("bar", False, lambda: {"visible": False})
    sight.put("clock", False, lambda: {"active": False})
    for part in ("rewards", "health", "charts", "group", "held", "table", "log", "overlay"):
        sight.html(part, "")
    sight.put("download", False, lambda: {"interactive": False})
    for part in ("step", "prompt", "held_case", "other"):
        sight.put(part, (), lambda: {"choices": [], "value": None})


def _replay(sight: Sight, place: Place | None) -> None:
    sight.put("bar", place is not None, lambda: {"visible": place is not None})
    playing = place is not None and place.playing
    sight.put("clock", playing, lambda: {"active": playing})
    if place is None:
        return
    word = "Pause" if playing else "Play again" if place.step >= place.last else "Play"
    sight.put("play", word, lambda: {"value": word})
    sight.put("speed", place.speed, lambda: {"value": int(place.speed)})
    sight.put("scrub", place.step, lambda: {"value": place.step, "maximum": place.last})


def _completions(sight: Sight, view: View, picks: Picks, known: KnownCases) -> None:
    steps = view.completion_steps
    choices = [("latest recorded", LATEST), (f"all (the last {groups.RECENT} recorded)", ALL)]
    choices += [(f"step {step:,}", str(step)) for step in steps[::-1][:LISTED]]
    step = picks.step if picks.step in {value for _, value in choices} else LATEST
    sight.put("step", (steps[-1:], len(steps), picks.step), lambda: {"choices": choices, "value": step})
    at = None if step == ALL or not steps else steps[-1] if step == LATEST else int(step)
    found = groups.chosen(view, at, picks.which)[:LISTED]
    keys = [group.key for group in found]
    teaching = [group.key for group in found if picks.which == "all" and not group.flat]
    key = picks.prompt if picks.prompt in keys else next(iter([*teaching, *keys]), None)
    titles = [(render_groups.title(group), group.key) for group in found]
    sight.put("prompt", (titles, key, picks.prompt), lambda: {"choices": titles, "value": key})
    if key is None:
        sight.html("group", render_groups.no_group(picks.which if steps else "all"))
        return
    group = found[keys.index(key)]
    source, split = str(view.setting("data.source", "")), str(view.setting("data.split", "train"))
    case, waiting = known.find(source, split, group.case_id)
    mark = (key, len(group.completions), picks.which, case is None, waiting)
    shown = groups.ordered(group, picks.which)
    sight.put("group", mark, lambda: {"value": render_groups.group(group, shown, case, waiting)})


def _held_out(sight: Sight, view: View, picks: Picks) -> None:
    steps = view.evaluation_steps
    if not steps:
        text = (
            '<p class="teach">No held-out cases answered yet. They are answered at step 0 and then as configured.</p>'
        )
        sight.html("held", text)
        sight.html("table", "")
        sight.put("held_case", (), lambda: {"choices": [], "value": None})
        return
    courses = held_out.courses(view)
    titles = [(render_groups.course_title(course), course.case_id) for course in courses[:LISTED]]
    course = _patient(sight, courses, picks.held_case, len(steps))
    wanted = steps[-1] if picks.held_step is None else picks.held_step
    at = min(steps, key=lambda step: abs(step - wanted))
    # sent when the run has gone on; otherwise the slider stays where the visitor put it
    sight.put("held_step", steps[-1], lambda: {"minimum": 0, "maximum": max(1, steps[-1]), "value": at})
    sight.put("table", steps, lambda: {"value": render_groups.before_after(held_out.before_after(view))})
    if course is None:
        sight.put("held_case", (), lambda: {"choices": [], "value": None})
        sight.html("held", "")
        return
    name = course.case_id
    sight.put("held_case", (steps, name, picks.held_case), lambda: {"choices": titles, "value": name})
    first, now = held_out.answer_to(view, steps[0], name), held_out.answer_to(view, at, name)
    sight.put("held", (name, steps, at), lambda: {"value": render_groups.held_out(course, steps, first, now, at)})


def _patient(sight: Sight, courses: Sequence[Course], picked: str, evaluations: int) -> Course | None:
    """The held-out case to show: the picked one, else the one shown so far, else the first, which changed most.

    With the second evaluation it is chosen anew, because only then something can have changed.
    """
    by_id = {course.case_id: course for course in courses}
    stays = sight.seen.get("patient", "").partition("|")
    auto = stays[2] if (stays[0] == "1") == (evaluations == 1) and stays[2] in by_id else next(iter(by_id), "")
    sight.seen["patient"] = f"{1 if evaluations == 1 else 2}|{auto}"
    return by_id.get(picked) or by_id.get(auto)


def _log(sight: Sight, run: RunDirectory) -> None:
    text = log_text(run)
    sight.html("log", render_train.log(text, last_attempt(run)))
    sight.put("download", bool(text), lambda: {"interactive": bool(text)})


def last_attempt(run: RunDirectory) -> int:
    """Number of the latest launch that has a log, 0 if none has; one that died at once has a log and no status."""
    names = [path.stem.removeprefix("attempt_") for path in run.log_file(0).parent.glob("attempt_*.log")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def log_text(run: RunDirectory, whole: bool = False) -> str:
    """The end of the latest attempt's log (with `whole` all of it, up to `WHOLE` bytes); "" if there is none."""
    path = run.log_file(last_attempt(run))
    most = WHOLE if whole else TAIL
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            text = file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""
    return text if whole else "\n".join(text.splitlines()[-LINES:])


def _overlay(
    sight: Sight,
    run_id: str,
    view: View,
    find: Callable[[str], RunDirectory],
    picks: Picks,
    others: Callable[[], Sequence[tuple[str, str]]],
) -> None:
    listed = [(label, other) for label, other in others() if other != run_id]
    ids = [other for _, other in listed]
    other = picks.other if picks.other in ids else None
    sight.put("other", (listed, picks.other), lambda: {"choices": listed, "value": other})
    if other is None:
        words = "Choose another run to see both on the same axes, and what was set differently."
        sight.html("overlay", f'<p class="teach">{words if ids else "There is no other run yet."}</p>')
        return
    try:
        second = View(find(other))
    except MedGRPOError as error:
        sight.html("overlay", render.alert([str(error)], "problem"))
        return
    names = (recorded.title(run_id), recorded.title(other))
    mark = (run_id, other, view.metrics.version, second.metrics.version, view.until, second.evaluation_steps[-1:])

    def both() -> dict[str, Any]:
        return {
            "value": render_curves.overlay(view, second, names)
            + render_train.differences(differences(view, second), *names)
        }

    sight.put("overlay", mark, both)
