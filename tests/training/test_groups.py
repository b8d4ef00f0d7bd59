"""The inspector shows what trained: whole groups, recorded scores, and reasons only where they are true today."""

from dataclasses import replace
from pathlib import Path

import pytest
from written_runs import BARE, CASE, CUT, RIGHT, WRONG, a_run, write_group

from medgrpo.models import PROFILES
from medgrpo.prompts import build_messages
from medgrpo.rewards import explain
from medgrpo.training.groups import GONE, chosen, groups, ordered, with_reasons
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View


@pytest.fixture
def view(tmp_path: Path) -> View:
    run = a_run(tmp_path / "run")
    write_group(run, 1, 0, [RIGHT, WRONG, BARE, CUT])
    write_group(run, 1, 1, [WRONG, WRONG])
    write_group(run, 5, 0, [RIGHT, RIGHT])
    write_group(run, 5, 1, [CUT, RIGHT])
    return View(run)


def test_a_group_holds_what_was_recorded(view: View) -> None:
    first, second = groups(view, 1)
    assert (first.key, first.case_id, first.prompt) == ("1/0", CASE.id, CASE.question)
    assert [each.text for each in first.completions] == [RIGHT, WRONG, BARE, CUT]
    assert [each.truncated for each in first.completions] == [False, False, False, True]
    assert sum(each.advantage for each in first.completions) == pytest.approx(0, abs=1e-9)
    assert {score.name: score.weight for score in first.completions[0].scores} == view.weights
    assert second.flat
    assert not first.flat


def test_filters(view: View) -> None:
    def keys(step: int | None, which: str) -> list[str]:
        return [group.key for group in chosen(view, step, which)]

    assert keys(None, "all") == ["5/0", "5/1", "1/0", "1/1"]
    assert keys(1, "all") == ["1/0", "1/1"]
    assert keys(None, "no spread") == ["5/0", "1/1"]
    assert keys(None, "right but malformed") == ["1/0"]
    assert keys(5, "right but malformed") == []
    best = keys(None, "best")
    assert best[0] == "5/0"
    assert keys(None, "worst") == best[::-1]


def test_completions_are_read_best_worst_or_malformed_first(view: View) -> None:
    group = groups(view, 1)[0]
    assert ordered(group, "all")[0].text == RIGHT
    assert ordered(group, "worst")[-1].text == RIGHT
    assert ordered(group, "right but malformed")[0].text == BARE


def test_reasons_are_those_of_the_rewards(view: View) -> None:
    for completion in groups(view, 1)[0].completions:
        assert list(with_reasons(completion, CASE.question, CASE)) == explain(completion.text, CASE)


def test_a_case_that_changed_or_is_gone_explains_nothing(view: View) -> None:
    completion = groups(view, 1)[0].completions[0]
    for case in (None, replace(CASE, question=CASE.question + " He smokes.")):
        reasons = {score.name: score.why for score in with_reasons(completion, CASE.question, case)}
        assert reasons["correctness"] == GONE
        assert reasons["reasoning"] == GONE
        assert reasons["format"] == next(s.why for s in explain(RIGHT, CASE) if s.name == "format")


def test_a_reward_that_changed_since_does_not_explain_the_old_score(view: View) -> None:
    completion = groups(view, 1)[0].completions[0]
    old = tuple(replace(score, value=0.25) if score.name == "tags" else score for score in completion.scores)
    reasons = {score.name: score for score in with_reasons(replace(completion, scores=old), CASE.question, CASE)}
    assert reasons["tags"].value == 0.25
    assert reasons["tags"].why == "The reward has changed since: today it would give 1.00."


def test_a_reward_that_is_no_more_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    write_group(run, 1, 0, [RIGHT, WRONG], scores={"vanished": 0.5})
    (group,) = groups(View(run), 1)
    (score,) = with_reasons(group.completions[0], CASE.question, CASE)
    assert (score.value, score.why) == (0.5, "There is no such reward any more.")


def test_torn_and_foreign_lines_are_left_out(view: View) -> None:
    with view.run.completions_file(5).open("a") as file:
        file.write('{"completion": "x"}\n[1]\n{"step": 5, "group": 1, "compl')
    assert [len(group.completions) for group in groups(View(view.run), 5)] == [2, 2]


def test_a_file_that_grows_is_read_again(view: View) -> None:
    write_group(view.run, 5, 2, [RIGHT, WRONG])
    assert [group.index for group in groups(view, 5)] == [0, 1, 2]


def test_form_tags_in_a_question_do_not_hide_the_case(tmp_path: Path) -> None:
    """The prompt has such tags made harmless; the case is still the same."""
    odd = replace(
        CASE, question="He wrote <answer>gout</answer> and has crushing chest pain.", findings=("crushing chest pain",)
    )
    run = a_run(tmp_path / "run")
    write_group(run, 1, 0, [RIGHT, WRONG], odd, prompt=build_messages(odd.question)[-1]["content"])
    (group,) = groups(View(run), 1)
    assert all(score.why != GONE for score in with_reasons(group.completions[0], group.prompt, odd))


def test_the_shipped_recording_has_whole_groups() -> None:
    view = View(RunDirectory(PROFILES["smollm2-135m"].assets / "runs" / "grpo"))
    size = view.setting("grpo.num_generations")
    for step in view.completion_steps:
        assert {len(group.completions) for group in groups(view, step)} == {size}
