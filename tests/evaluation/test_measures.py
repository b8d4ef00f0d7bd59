import pytest

from medgrpo.cases import Case
from medgrpo.evaluation.measures import compare_paired, confusions, judge, majority_vote, share, summarise
from medgrpo.parsing import compose

CASE = Case(
    id="casebook/test/note/1",
    question="45 M, crushing chest pain, sweating. ECG: ST elevation.",
    answer="Acute myocardial infarction",
    kind="diagnosis",
    aliases=("heart attack",),
    findings=("crushing chest pain",),
)
RIGHT = compose('"crushing chest pain" fits ischaemia.', "Acute myocardial infarction. Next: 12-lead ECG.")
WRONG = compose('"tearing pain" fits dissection.', "Aortic dissection. Next: CT angiography.")
BARE = "Acute myocardial infarction"


def test_a_right_answer_without_the_form_is_lenient_not_strict() -> None:
    bare = judge(CASE, BARE)
    assert (bare.correct, bare.strict, bare.form) == (True, False, "missing")


def test_a_quotation_counts_as_real_only_if_it_stands_in_the_case() -> None:
    assert (judge(CASE, RIGHT).cited, judge(CASE, RIGHT).real) == (1, 1)
    assert (judge(CASE, WRONG).cited, judge(CASE, WRONG).real) == (1, 0)


def test_an_answer_that_names_several_conditions_is_counted_as_such() -> None:
    both = judge(CASE, compose("x", "Acute myocardial infarction or aortic dissection"))
    assert (both.correct, both.several) == (False, True)
    assert not judge(CASE, RIGHT).several


def test_the_summary_counts_what_it_says() -> None:
    summary = summarise([judge(CASE, text) for text in (RIGHT, RIGHT, WRONG, BARE)])
    assert (summary.strict.hits, summary.lenient.hits, summary.form.hits, summary.cases) == (2, 3, 3, 4)
    assert summary.accuracy_in_form.value == pytest.approx(2 / 3)
    assert summary.real_citations.value == pytest.approx(2 / 3)
    assert list(summary.by_condition) == ["Acute myocardial infarction"]


def test_wilson_interval_of_a_textbook_example() -> None:
    """10 of 20: Wilson gives 0.299 to 0.701 (Agresti and Coull 1998)."""
    ten = share([True] * 10 + [False] * 10)
    assert (round(ten.low, 3), round(ten.high, 3)) == (0.299, 0.701)


def test_nothing_measured_is_not_a_number_rather_than_zero() -> None:
    assert str(share([])) == "no case"
    assert share([]).value != share([]).value


def test_paired_comparison_counts_discordant_cases_only() -> None:
    cases = [Case(id=str(i), question=CASE.question, answer=CASE.answer, kind="diagnosis") for i in range(10)]
    first = [judge(case, WRONG if i < 6 else RIGHT) for i, case in enumerate(cases)]
    second = [judge(case, RIGHT) for case in cases]
    paired = compare_paired(first, second)
    assert (paired.only_first, paired.only_second, paired.cases) == (0, 6, 10)
    assert paired.difference == pytest.approx(0.6)
    assert paired.p == pytest.approx(2 / 2**6)


def test_the_majority_over_seeds_wins() -> None:
    answers = [judge(CASE, text, seed=i) for i, text in enumerate((RIGHT, RIGHT, WRONG))]
    assert majority_vote(answers) == {CASE.id: True}


def test_a_confusion_names_what_was_said_instead() -> None:
    assert confusions([judge(CASE, WRONG)]) == {("Acute myocardial infarction", "Aortic dissection"): 1}
