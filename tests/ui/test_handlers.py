"""Compare and chat as plain generators."""

import gradio as gr
import pytest
from helpers import desk_of, until

from medgrpo.engines.base import Sampling
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.ui import chat, compare
from medgrpo.ui.controls import without_echo
from medgrpo.ui.state import Panel, Visits

GOUT = Script("<reasoning>a red toe</reasoning><answer>Gout</answer>")
BAD = [("", "empty"), ("  \n\t ", "empty"), ("x" * 100_000, "100,000|20,000|long")]


def race(engine, question="A red toe. Diagnosis?", **options):
    options = {"bare": False, "sampling": Sampling()} | options
    return compare.run(desk_of(engine), Visits(), "ann", question, **options)


def test_compare_ends_with_both_answers():
    *_, last = race(FakeEngine({"base": Script("Gout, I think"), "grpo": GOUT}))
    assert not last.busy
    assert {variant: panel.phase for variant, panel in last.panels.items()} == {"base": "done", "grpo": "done"}


@pytest.mark.parametrize(("question", "says"), BAD)
def test_bad_input_is_a_sentence_and_asks_nobody(question, says):
    engine = FakeEngine()
    (screen,) = race(engine, question)
    assert screen.problem
    assert not screen.busy
    (turn,) = chat.say(desk_of(engine), Visits(), "ann", "base", question, (), Sampling())
    assert turn.problem
    assert turn.box is None


def test_the_emergency_comes_before_any_text():
    first = next(race(FakeEngine(delay=0.01), "Crushing chest pain and shortness of breath."))
    assert first.emergencies
    assert not any(panel.text for panel in first.panels.values())


def test_identifiers_are_pointed_out():
    first = next(race(FakeEngine(), "Write to ann@example.org about her toe."))
    assert "e-mail" in first.privacy[0]


def test_base_without_instructions_changes_only_base():
    asked = {}

    def remember(variant):
        def script(messages):
            asked[variant] = [message["role"] for message in messages]
            return GOUT

        return script

    list(race(FakeEngine({variant: remember(variant) for variant in ("base", "grpo")}), bare=True))
    assert asked == {"base": ["user"], "grpo": ["system", "user"]}
    list(race(FakeEngine({variant: remember(variant) for variant in ("base", "grpo")})))
    assert asked == {"base": ["system", "user"], "grpo": ["system", "user"]}


def test_retry_of_one_keeps_the_other():
    engine = FakeEngine({"base": GOUT, "grpo": GOUT})
    before = {"base": Panel("base", "done"), "grpo": Panel("grpo", "error", note="x")}
    *_, last = race(engine, before=before, only="grpo")
    assert last.panels["base"] is before["base"]
    assert last.panels["grpo"].phase == "done"


def test_without_an_adapter_only_base_answers():
    desk = desk_of(FakeEngine({"base": GOUT}))
    *_, last = compare.run(desk, Visits(), "ann", "A red toe.", False, Sampling())
    assert set(last.panels) == {"base"}
    assert "No adapter for" in compare.paint(desk, last)[2]
    (screen,) = chat.say(desk, Visits(), "ann", "grpo", "A red toe.", (), Sampling())
    assert "No adapter for" in screen.problem


def test_closing_stops_the_models():
    engine = FakeEngine({"base": Script("word " * 500), "grpo": Script("word " * 500)}, delay=0.005)
    visits = Visits()
    run = compare.run(desk_of(engine), visits, "ann", "A red toe.", False, Sampling())
    for _ in range(4):
        next(run)
    assert engine.running == 2
    run.close()
    assert until(lambda: engine.running == 0)


def test_stop_button_stops_through_the_visit():
    engine = FakeEngine({"base": Script("word " * 500), "grpo": Script("word " * 500)}, delay=0.005)
    visits = Visits()
    run = compare.run(desk_of(engine), visits, "ann", "A red toe.", False, Sampling())
    for _ in range(4):
        next(run)
    visits.stop("bob", compare.PLACE)
    assert next(run).busy
    visits.stop("ann", compare.PLACE)
    *_, last = run
    assert {panel.phase for panel in last.panels.values()} == {"stopped"}


def test_a_conversation_carries_its_history():
    heard = []

    def script(messages):
        heard.append([(message["role"], message["content"]) for message in messages])
        return GOUT

    desk = desk_of(FakeEngine({"base": script, "grpo": script}))
    *_, first = chat.say(desk, Visits(), "ann", "grpo", "A red toe.", (), Sampling())
    *_, second = chat.say(desk, Visits(), "ann", "grpo", "And now?", first.turns, Sampling())
    assert [turn.question for turn in second.turns] == ["A red toe.", "And now?"]
    assert heard[1][1:] == [("user", "A red toe."), ("assistant", "Gout"), ("user", "And now?")]
    *_, again = chat.again(desk, Visits(), "ann", "grpo", second.turns, Sampling())
    assert [turn.question for turn in again.turns] == ["A red toe.", "And now?"]
    assert heard[2] == heard[1]
    assert again.box is None


def test_the_box_is_emptied_once_when_a_question_is_taken():
    desk = desk_of(FakeEngine({"base": GOUT}))
    boxes = [screen.box for screen in chat.say(desk, Visits(), "ann", "base", "A red toe.", (), Sampling())]
    assert boxes[0] == ""
    assert set(boxes[1:]) == {None}


def test_asking_again_without_a_question():
    (screen,) = chat.again(desk_of(FakeEngine()), Visits(), "ann", "base", (), Sampling())
    assert "type a case first" in screen.problem


def test_the_end_of_an_event_changes_nothing():
    """Gradio sends the last values again when a generator ends; by then a newer answer may stand there."""
    sent = list(without_echo([["a", 1], ["b", 2]]))
    assert sent[:2] == [["a", 1], ["b", 2]]
    assert sent[2:] == [[gr.skip(), gr.skip()]]
