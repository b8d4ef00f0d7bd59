"""Several answers at once: together, in order of arrival, stoppable, and an error stays in its own panel."""

import threading
import time
from contextvars import ContextVar

from helpers import desk_of, until

from medgrpo.answers import compare
from medgrpo.engines.base import Health
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import ModelError
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Stop
from medgrpo.ui.stream import CRASHED, Question, answers

LONG = Script("word " * 400)
SHORT = Script("<reasoning>why</reasoning><answer>Gout</answer>")
BOTH = [Question("a case", "base"), Question("a case", "grpo")]


def test_both_stream_at_the_same_time():
    engine = FakeEngine({"base": LONG, "grpo": LONG}, delay=0.004)
    seen = [(len(a.text), len(b.text), a.running, b.running) for a, b in answers(desk_of(engine), BOTH, Stop())]
    together = [1 for a, b, runs_a, runs_b in seen if a and b and runs_a and runs_b]
    assert len(together) > 3
    assert seen[-1][2:] == (False, False)


def test_a_slow_one_does_not_hold_the_other_back():
    engine = FakeEngine({"base": Script("word " * 300), "grpo": SHORT}, delay=0.005)
    stream = answers(desk_of(engine), BOTH, Stop())
    for base, grpo in stream:
        if grpo.phase == "done":
            assert base.phase == "writing"
            break
    stream.close()
    assert until(lambda: engine.running == 0)


def test_updates_are_throttled():
    engine = FakeEngine({"base": LONG, "grpo": LONG}, delay=0.002)
    start = time.monotonic()
    count = sum(1 for _ in answers(desk_of(engine), BOTH, Stop()))
    assert count <= 14 * (time.monotonic() - start) + 5


def test_a_crowd_shares_the_updates_and_the_first_words_do_not_wait():
    def updates(desk):
        start = time.monotonic()
        times = [time.monotonic() - start for (panel,) in answers(desk, BOTH[:1], Stop()) if panel.text]
        return len(times), times[0]

    engine = FakeEngine({"base": Script("word " * 300), "grpo": SHORT}, delay=0.003)
    alone, _ = updates(desk_of(engine))
    crowded = desk_of(engine)
    crowded.line.slots = 64
    for _ in range(63):
        crowded.line.join()
    few, first = updates(crowded)
    assert few < alone / 2
    assert first < 0.25, "with 64 in the line an update is due every third of a second"


def test_stop_keeps_what_was_written():
    engine = FakeEngine({"base": LONG, "grpo": Script("<reasoning>" + LONG.text)}, delay=0.005)
    stop = Stop()
    threading.Timer(0.4, stop.set).start()
    start = time.monotonic()
    *_, last = answers(desk_of(engine), BOTH, stop)
    assert time.monotonic() - start < 1.4
    assert [panel.phase for panel in last] == ["stopped", "stopped"]
    assert all(panel.text for panel in last)
    assert until(lambda: engine.running == 0)


def test_a_replaced_run_says_nothing_more():
    engine = FakeEngine({"base": LONG, "grpo": LONG}, delay=0.005)
    stop = Stop()
    stream = answers(desk_of(engine), BOTH, stop)
    next(stream)
    stop.replaced = True
    stop.set()
    assert all(panel.phase != "stopped" for panels in stream for panel in panels)


def test_an_error_stays_in_its_panel():
    engine = FakeEngine({"base": Script("one two three four", fail_after=2, error="It broke: mend it."), "grpo": SHORT})
    *_, (base, grpo) = answers(desk_of(engine), BOTH, Stop())
    assert (base.phase, base.note, grpo.phase) == ("error", "It broke: mend it.", "done")
    assert base.text == "one two"


def test_an_unexpected_error_becomes_a_sentence():
    def crash(messages):
        raise RuntimeError("secret detail")

    *_, (base,) = answers(desk_of(FakeEngine({"base": crash})), [BOTH[0]], Stop())
    assert (base.phase, base.note) == ("error", CRASHED)


def test_waiting_in_line_is_said_and_can_be_stopped():
    engine = FakeEngine({"base": LONG}, delay=0.01)
    desk = desk_of(engine, slots=1)
    first = answers(desk, [BOTH[0]], Stop())
    next(first)
    stop = Stop()
    second = answers(desk, [BOTH[0]], stop)
    assert next(second)[0].note == "Waiting: one question is ahead of this one."
    stop.set()
    assert next(second)[0].phase == "stopped"
    assert desk.line.waiting() == 0
    first.close()
    assert not desk.line.busy()


def test_waits_until_the_model_is_loaded():
    engine, ready = FakeEngine({"base": SHORT}), threading.Event()

    def load(settings):
        ready.wait(5)
        return engine

    stream = answers(Desk(Settings(), load).open(), [BOTH[0]], Stop())
    assert "is loaded" in next(stream)[0].note
    ready.set()
    *_, (last,) = stream
    assert last.phase == "done"


def test_a_model_that_cannot_be_loaded_becomes_a_sentence():
    def load(settings):
        raise ModelError("No weights: download them.")

    desk = Desk(Settings(), load).open()
    assert until(lambda: desk.health() == Health("down", "No weights: download them."))
    *_, (last,) = answers(desk, [BOTH[0]], Stop())
    assert (last.phase, last.note) == ("error", "No weights: download them.")


def test_the_engine_is_asked_in_the_context_of_the_event():
    """ZeroGPU finds the visitor's request there, and with it whose quota pays."""
    who = ContextVar("who", default="nobody")
    seen = []

    class Asking(FakeEngine):
        def stream(self, messages, sampling, variant):
            seen.append(who.get())
            yield from super().stream(messages, sampling, variant)

    who.set("a visitor")
    list(answers(desk_of(Asking({"base": SHORT, "grpo": SHORT})), BOTH, Stop()))
    assert seen == ["a visitor"] * 2
    seen.clear()
    compare(Asking({"base": SHORT, "grpo": SHORT}), "a case")
    assert seen == ["a visitor"] * 2
