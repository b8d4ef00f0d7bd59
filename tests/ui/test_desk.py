"""Another adapter behind the same page: nobody's answer is lost, nothing fails half, memory can be given to a run."""

import threading

import pytest
from helpers import until

from medgrpo.engines.base import Health, Sampling
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import EngineError, ModelError
from medgrpo.settings import Settings
from medgrpo.ui.desk import Desk
from medgrpo.ui.state import Stop
from medgrpo.ui.stream import Question, answers


class Loader:
    """Engines whose GRPO model says which adapter it is; `broken` cannot be loaded, `down` does not come up."""

    def __init__(self, delay=0.0):
        self.engines: list[FakeEngine] = []
        self.delay = delay

    def __call__(self, settings):
        if settings.adapter == "broken":
            raise ModelError("The adapter is for another model: choose another.")
        text = f"<reasoning>r</reasoning><answer>{settings.adapter or 'shipped'} {'word ' * 30}</answer>"
        state = Health("down", "It stopped: see the log.") if settings.adapter == "down" else Health("ready", "Ready.")
        engine = FakeEngine({"base": Script("base"), "grpo": Script(text)}, delay=self.delay, state=state)
        engine.adapter = settings.adapter or "shipped"
        self.engines.append(engine)
        return engine


def opened(**options):
    loader = Loader(**options)
    desk = Desk(Settings(engine="fake"), loader).open()
    desk.check(5)
    return desk, loader


def answer(desk):
    *_, panels = answers(desk, [Question("A toe.", "grpo", Sampling())], Stop())
    return panels[0].answer


def test_another_adapter_answers_under_its_own_name_and_back():
    desk, loader = opened()
    desk.use_adapter("/runs/one/adapter", "run one")
    assert answer(desk).adapter == "run one"
    assert "/runs/one/adapter" in answer(desk).text
    assert until(lambda: loader.engines[0].closed)
    desk.use_adapter("", "")
    assert answer(desk).adapter == "shipped"
    assert desk.adapter == ""
    desk.close()
    assert all(engine.closed for engine in loader.engines)


def test_an_answer_in_progress_is_finished_by_the_adapter_it_was_asked_of():
    desk, loader = opened(delay=0.02)
    stream = answers(desk, [Question("A toe.", "grpo", Sampling())], Stop())
    while not next(stream)[0].text:
        pass
    desk.use_adapter("two", "run two")
    assert not loader.engines[0].closed
    *_, panels = stream
    assert panels[0].phase == "done"
    assert panels[0].answer.adapter == "shipped"
    assert "shipped" in panels[0].text
    assert until(lambda: loader.engines[0].closed)
    desk.close()


@pytest.mark.parametrize(("adapter", "says"), [("broken", "for another model"), ("down", "could not be loaded")])
def test_an_adapter_that_fails_leaves_the_one_before(adapter, says):
    desk, loader = opened()
    desk.use_adapter("good", "run good")
    with pytest.raises((ModelError, EngineError), match=says):
        desk.use_adapter(adapter, "run bad")
    assert desk.adapter == "good"
    assert answer(desk).adapter == "run good"
    assert desk.health().state == "ready"
    assert until(lambda: sum(not engine.closed for engine in loader.engines) == 1)
    desk.close()


def test_two_choices_at_once_leave_one_engine():
    desk, loader = opened()
    threads = [threading.Thread(target=desk.use_adapter, args=(name, name)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert until(lambda: sum(not engine.closed for engine in loader.engines) == 1)
    assert answer(desk).adapter == desk.adapter
    desk.close()


def test_the_engine_gives_its_memory_to_a_run_and_comes_back_with_its_adapter():
    desk, loader = opened()
    desk.use_adapter("one", "run one")
    desk.rest("A run needs the memory.")
    assert loader.engines[-1].closed
    assert desk.health() == Health("down", "A run needs the memory.")
    with pytest.raises(EngineError, match="needs the memory"):
        _ = desk.engine
    with pytest.raises(EngineError, match="needs the memory"):
        desk.use_adapter("two", "run two")
    desk.wake()
    assert until(lambda: desk.health().state == "ready")
    assert answer(desk).adapter == "run one"
    desk.wake()  # nothing to wake
    assert len(loader.engines) == 3
    desk.close()


def test_a_server_elsewhere_keeps_its_own_adapters():
    desk = Desk(Settings(engine="endpoint", endpoint="http://127.0.0.1:9/v1"), Loader()).open()
    desk.check(5)
    with pytest.raises(EngineError, match="load it there"):
        desk.use_adapter("one", "run one")
    desk.close()


def test_zero_gpu_has_the_engine_loaded_in_the_thread_that_opens_the_page():
    threads = []

    def load(settings):
        threads.append(threading.current_thread())
        return FakeEngine()

    desk = Desk(Settings(engine="fake"), load).open(wait=True)
    desk.check(0)
    assert desk.engine
    assert threads == [threading.current_thread()]

    def fail(settings):
        raise ModelError("There are no weights: fetch them.")

    with pytest.raises(ModelError, match="no weights"):
        Desk(Settings(engine="fake"), fail).open(wait=True).check(0)
