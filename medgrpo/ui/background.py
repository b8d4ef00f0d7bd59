"""A long call in a thread of its own, seen from a handler that reports how far it is.

The handler yields a sign of life every second, whatever the call is doing. If the visitor leaves, the call goes on to its
end: a push that was wanted is finished, and its result stands where it was sent to.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from medgrpo.errors import MedGRPOError, RunError

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True)
class Look(Generic[P, T]):
    """How a call is: its latest progress, seconds since it began, and its result or error once it has ended."""

    progress: P | None
    seconds: float
    result: T | None = None
    error: MedGRPOError | None = None


def watched(call: Callable[[Callable[[P], None]], T], every: float = 1.0) -> Iterator[Look[P, T]]:
    """Run `call(report)` in a thread; yields at each report and at least `every` seconds, last the end.

    An error that no one foresaw is told without its text, which might hold what was sent.
    """
    reports: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def work() -> None:
        try:
            reports.put(("result", call(lambda progress: reports.put(("progress", progress)))))
        except MedGRPOError as error:
            reports.put(("error", error))
        except Exception as error:
            reports.put(("error", RunError(f"Something unforeseen happened ({type(error).__name__}): try again.")))

    began = time.monotonic()
    threading.Thread(target=work, name="watched", daemon=True).start()
    latest: P | None = None
    while True:
        try:
            kind, value = reports.get(timeout=every)
        except queue.Empty:
            kind, value = "progress", latest
        seconds = time.monotonic() - began
        if kind == "progress":
            latest = value  # type: ignore[assignment]
            yield Look(latest, seconds)
        elif kind == "error":
            yield Look(latest, seconds, error=value)  # type: ignore[arg-type]
            return
        else:
            yield Look(latest, seconds, result=value)  # type: ignore[arg-type]
            return
