"""An evaluation that runs behind the page: one at a time, in the page's line, kept under `<runs>/evaluations/<name>`.

It belongs to the process and not to a visitor: a reload, or another visitor, sees it go on. A restart ends it, and what was
answered is kept; starting it again under the same name asks only what is missing. Between two cases it goes to the end of
the line, so that nobody waits for more than the case that is being answered.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medgrpo.cases import Case
from medgrpo.data import load_cases
from medgrpo.engines.base import GRPO, Health, Sampling
from medgrpo.errors import EngineError, MedGRPOError, RunError, SettingsError
from medgrpo.evaluation.arms import collect
from medgrpo.evaluation.folder import arm_folders, keep_cases, read_cases, read_results, read_settings, slug
from medgrpo.evaluation.measures import Result, Share, share
from medgrpo.evaluation.report import write_report
from medgrpo.evaluation.run import evaluate
from medgrpo.evaluation.workers import fingerprint
from medgrpo.prompts import Message
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk

LOG = logging.getLogger(__name__)
SOURCES = {
    "Casebook, test split": ("casebook", "test"),
    "Casebook, hard split": ("casebook", "hard"),
    "Casebook, validation split": ("casebook", "validation"),
    "Calculations": ("calculations", "test"),
    "Free prompts, outside the 32 conditions": ("out_of_scope", "test"),
}
MOST, FEW = 640, 16
"""Cases of one evaluation from the page: for who may train here, and for anybody else."""


@dataclass(frozen=True)
class Order:
    """What to evaluate.

    Attributes:
        name: of the folder; `of` makes one if a person gave none.
        variant: "base" or "grpo".
        cases: to ask.
    """

    name: str
    variant: str
    cases: tuple[Case, ...]

    @classmethod
    def of(cls, settings: Settings, variant: str, data: str, count: int, name: str, most: int) -> "Order":
        """An order from what a person chose.

        Raises:
            SettingsError: there is no such data set, the number is out of range, or the name has no letter or digit.
        """
        if data not in SOURCES:
            raise SettingsError(f"There is no data set {data!r}: choose one of {', '.join(SOURCES)}.")
        check_size(count, most)
        source, split = SOURCES[data]
        if name.strip() and not slug(name):
            raise SettingsError(f"The name {name!r} has no letter or digit to name a folder by: give another one.")
        named = slug(name) or slug(f"{Path(settings.model).stem} {source} {split} {count}")
        return cls(named, variant, tuple(load_cases(source, split, count)))


def check_size(count: int, most: int) -> None:
    """Raises SettingsError if a visitor may not evaluate that many cases."""
    if not 1 <= count <= most:
        why = (
            "" if most == MOST else " More are for who may train here: duplicate the Space, or run it on your machine."
        )
        raise SettingsError(f"{count} cases are out of range: choose 1 to {most}.{why}")


def folder_of(settings: Settings) -> Path:
    """Where evaluations of this machine are."""
    return settings.runs / "evaluations"


def unfinished(folder: Path) -> Order | None:
    """The first arm of an evaluation that lacks answers, to go on with; None if none does."""
    cases = read_cases(folder)
    for arm in arm_folders(folder):
        answered = {result.case_id for result in read_results(arm)}
        variant = read_settings(arm).get("variant", "")
        if variant in ("base", GRPO) and cases.keys() - answered:
            return Order(folder.name, variant, tuple(cases.values()))
    return None


class Job:
    """One evaluation, running or over; read by any thread.

    Attributes:
        order: what was asked for.
        title: of the arm.
        visitor: who started it.
        state: "running", "done", "stopped" or "failed".
        note: why it failed.
        results, of: answers so far, and how many there will be.
    """

    def __init__(self, order: Order, title: str, visitor: str) -> None:
        self.order, self.title, self.visitor = order, title, visitor
        self.state, self.note = "running", ""
        self.results: Sequence[Result] = ()
        self.of = len(order.cases)
        self.stop = threading.Event()
        self._began = time.monotonic()
        self._before: int | None = None

    def progress(self, results: Sequence[Result], of: int) -> None:
        """What `evaluate` reports."""
        if self._before is None:
            self._before = len(results) - 1
        self.results, self.of = results, of

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def right(self) -> Share:
        """Strict accuracy so far."""
        return share((result.case, bool(result.strict)) for result in self.results if result.correct is not None)

    @property
    def seconds_left(self) -> float | None:
        """At the pace of this start; None before its first answer."""
        answered = len(self.results) - (self._before or 0)
        return (self.of - len(self.results)) * (time.monotonic() - self._began) / answered if answered else None


class Jobs:
    """The evaluation that runs, or ran last."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.last: Job | None = None
        self._lock = threading.Lock()

    def start(self, order: Order, visitor: str) -> Job:
        """Begin, or go on with what is missing; returns at once.

        Raises:
            MedGRPOError: another one is running, the engine isn't there or lacks the variant, or the folder holds another one.
        """
        engine = self.desk.engine
        if order.variant not in engine.variants:
            raise EngineError(
                f"There is no adapter for {engine.model} to evaluate: train one, or evaluate the base model."
            )
        title = "base" if order.variant != GRPO else engine.adapter if self.desk.adapter else "GRPO"
        folder = folder_of(self.desk.settings) / order.name
        with self._lock:
            if self.last and self.last.running:
                raise RunError(f"The evaluation {self.last.order.name} is running: wait until it is done, or stop it.")
            keep_cases(folder, order.cases)
            self.last = job = Job(order, title, visitor)
        threading.Thread(target=self._run, args=(job, folder), name="evaluation", daemon=True).start()
        return job

    def _run(self, job: Job, folder: Path) -> None:
        about = {"title": job.title}
        try:
            engine = Lined(self.desk, job.stop)
            if job.order.variant == GRPO:
                chosen = replace(self.desk.settings, adapter=self.desk.adapter or self.desk.settings.adapter)
                about |= {"adapter_sha256": fingerprint(chosen)} if fingerprint(chosen) else {}
            arm = folder / (slug(job.title) or job.order.variant)
            evaluate(
                engine, job.order.variant, job.order.cases, arm,
                about=about, on_progress=job.progress, stop=job.stop,
            )  # fmt: skip
            state, note = ("stopped" if job.stop.is_set() else "done"), ""
        except MedGRPOError as error:
            state, note = "failed", str(error)
        except Exception:
            LOG.exception("the evaluation %s failed", job.order.name)
            state, note = "failed", "The evaluation broke off unexpectedly; the log says why. Start it again to go on."
        try:
            write_report(collect(folder, reference="" if job.order.variant != GRPO else job.title), folder)
        except RunError:
            pass  # stopped before its first answer
        except Exception:
            LOG.exception("the report of %s could not be written", job.order.name)
        job.state, job.note = state, note


