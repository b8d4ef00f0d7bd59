import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from counting import Counting

from medgrpo.cases import Case
from medgrpo.engines import Sampling
from medgrpo.errors import EngineError, RunError
from medgrpo.evaluation.folder import read_lines, read_settings
from medgrpo.evaluation.run import adapter_name, evaluate
from medgrpo.prompts import Message

CASES = [Case(id=f"c/test/note/{i}", question=f"Case {i}: hot toe", answer="Gout", kind="diagnosis") for i in range(6)]


def test_an_interrupted_evaluation_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        evaluate(Counting(break_at=3), "grpo", CASES, tmp_path)
    assert len(read_lines(tmp_path, "results")) == 3
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
    assert len(read_lines(tmp_path, "results")) == 6


def test_other_settings_need_another_folder(tmp_path: Path) -> None:
    evaluate(Counting(), "grpo", CASES, tmp_path, about={"title": "One"})
    with pytest.raises(RunError, match="another sampling"):
        evaluate(Counting(), "grpo", CASES, tmp_path, sampling=Sampling(temperature=1.0))
    evaluate(Counting(), "grpo", CASES, tmp_path, about={"title": "Two", "adapter_sha256": "abc"})
    assert read_settings(tmp_path)["title"] == "Two"
    with pytest.raises(RunError, match="another adapter_sha256"):
        evaluate(Counting(), "grpo", CASES, tmp_path, about={"adapter_sha256": "def"})


def test_exact_quotes_are_another_setting_and_an_older_evaluation_had_free_ones(tmp_path: Path) -> None:
    evaluate(Counting(), "grpo", CASES[:1], tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings.pop("quotes") == "free"
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    exact = Counting()
    exact.quotes = "exact"
    with pytest.raises(RunError, match="another quotes"):
        evaluate(exact, "grpo", CASES, tmp_path)
    assert len(evaluate(Counting(), "grpo", CASES, tmp_path)) == len(CASES)


def test_each_seed_is_asked_once_and_more_can_be_added(tmp_path: Path) -> None:
    engine = Counting()
    warm = Sampling(temperature=0.8, seed=5)
    assert len(evaluate(engine, "grpo", CASES[:2], tmp_path, sampling=warm, seeds=2)) == 4
    assert sorted(s.seed for s in engine.sampled) == [5, 5, 6, 6]
    results = evaluate(engine, "grpo", CASES[:2], tmp_path, sampling=warm, seeds=3)
    assert [(r.case_id[-1], r.seed) for r in results] == [(n, s) for s in (5, 6, 7) for n in "01"]
    assert len(engine.asked) == 6


def test_stop_ends_within_a_token_and_keeps_no_half_answer(tmp_path: Path) -> None:
    stop = threading.Event()
    results = evaluate(Counting(), "grpo", CASES, tmp_path, stop=stop, on_progress=lambda results, of: stop.set())
    assert len(results) == 1

    class Stopping(Counting):
        def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
            for delta in super().stream(messages, sampling, variant):
                yield delta
                stop.set()

    stop.clear()
    assert len(evaluate(Stopping(), "grpo", CASES, tmp_path, stop=stop)) == 1
    assert len(read_lines(tmp_path, "results")) == 1


def test_examples_are_shown_with_their_whole_form(tmp_path: Path) -> None:
    engine = Counting()
    evaluate(engine, "base", CASES[:1], tmp_path, examples=[("Another case", "<reasoning>\nx\n</reasoning>")])
    assert [m["role"] for m in engine.asked[0]] == ["system", "user", "assistant", "user"]
    assert engine.asked[0][2]["content"].startswith("<reasoning>")


def test_settings_name_an_adapter_without_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one" / "adapter"
    folder.mkdir(parents=True)
    assert adapter_name(str(folder)) == "one/adapter"
    assert adapter_name("someone/adapter-on-the-hub") == "someone/adapter-on-the-hub"
    assert adapter_name("") == ""
