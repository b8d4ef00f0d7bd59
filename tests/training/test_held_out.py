"""Held-out cases over the run, against hand-counted values and scipy."""

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest
from written_runs import BARE, CUT, RIGHT, WRONG, a_run, write_evaluation

from medgrpo.intervals import sign_test
from medgrpo.training.held_out import accuracy, answer_to, before_after, courses
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View

FIRST = [WRONG, WRONG, RIGHT, RIGHT, BARE, CUT]
SECOND = [RIGHT, WRONG, WRONG, RIGHT, BARE, CUT]
THIRD = [RIGHT, RIGHT, WRONG, RIGHT, RIGHT, CUT]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = a_run(tmp_path / "run")
    for step, texts in ((0, FIRST), (50, SECOND), (100, THIRD)):
        write_evaluation(run, step, texts)
    return run


def test_before_and_after_are_counted_in_pairs(run: RunDirectory) -> None:
    found = before_after(View(run))
    assert found is not None
    assert (found.first, found.last, found.pairs, found.won, found.lost) == (0, 100, 6, 3, 1)
    assert found.p == pytest.approx(binomtest(3, 4).pvalue)
    shares = {row.name: (row.before.hits, row.after.hits, row.after.of) for row in found.rows}
    assert shares == {
        "Right and well-formed": (2, 4, 6),
        "Right": (3, 4, 6),
        "Well-formed": (4, 5, 6),
        "Cut off": (1, 1, 6),
    }
    low, high = found.rows[0].after.interval
    expected = binomtest(4, 6).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 5), (3, 14), (38, 26), (400, 310)])
def test_the_paired_test_is_the_exact_one(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(expected)


def test_what_became_of_each_case(run: RunDirectory) -> None:
    found = {course.case_id[-1]: course for course in courses(View(run))}
    changes = {name: course.change for name, course in sorted(found.items())}
    assert changes == {
        "0": "learned",
        "1": "learned",
        "2": "lost",
        "3": "always right",
        "4": "learned",
        "5": "never right",
    }
    assert [course.change for course in courses(View(run))] == sorted(
        changes.values(), key=["learned", "lost", "always right", "never right"].index
    )
    assert found["0"].verdicts == (False, True, True)


def test_a_case_that_wavers_is_changing(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    for step, text in ((0, RIGHT), (10, WRONG), (20, RIGHT)):
        write_evaluation(run, step, [text])
    assert [course.change for course in courses(View(run))] == ["changing"]


def test_one_evaluation_is_no_before_and_after(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    assert before_after(View(run)) is None
    assert courses(View(run)) == []
    write_evaluation(run, 0, FIRST)
    assert before_after(View(run)) is None
    assert {course.change for course in courses(View(run))} == {"right", "wrong"}


def test_a_recording_shows_no_evaluation_of_later(run: RunDirectory) -> None:
    view = View(run, until=60)
    assert view.evaluation_steps == [0, 50]
    found = before_after(view)
    assert found is not None
    assert found.last == 50
    assert [share.hits for share in accuracy(view)] == [2, 2]


def test_an_answer_is_found_by_step_and_case(run: RunDirectory) -> None:
    answer = answer_to(View(run), 50, "casebook/validation/000000")
    assert answer is not None
    assert answer["text"] == RIGHT
    assert answer_to(View(run), 50, "no such case") is None
    assert answer_to(View(run), 7, "casebook/validation/000000") is None


def test_what_cannot_be_judged_is_neither_right_nor_wrong(run: RunDirectory) -> None:
    for step in (0, 100):
        record = json.loads(run.evaluation_file(step).read_text())
        record["answers"][0]["correct"] = None
        run.evaluation_file(step).write_text(json.dumps(record))
    found = before_after(View(run))
    assert found is not None
    assert (found.pairs, found.won, found.lost) == (5, 2, 1)
    assert found.rows[0].after.of == 5


@pytest.mark.parametrize("text", ["", "{", '{"answers": 3}', '{"answers": [1, null]}', "[]"])
def test_a_broken_file_is_an_empty_evaluation(run: RunDirectory, text: str) -> None:
    run.evaluation_file(150).write_text(text)
    assert courses(View(run)) == []
    assert before_after(View(run)) is not None
    assert accuracy(View(run))[-1].of == 0
