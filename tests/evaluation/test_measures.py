from dataclasses import replace

import pytest

from medgrpo.cases import Case
from medgrpo.data.scope import ANSWER
from medgrpo.evaluation.measures import Result, chosen_option, judge, named_condition, share
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
LONG = (
    "The patient woke at night with a burning pain in the big toe that he could not bear to touch, "
    "and the sheet alone made him cry out loud. What is the most likely diagnosis?"
)


def test_a_right_answer_without_the_form_is_lenient_not_strict() -> None:
    bare = judge(CASE, BARE)
    assert (bare.correct, bare.strict, bare.form) == (True, False, "missing")


def test_a_quotation_counts_as_real_only_if_it_stands_in_the_case() -> None:
    assert (judge(CASE, RIGHT).cited, judge(CASE, RIGHT).real) == (1, 1)
    assert (judge(CASE, WRONG).cited, judge(CASE, WRONG).real) == (1, 0)


def test_explanations_are_counted_where_the_case_says_what_its_findings_mean() -> None:
    findings = ("crushing chest pain", "sweating")
    meanings = (
        "pressure in the middle of the chest is typical of ischaemia",
        "a cold sweat is a sign of a failing heart",
    )
    case = replace(CASE, findings=findings, meanings=meanings)
    text = compose(
        f'"{findings[0]}": {meanings[0]}. "{findings[1]}": a sign of cold and damp rooms. "sweating" fits.', "Gout"
    )
    told = judge(case, text)
    assert (told.explained, told.fitting) == (2, 1)
    silent = judge(CASE, text)
    assert (silent.explained, silent.fitting) == (0, 0)
    assert (silent.cited, silent.real) == (told.cited, told.real) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "intact"),
    [
        ("Acute myocardial infarction. Next: 12-lead ECG, then troponin.", True),
        ("Heart attack. next: 12-LEAD ECG then troponin", True),
        ("Acute myocardial infarction. Next: 12-lead ECG, then tropical fish.", False),
        ("Acute myocardial infarction.", False),
        ("Aortic dissection. Next: 12-lead ECG, then troponin.", None),
    ],
)
def test_the_next_step_is_judged_after_a_right_answer(answer: str, intact: bool | None) -> None:
    case = replace(CASE, approach="12-lead ECG, then troponin")
    result = judge(case, compose("It fits.", answer))
    assert result.intact is intact
    assert Result.of(result.record()) == result
    assert judge(CASE, compose("It fits.", answer)).intact is None


def test_an_answer_that_names_several_conditions_is_counted_as_such() -> None:
    both = judge(CASE, compose("x", "Acute myocardial infarction or aortic dissection"))
    assert (both.correct, both.several) == (False, True)
    assert not judge(CASE, RIGHT).several


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        (compose(LONG, "Gout"), True),
        (compose("A short thought.", LONG), True),
        (
            compose('"a burning pain in the big toe that he could" fits a hot joint, and nothing else does.', "Gout"),
            False,
        ),
        (compose("The joint is hot and he drinks beer, so crystals are likely.", "Gout"), False),
        (LONG, True),
        ("", False),
    ],
)
def test_a_copy_of_the_question_is_counted_wherever_it_stands(text: str, copied: bool) -> None:
    assert judge(Case("1", LONG, "Gout", "diagnosis"), text).copied is copied


def test_a_wrong_diagnosis_names_the_condition_it_names() -> None:
    assert judge(CASE, WRONG).named == "Aortic dissection"
    assert judge(CASE, RIGHT).named == ""
    assert named_condition("Gout or sepsis") == ""
    assert named_condition("Heart attack. Next: ECG.") == "Acute myocardial infarction"


def test_an_abstention_is_counted_and_is_right_only_where_it_is_the_reference() -> None:
    inside = judge(CASE, compose("No findings.", f"{ANSWER}. Please ask a clinician."))
    outside = judge(Case("o/test/x/1", "Hello", ANSWER, "diagnosis"), compose("Small talk.", ANSWER))
    assert (inside.declined, inside.correct) == (True, False)
    assert (outside.declined, outside.correct) == (True, True)
    assert not judge(CASE, RIGHT).declined


def test_the_chosen_option_is_its_text() -> None:
    case = Case("1", "Which?\n\nA. aspirin\nB. heparin", "A", "choice", options={"A": "aspirin", "B": "heparin"})
    assert chosen_option("B", case) == "heparin"
    assert chosen_option("The answer is A.", case) == "aspirin"
    assert chosen_option("A or B", case) == ""


def test_a_record_is_read_back_and_a_newer_field_is_left_out() -> None:
    result = judge(CASE, RIGHT, seed=3, tokens=12)
    assert Result.of(result.record() | {"new": 1}) == result
    older = {name: value for name, value in result.record().items() if name not in ("explained", "fitting")}
    assert Result.of(older) == result
    with pytest.raises(TypeError):
        Result.of({"case_id": "1"})


def test_wilson_interval_of_a_textbook_example() -> None:
    """10 of 20: Wilson gives 0.299 to 0.701 (Agresti and Coull 1998)."""
    ten = share(enumerate([True] * 10 + [False] * 10))
    assert (round(ten.low, 3), round(ten.high, 3)) == (0.299, 0.701)


def test_flags_of_one_case_are_one_cluster() -> None:
    """Four cases of two equal flags: design effect (1/12) / (1/32) = 8/3, so 8 flags count as 3."""
    pairs = [(case, case % 2 == 0) for case in range(4) for _ in range(2)]
    found = share(pairs)
    assert (found.hits, found.of) == (4, 8)
    assert (round(found.low, 3), round(found.high, 3)) == (0.125, 0.875)


def test_flags_that_all_agree_are_worth_their_cases() -> None:
    """20 true flags of 10 cases: Wilson of 10 of 10 begins at 10 / (10 + 1.96²) = 0.722."""
    assert round(share((i % 10, True) for i in range(20)).low, 3) == 0.722
    assert share((i % 10, True) for i in range(20)).high == 1.0


def test_clusters_never_count_as_more_than_their_flags() -> None:
    mixed = share((case, flag) for case in range(10) for flag in (True, False))
    plain = share(enumerate([True, False] * 10))
    assert (mixed.low, mixed.high) == (plain.low, plain.high)


def test_nothing_measured_is_not_a_number_rather_than_zero() -> None:
    assert str(share([])) == "no case"
    assert share([]).value != share([]).value
