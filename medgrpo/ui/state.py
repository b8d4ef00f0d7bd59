"""What the page knows while it works: the panels, the stop flags of each visitor, and the line in front of the engine.

No Gradio and no HTML here. A `Panel` is a value; what several threads share (`Line`, `Visits`, `Kept`) guards itself.
"""

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

from medgrpo.answers import Answer

Phase = Literal["empty", "waiting", "writing", "done", "stopped", "error"]
Value = TypeVar("Value")


def new_id() -> str:
    """A short id for one answer, so that the page can remember which reasoning a reader opened."""
    return uuid.uuid4().hex[:8]


@dataclass(frozen=True)
class Panel:
    """What one panel shows at one moment.

    Attributes:
        variant: "base" or "grpo".
        phase: where the answer stands.
        answer: the latest snapshot, None before the engine took the question.
        note: for "waiting" why, for "error" one sentence; otherwise "".
        id: the same for all panels of one answer.
    """

    variant: str
    phase: Phase = "empty"
    answer: Answer | None = None
    note: str = ""
    id: str = field(default_factory=new_id)

    @property
    def running(self) -> bool:
        return self.phase in ("waiting", "writing")

    @property
    def text(self) -> str:
        return self.answer.text if self.answer else ""

    def stopped(self) -> "Panel":
        """This panel after Stop: what was written stays."""
        return replace(self, phase="stopped", note="") if self.running else self


class Stop:
    """The stop flag of one run. `replaced`: a newer run owns the panels and this one must not write to them."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.replaced = False

    def set(self) -> None:
        self.event.set()

    def is_set(self) -> bool:
        return self.event.is_set()


class Visits:
    """The running answers of each visitor, so that Stop, a new run or a closed tab can end them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[tuple[str, str], Stop] = {}

    def begin(self, visitor: str, place: str) -> Stop:
        """The flag of a new run at this place of the page; a run that was still going there ends."""
        stop = Stop()
        with self._lock:
            before = self._stops.get((visitor, place))
            if before:
                before.replaced = True
                before.set()
            self._stops[visitor, place] = stop
        return stop

    def end(self, visitor: str, place: str, stop: Stop) -> None:
        """Forget a run that is over."""
        with self._lock:
            if self._stops.get((visitor, place)) is stop:
                del self._stops[visitor, place]

    def stop(self, visitor: str, place: str) -> None:
        """Ask the run at this place to end; nothing happens if there is none."""
        with self._lock:
            stop = self._stops.get((visitor, place))
        if stop:
            stop.set()

    def leave(self, visitor: str) -> None:
        """Stop everything of a visitor whose tab is gone."""
        with self._lock:
            gone = [stop for (who, _), stop in self._stops.items() if who == visitor]
        for stop in gone:
            stop.set()


class Line:
    """First come, first served: at most `slots` questions are with the engine, the others know how many are ahead."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._lock = threading.Lock()
        self._tickets: list[object] = []

    def join(self) -> object:
        """A ticket at the end of the line."""
        ticket = object()
        with self._lock:
            self._tickets.append(ticket)
        return ticket

    def ahead(self, ticket: object) -> int:
        """How many questions have to end before this one may start; 0 means now."""
        with self._lock:
            return max(0, self._tickets.index(ticket) - self.slots + 1)

    def leave(self, ticket: object) -> None:
        """Give the place back; harmless the second time."""
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def tickets(self) -> tuple[object, ...]:
        """Everybody in the line and with the engine, in order."""
        with self._lock:
            return tuple(self._tickets)

    def waiting(self) -> int:
        """How many questions wait for a slot."""
        with self._lock:
            return max(0, len(self._tickets) - self.slots)

    def busy(self) -> int:
        """How many questions are with the engine."""
        with self._lock:
            return min(len(self._tickets), self.slots)


class Kept(Generic[Value]):
    """A value of one visitor that two of their clicks may change at once, held by a `gr.State` and changed in place.

    A handler that returns a new value builds it on the one that stood when it began, so of two clicks in a row the first
    is lost if the second begins before it has answered. Here every change builds on the one before.
    """

    def __init__(self, value: Value) -> None:
        self.value = value

    def change(self, to: Callable[[Value], Value]) -> Value:
        """The value after this change."""
        with _CHANGES:
            self.value = to(self.value)
            return self.value


_CHANGES = threading.Lock()  # one for all visitors: gr.State copies what it holds, and a lock can't be copied
