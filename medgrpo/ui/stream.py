"""Several answers at the same time, as one stream of panels.

Each question runs in its own thread and puts its snapshots into one queue; the stream takes what is there at most
`RATE` times a second, less often in a crowd, so neither answer waits for the other and the page isn't flooded. The first
words never wait. The threads belong to the stream: closing it, or setting its stop flag, closes their generators after
the token they are at.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace

from medgrpo.answers import Answer, ask
from medgrpo.engines.base import Engine, Sampling
from medgrpo.errors import MedGRPOError
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Panel, Stop

LOG = logging.getLogger(__name__)
RATE = 12
"""Yields a second. More doesn't look smoother and costs the server a diff and the browser a layout each."""
CROWD = 16
"""Streams that get `RATE` each; more of them share what these get."""
CRASHED = "The model stopped unexpectedly. What it wrote is above; press Retry to ask again."


@dataclass(frozen=True)
class Question:
    """One question to one variant; the fields are the arguments of `ask`."""

    text: str
    variant: str
    sampling: Sampling = field(default_factory=Sampling)
    history: tuple[tuple[str, str], ...] = ()
    structured: bool = True


@dataclass(frozen=True)
class _Failure:
    sentence: str


_Event = tuple[int, Answer | _Failure | None]


def answers(desk: Desk, questions: Sequence[Question], stop: Stop) -> Iterator[list[Panel]]:
    """Panels of all questions, growing. The last list has no running panel, unless a newer run replaced this one.

    Waits for the engine to load and for the line; both are said in the panels. Errors become panels too.
    """
    panels = [Panel(question.variant, "waiting") for question in questions]
    ticket = desk.line.join()
    try:
        for note in _reasons_to_wait(desk, ticket, stop):
            panels = [replace(panel, note=note) for panel in panels]
            yield panels
        if not stop.is_set():
            for latest in _race(desk, questions, panels, stop):
                panels = latest
                yield panels
    except MedGRPOError as error:
        panels = [replace(panel, phase="error", note=str(error)) for panel in panels]
        yield panels
    finally:
        stop.set()
        desk.line.leave(ticket)
    if not stop.replaced and any(panel.running for panel in panels):
        yield [panel.stopped() for panel in panels]


def _reasons_to_wait(desk: Desk, ticket: object, stop: Stop) -> Iterator[str]:
    """Why the question isn't with the engine yet, each reason once, until it may start or is stopped."""
    last = None
    while not stop.is_set():
        ahead = desk.line.ahead(ticket)
        loading = desk.health().state == "loading"
        if not ahead and not loading:
            return
        cases = "one question is" if ahead == 1 else f"{ahead} questions are"
        note = f"Waiting: {cases} ahead of this one." if ahead else f"Waiting until {desk.title} is loaded."
        if note != last:
            yield note
        last = note
        stop.event.wait(0.1)


def _race(desk: Desk, questions: Sequence[Question], panels: list[Panel], stop: Stop) -> Iterator[list[Panel]]:
    events: queue.Queue[_Event] = queue.Queue()
    engine = desk.engine
    for place, question in enumerate(questions):
        # in this event's context, from which ZeroGPU knows whose quota it is
        work = copy_context().run
        threading.Thread(target=work, args=(_work, engine, question, place, events, stop), daemon=True).start()
    panels = [replace(panel, phase="writing", note="") for panel in panels]
    yield panels
    left, shown = len(questions), -math.inf
    while left and not stop.is_set():
        news = _collect(events, shown + max(1, desk.line.busy() / CROWD) / RATE)
        left -= sum(what is None for _, what in news)
        for place, what in news:
            panels = [_after(panel, what) if place == n else panel for n, panel in enumerate(panels)]
        if news and not stop.is_set():
            if any(panel.text for panel in panels):
                shown = time.monotonic()
            yield panels


def _collect(events: "queue.Queue[_Event]", until: float) -> list[_Event]:
    """What there is at this time, and at least one event, unless none comes in a moment: a stop is noticed then."""
    try:
        news = [events.get(timeout=1 / RATE)]
    except queue.Empty:
        return []
    if news[0][1] is not None:
        time.sleep(max(0.0, until - time.monotonic()))
    with suppress(queue.Empty):
        while True:
            news.append(events.get_nowait())
    return news


def _after(panel: Panel, what: Answer | _Failure | None) -> Panel:
    if isinstance(what, _Failure):
        return replace(panel, phase="error", note=what.sentence)
    if what is None or panel.phase == "error":
        return panel
    return replace(panel, phase="done" if what.done else "writing", answer=what)


def _work(engine: Engine, question: Question, place: int, events: "queue.Queue[_Event]", stop: Stop) -> None:
    try:
        snapshots = ask(
            engine, question.text, question.variant, question.sampling, question.history, question.structured
        )
        with closing(snapshots):
            for answer in snapshots:
                events.put((place, answer))
                if stop.is_set():
                    break
    except MedGRPOError as error:
        events.put((place, _Failure(str(error))))
    except Exception:
        LOG.exception("%s failed", question.variant)
        events.put((place, _Failure(CRASHED)))
    finally:
        events.put((place, None))