class Lined:
    """The desk's engine behind the desk's line, for one evaluation; see `Engine`.

    Raises:
        EngineError: it is not loaded; or, from `stream`, it is another one than at the beginning.
    """

    def __init__(self, desk: Desk, stop: threading.Event) -> None:
        self._desk, self._stop = desk, stop
        engine = desk.engine
        self.name, self.model, self.adapter, self.variants = engine.name, engine.model, engine.adapter, engine.variants
        self.quotes: str = getattr(engine, "quotes", "free")

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`; empty if it was stopped while it waited."""
        ticket = self._desk.line.join()
        try:
            while self._desk.line.ahead(ticket) and not self._stop.is_set():
                self._stop.wait(0.05)
            if self._stop.is_set():
                return
            engine = self._desk.engine
            if (engine.model, engine.adapter) != (self.model, self.adapter):
                raise EngineError(
                    "The adapter was changed while the evaluation ran. What was answered is kept: choose "
                    f"{self.adapter or self.model} again to go on, or give another name."
                )
            yield from engine.stream(messages, sampling, variant)
        finally:
            self._desk.line.leave(ticket)

    def health(self) -> Health:
        """See `Engine.health`."""
        return self._desk.health()

    def close(self) -> None:
        """Nothing: the engine is the desk's."""
