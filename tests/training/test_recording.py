"""What is recorded is what trained."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medgrpo.cases import Case
from medgrpo.errors import DataError
from medgrpo.training.dataset import grpo_rows, sft_rows, without_long_prompts
from medgrpo.training.recording import (
    CompletionRecorder,
    StopRequest,
    append_metrics,
    batch_advantages,
    record_held_out,
)
from medgrpo.training.run_directory import RunDirectory

CASE = Case(id="c/1", question="Crushing chest pain.", answer="Myocardial infarction", kind="diagnosis")
RIGHT = "<reasoning>\nIt is typical.\n</reasoning>\n<answer>\nMyocardial infarction\n</answer>"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


def score(recorder: CompletionRecorder, texts: list[str], step: int = 0) -> None:
    """Call two wrapped rewards as TRL does: the length of the text, and None for the empty one."""

    def length(completions: list[Any], **columns: Any) -> list[float | None]:
        return [float(len(each[0]["content"])) for each in completions]

    def picky(completions: list[Any], **columns: Any) -> list[float | None]:
        return [1.0 if each[0]["content"] else None for each in completions]

    columns = {
        "prompts": [[{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]] * len(texts),
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [[5, 2] if text else [5, 5] for text in texts],
        "case_id": ["c/1"] * len(texts),
        "trainer_state": SimpleNamespace(global_step=step),
    }
    for name, reward in (("length", length), ("picky", picky)):
        wrapped = recorder.wrap(name, reward)
        assert wrapped.__name__ == name
        wrapped(**columns)


def recorder(run: RunDirectory, **options: Any) -> CompletionRecorder:
    return CompletionRecorder(run, {"length": 2.0, "picky": 0.5}, 2, "group", [2], **options)


def test_a_batch_is_recorded_with_scores_totals_and_advantages(run: RunDirectory) -> None:
    score(recorder(run), ["", "abc", "a", "a"])
    records = run.completions(1)
    assert [record["group"] for record in records] == [0, 0, 1, 1]
    assert records[0]["scores"] == {"length": 0.0, "picky": None}
    assert [record["total"] for record in records] == [0.0, 6.5, 2.5, 2.5]
    assert records[1]["advantage"] == pytest.approx(0.7071, abs=1e-3)
    assert records[2]["advantage"] == 0
    assert [record["truncated"] for record in records] == [True, False, False, False]
    assert (records[0]["prompt"], records[0]["case"], records[1]["completion"]) == ("Q", "c/1", "abc")


def test_recording_is_bounded_to_whole_groups_and_chosen_steps(run: RunDirectory) -> None:
    sparse = recorder(run, every=5, limit=3)
    for step in range(10):
        score(sparse, ["a", "b", "c", "d"], step)
    assert run.completion_steps() == [1, 5, 10]
    assert len(run.completions(5)) == 2
    score(recorder(run, limit=0), ["a", "b"], 20)
    assert run.completion_steps() == [1, 5, 10]


def test_batch_scaling_divides_by_the_spread_of_the_batch() -> None:
    totals = [0.0, 1.0, 4.0, 4.0]
    assert batch_advantages(totals, 2, "none") == [-0.5, 0.5, 0.0, 0.0]
    assert batch_advantages(totals, 2, "batch")[1] == pytest.approx(0.5 / (2.0615528 + 1e-4))
    assert batch_advantages([None, 1.0, 2.0, 4.0], 2, "group")[:2] == [0.0, 0.0]


def test_metrics_are_strict_json_even_when_a_number_is_not_finite(run: RunDirectory) -> None:
    append_metrics(run, 3, {"loss": float("nan"), "reward": 0.5, "kl": float("inf")})
    line = json.loads(run.metrics_file.read_text(), parse_constant=pytest.fail)
    assert (line["step"], line["loss"], line["kl"], line["reward"]) == (3, None, None, 0.5)


def test_held_out_answers_are_judged_strictly_and_leniently(run: RunDirectory) -> None:
    answers = [(RIGHT, False), ("Myocardial infarction", False), ("nonsense", True)]
    summary = record_held_out(run, 50, [CASE] * 3, answers, 1.0)
    assert summary["format_rate"] == pytest.approx(1 / 3, abs=1e-3)
    assert summary["accuracy"] == pytest.approx(1 / 3, abs=1e-3)
    assert summary["accuracy"] <= summary["lenient_accuracy"]
    assert summary["truncated"] == pytest.approx(1 / 3, abs=1e-3)
    assert [answer["text"] for answer in run.evaluation(50)["answers"]] == [text for text, _ in answers]
    assert run.evaluation_steps() == [50]


def test_a_run_stops_for_the_control_file_and_for_sigterm(run: RunDirectory) -> None:
    usual = signal.getsignal(signal.SIGTERM)
    try:
        run.stop_file.write_text("")
        stop = StopRequest(run)
        assert stop.requested()
        run.stop_file.unlink()
        stop.listen()
        assert not stop.requested()
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_rows_carry_the_prompt_of_the_page_and_the_columns_of_the_rewards() -> None:
    (row,) = grpo_rows([CASE])
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["case_id"] == "c/1"
    (demonstration,) = sft_rows([(CASE, RIGHT)])
    assert demonstration["prompt"] == row["prompt"]
    assert demonstration["completion"] == [{"role": "assistant", "content": RIGHT}]


def test_long_prompts_are_left_out_and_counted() -> None:
    rows = grpo_rows([CASE, Case(id="2", question="x" * 100, answer="y")])
    kept, dropped = without_long_prompts(rows, lambda prompt: len(prompt[-1]["content"]), 50)
    assert (len(kept), dropped) == (1, 1)
    with pytest.raises(DataError, match="max_prompt_length"):
        without_long_prompts(rows, lambda prompt: 100, 50)
    with pytest.raises(DataError, match=r"data\.source"):
        without_long_prompts([], lambda prompt: 0, 50)
