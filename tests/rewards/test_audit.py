"""The audit passes for the profile we train with, and fails for the controls and the seed's rewards."""

from dataclasses import replace

import pytest

from medgrpo.cases import Case
from medgrpo.parsing import compose, parse
from medgrpo.rewards import PROFILES
from medgrpo.rewards.audit import ATTACKS, Target, audit, gold_completion

QUESTION = "{} There is a friction rub. She had a cold two weeks ago. She works in an office. Blood pressure is normal."
CASES = [
    Case("d1", QUESTION.format("A woman has sharp pain."), "Acute pericarditis", "diagnosis", ("pericarditis",),
    findings=("sharp pain", "friction rub"),
    meanings=("pain from inflamed pericardium is sharp", "a rub is heard in most patients with pericarditis"),
    approach="12-lead ECG, troponin and echocardiography at once"),
    Case("d2", "A man has a hot, red big toe.", "Gout", "diagnosis", findings=("hot, red big toe",)),
    Case("d3", "A woman is short of breath.", "Pulmonary embolism", "diagnosis", ("PE",)),
    Case("c1", "Which drug?", "B", "choice", options={"A": "Aspirin", "B": "Heparin", "C": "Warfarin", "D": "Insulin"}),
    Case("c2", "Is it so?", "A", "choice", options={"A": "yes", "B": "no", "C": "maybe"}),
    Case("n1", "Na 140, Cl 104, HCO3 22: anion gap?", "14", "numeric", unit="mmol/L", tolerance=0.5),
    Case("n2", "Eyes 3, verbal 4, motor 6: GCS?", "13", "numeric"),
    Case("n3", "pH?", "7.35", "numeric", tolerance=0.01),
]  # fmt: skip
OPEN = Case("o1", "Why?", "Lack of oxygen", "open", ("hypoxia",))


@pytest.mark.parametrize("case", [*CASES, OPEN], ids=lambda case: str(case.id))
def test_the_profile_we_train_with_passes_on_every_kind(case: Case) -> None:
    report = audit([case], "medgrpo")
    assert report.passed, report.render()


def test_it_passes_on_all_cases_together_and_says_so() -> None:
    report = audit(CASES, "medgrpo")
    assert report.passed, report.render()
    assert {row.name for row in report.rows} == {attack.name for attack in ATTACKS}
    assert "PASSED" in report.render()
    assert report.rows[0].maximum == max(row.maximum for row in report.rows)


def test_demonstrations_are_the_gold() -> None:
    told = gold_completion(CASES[0])
    long = compose(
        parse(told, final=True).reasoning + " It is so." * 20,
        "Acute pericarditis. Next: 12-lead ECG, troponin and echocardiography at once.",
    )
    assert audit(CASES, "medgrpo", [(CASES[0], long)]).passed
    report = audit([CASES[0]], "medgrpo", [(CASES[0], "The answer is gout.")])
    assert not report.passed
    assert "gold in form: LOSES in 1 of 1 case" in str(report)


@pytest.mark.parametrize("profile", ["legacy", "format_only", "random"])
def test_the_controls_and_the_seed_fail(profile: str) -> None:
    report = audit(CASES, profile)
    assert not report.passed
    assert "FAILED" in report.render()


def test_the_seed_s_failures_are_reproduced() -> None:
    text = compose('"sharp pain" fits.\n' * 30, "Acute pericarditis.")
    report = audit(CASES[:1], "legacy", [(CASES[0], text)])
    failed = {row.name for row in report.rows if row.faults}
    assert {
        "gold in form",
        "gold without form",
        "well-formed but wrong",
        "empty blocks",
        "truncated at every tenth",
    } <= failed


def test_weights_that_pay_for_the_form_fail() -> None:
    report = audit(CASES, {"format": 2.0, "tags": 1.0, "correctness": 1.0})
    assert not report.passed
    assert "well-formed but wrong" in str(report)


def test_no_cases_is_no_pass() -> None:
    assert not audit([], "medgrpo").passed


def test_exchanged_explanations_are_tried_where_there_are_two_different_ones() -> None:
    case = CASES[0]
    (attack,) = [attack for attack in ATTACKS if attack.name == "explanations exchanged"]
    (text,) = attack.write(Target(case, gold_completion(case), ()))
    first, second = case.meanings
    assert parse(text, final=True).reasoning == f'"sharp pain": {second}. "friction rub": {first}.'
    assert parse(text, final=True).answer == parse(gold_completion(case), final=True).answer
    for meanings in ((), (first, first)):
        same = replace(case, meanings=meanings)
        assert list(attack.write(Target(same, gold_completion(same), ()))) == []
    assert "explanations exchanged" not in {row.name for row in audit(CASES[1:]).rows}


def test_a_profile_that_does_not_read_explanations_fails_where_they_are_exchanged() -> None:
    report = audit(CASES[:1], PROFILES["medgrpo"] | {"meaning": 0.0})
    assert str(report) == "explanations exchanged: PAYS TOO MUCH in 1 of 1 case."


def test_the_next_step_is_garbled_where_the_case_has_one() -> None:
    case = CASES[0]
    (attack,) = [attack for attack in ATTACKS if attack.name == "next step garbled"]
    gold = gold_completion(case)
    (text,) = attack.write(Target(case, gold, ()))
    assert text == gold.replace("echocardiography at once", "as soon as possible") != gold
    bare = replace(case, approach="")
    assert list(attack.write(Target(bare, gold_completion(bare), ()))) == []
    assert "next step garbled" not in {row.name for row in audit(CASES[1:]).rows}


def test_a_profile_that_does_not_read_the_next_step_fails_where_it_is_garbled() -> None:
    report = audit(CASES[:1], PROFILES["medgrpo"] | {"next_step": 0.0})
    assert str(report) == "next step garbled: PAYS TOO MUCH in 1 of 1 case."


def test_the_plain_gold_completion_ends_with_the_next_step() -> None:
    answer = parse(gold_completion(CASES[0]), final=True).answer
    assert answer == "Acute pericarditis. Next: 12-lead ECG, troponin and echocardiography at once."
    assert parse(gold_completion(CASES[1]), final=True).answer == "Gout."


def test_the_plain_gold_completion_explains_the_findings_it_quotes() -> None:
    assert '"friction rub": a rub is heard in most patients with pericarditis.' in gold_completion(CASES[0])
    assert '"hot, red big toe" supports this.' in gold_completion(CASES[1])


@pytest.mark.parametrize("case", [*CASES, OPEN], ids=lambda case: str(case.id))
def test_the_plain_gold_completion_keeps_the_form(case: Case) -> None:
    assert parse(gold_completion(case)).status == "ok"
