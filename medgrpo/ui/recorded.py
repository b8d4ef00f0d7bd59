"""The recorded runs that ship with the package, and how one is played as if it were live.

A recording is a run directory like any other, read by the same readers. Playing it means to show it as it stood after
some step: `Replay` says how one visitor plays it, `Place` where it stands at one moment.
"""

from dataclasses import dataclass, replace

from medgrpo.models import PROFILES
from medgrpo.training.curves import seconds_a_step
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View

PREFIX = "recorded:"
SPEEDS = (1, 3, 10, 30, 100)
LASTS = 40.0
"""Seconds that a recording is meant to take at the speed it begins with."""


def recordings() -> dict[str, RunDirectory]:
    """Shipped runs by id: `recorded:<profile>` is its GRPO run, `recorded:<profile>:sft` the warm start before it."""
    found = {}
    for name, profile in PROFILES.items():
        for stage in ("grpo", "sft"):
            run = RunDirectory(profile.assets / "runs" / stage)
            if run.metrics_file.is_file():
                found[PREFIX + name + ("" if stage == "grpo" else f":{stage}")] = run
    return found


def is_recorded(run_id: str | None) -> bool:
    return bool(run_id) and str(run_id).startswith(PREFIX)


def title(run_id: str) -> str:
    """How a run is named on the page: a recording by its model and stage, another by its id."""
    if not is_recorded(run_id):
        return run_id
    profile, _, stage = run_id.removeprefix(PREFIX).partition(":")
    model = PROFILES[profile].title if profile in PROFILES else profile
    return f"{model}, {(stage or 'grpo').upper()}"


@dataclass(frozen=True)
class Replay:
    """How a visitor plays a recording. It changes only when the visitor does something: where the recording stands
    follows from the time, so a look that comes late can't undo a Pause.

    Attributes:
        run_id: the recording.
        base: steps that had been played when it was last begun, stopped or moved.
        speed: times real time.
        since: monotonic seconds since when it plays, 0 while it stands.
        waits: it has not been looked at yet and begins with the first look.
    """

    run_id: str = ""
    base: float = 0.0
    speed: float = 1.0
    since: float = 0.0
    waits: bool = False


@dataclass(frozen=True)
class Place:
    """Where a recording stands at one moment: step, whether it goes on, at which speed, and its last step."""

    step: int
    playing: bool
    speed: float
    last: int


def begin(run_id: str, run: RunDirectory) -> Replay:
    """A recording before its start, at the speed that shows it in about `LASTS` seconds."""
    whole = _pace(run) * last_step(run)
    return Replay(run_id, speed=min(SPEEDS, key=lambda speed: abs(whole / speed - LASTS)), waits=True)


def last_step(run: RunDirectory) -> int:
    """The step at which a recording ends, at least 1."""
    steps = View(run).whole.steps
    return max(1, int(steps[-1]) if len(steps) else 1)


def place(replay: Replay, run: RunDirectory, now: float) -> Place:
    """Where the recording stands at monotonic time `now`."""
    last, position = last_step(run), _position(replay, run, now)
    return Place(min(last, int(position)), replay.since > 0 and position < last, replay.speed, last)


def looked_at(replay: Replay, now: float) -> Replay:
    """The first look begins a recording; later ones change nothing."""
    return replace(replay, since=now, waits=False) if replay.waits else replay


def pressed(replay: Replay, run: RunDirectory, now: float) -> Replay:
    """Play or Pause; at the end Play begins again."""
    at = place(replay, run, now)
    position = _position(replay, run, now)
    if at.playing:
        return replace(replay, base=position, since=0.0, waits=False)
    return replace(replay, base=0.0 if at.step >= at.last else position, since=now, waits=False)


def moved(replay: Replay, step: float) -> Replay:
    """At another step, standing still."""
    return replace(replay, base=float(step), since=0.0, waits=False)


def hurried(replay: Replay, run: RunDirectory, speed: float, now: float) -> Replay:
    """At another speed from where it is."""
    return replace(
        replay, base=_position(replay, run, now), speed=float(speed), since=now if replay.since else replay.since
    )


def _position(replay: Replay, run: RunDirectory, now: float) -> float:
    passed = max(0.0, now - replay.since) * replay.speed / _pace(run) if replay.since else 0.0
    return min(float(last_step(run)), replay.base + passed)


def _pace(run: RunDirectory) -> float:
    """Seconds a step took on average when it was recorded."""
    whole = View(run).whole
    return seconds_a_step(whole, len(whole)) or 1.0
