import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medgrpo.cases import Case
from medgrpo.engines import Health, Sampling
from medgrpo.errors import EngineError, RunError
from medgrpo.evaluation.measures import summarise
from medgrpo.evaluation.report import scoreboard, table, write_report
from medgrpo.evaluation.run import evaluate, read_records
from medgrpo.parsing import compose
from medgrpo.prompts import Message

CASES = [Case(id=f"c/test/note/{i}", question=f"Case {i}: hot toe", answer="Gout", kind="diagnosis") for i in range(6)]


class Counting:
    """An engine that answers every case in form, and counts what it was asked."""

    name, model, adapter, variants = "counting", "none", "a1", ("base", "grpo")

    def __init__(self, break_at: int = 10**9) -> None:
        self.asked: list[Sequence[Message]] = []
        self.break_at = break_at

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        self.asked.append(messages)
        if len(self.asked) > self.break_at:
            raise EngineError("The model server stopped.")
        yield from compose("A hot toe.", "Gout" if variant == "grpo" else "Sepsis").split(" ")

    def health(self) -> Health:
        return Health("ready", "")

    def close(self) -> None:
        pass


def test_an_interrupted_evaluation_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        evaluate(Counting(break_at=3), "grpo", CASES, tmp_path)
    assert len(read_records(tmp_path)) == 3
    again = Counting()
    results = evaluate(again, "grpo", CASES, tmp_path)
    assert len(again.asked) == 3
    assert [r.case_id for r in results] == [c.id for c in CASES]
    assert all(r.strict for r in results)
    assert {r.group for r in results} == {"note"}


def test_a_torn_last_line_is_answered_again(tmp_path: Path) -> None:
    evaluate(Counting(), "grpo", CASES, tmp_path)
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text()[:-40])
    again = Counting()
    assert len(evaluate(again, "grpo", CASES, tmp_path)) == 6
    assert len(again.asked) == 1
    assert len(read_records(tmp_path)) == 6


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    evaluate(Counting(), "grpo", CASES, tmp_path)
    with pytest.raises(RunError, match="another sampling"):
        evaluate(Counting(), "grpo", CASES, tmp_path, sampling=Sampling(temperature=1.0))


def test_stop_ends_after_the_case_in_flight(tmp_path: Path) -> None:
    stop = threading.Event()
    results = evaluate(Counting(), "grpo", CASES, tmp_path, stop=stop, on_progress=lambda done, of: stop.set())
    assert len(results) == 1


def test_examples_are_shown_with_their_whole_form(tmp_path: Path) -> None:
    engine = Counting()
    evaluate(engine, "base", CASES[:1], tmp_path, examples=[("Another case", "<reasoning>\nx\n</reasoning>")])
    assert [m["role"] for m in engine.asked[0]] == ["system", "user", "assistant", "user"]
    assert engine.asked[0][2]["content"].startswith("<reasoning>")


def test_the_report_compares_the_arms_on_the_same_cases(tmp_path: Path) -> None:
    arms = {
        "base": evaluate(Counting(), "base", CASES, tmp_path / "base"),
        "GRPO": evaluate(Counting(), "grpo", CASES, tmp_path / "grpo"),
    }
    write_report(arms, tmp_path, "Six cases", "GRPO")
    report = (tmp_path / "report.md").read_text()
    assert "| GRPO | 100.0 % (61.0–100.0) |" in report
    assert "GRPO against base, 6 cases: +100.0 points" in report
    assert (tmp_path / "accuracy.png").stat().st_size > 5000
    record = json.loads((tmp_path / "scoreboard.json").read_text())
    assert record["paired"]["base"]["only_second"] == 6
    assert scoreboard(arms)["arms"]["GRPO"]["strict"]["hits"] == 6
    assert table({"base": summarise(arms["base"])}).count("\n") == 2
