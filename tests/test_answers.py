import pytest

from medgrpo.answers import answer, ask, compare
from medgrpo.engines.fake import FakeEngine, Script
from medgrpo.errors import CaseError, EngineError

FORM = "<reasoning>\nKey.\n</reasoning>\n<answer>\nGout. Next: joint aspiration.\n</answer>"


def engine() -> FakeEngine:
    return FakeEngine({"base": Script("It may be gout."), "grpo": Script(FORM)})


def test_snapshots_grow_and_the_last_is_done() -> None:
    snapshots = list(ask(engine(), "A hot big toe", "grpo"))
    assert snapshots[0].text == ""
    assert [len(s.text) for s in snapshots] == sorted(len(s.text) for s in snapshots)
    assert [s.done for s in snapshots[:-1]] == [False] * (len(snapshots) - 1)
    last = snapshots[-1]
    assert last.done
    assert last.text == FORM
    assert last.sections.status == "ok"
    assert last.reasoning_seconds is not None


def test_an_answer_may_quote_what_was_told_before() -> None:
    last = list(ask(engine(), "And now?", "grpo", history=[("A hot big toe", FORM)]))[-1]
    assert last.told == "A hot big toe\nAnd now?"
    assert answer(engine(), "A hot big toe", "grpo").told == "A hot big toe"


def test_the_record_has_the_public_fields() -> None:
    record = answer(engine(), "A hot big toe", "base").record()
    assert list(record) == [
        *("question", "variant", "text", "reasoning", "answer", "format", "model", "adapter"),
        *("sampling", "tokens", "seconds", "red_flags", "disclaimer"),
    ]
    assert record["format"] == "missing"
    assert record["adapter"] == ""
    assert record["disclaimer"]


def test_closing_stops_the_engine() -> None:
    fake = engine()
    snapshots = ask(fake, "A hot big toe", "grpo")
    next(snapshots)
    next(snapshots)
    assert fake.running == 1
    snapshots.close()
    assert fake.running == 0
    with pytest.raises(StopIteration):
        next(snapshots)


def test_compare_answers_with_every_variant_on_the_same_question() -> None:
    base, grpo = compare(engine(), "A hot big toe")
    assert (base.variant, grpo.variant) == ("base", "grpo")
    assert base.question == grpo.question


@pytest.mark.parametrize("question", ["", "  \n\t ", "x" * 100_000])
def test_a_question_that_cannot_be_asked_says_so_before_anything_runs(question: str) -> None:
    with pytest.raises(CaseError):
        ask(engine(), question, "base")


def test_an_unknown_variant_is_an_engine_error() -> None:
    with pytest.raises(EngineError):
        list(ask(engine(), "A hot big toe", "other"))
