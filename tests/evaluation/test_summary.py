from dataclasses import replace

import pytest

from medgrpo.cases import Case
from medgrpo.evaluation.measures import judge
from medgrpo.evaluation.summary import compare_paired, confusions, consistent, majority_vote, near_confusers, summarise
from medgrpo.parsing import compose

ASKED = "45 M, crushing chest pain, sweating. ECG: ST elevation."
RIGHT = compose('"crushing chest pain" fits ischaemia.', "Acute myocardial infarction. Next: 12-lead ECG.")
WRONG = compose('"tearing pain" fits dissection.', "Aortic dissection. Next: CT angiography.")
BARE = "Acute myocardial infarction"


def case(number: int, register: str = "note") -> Case:
    return Case(f"casebook/test/{register}/{number}", ASKED, "Acute myocardial infarction", "diagnosis")


def test_the_summary_counts_what_it_says() -> None:
    summary = summarise([judge(case(i), text) for i, text in enumerate((RIGHT, RIGHT, WRONG, BARE))])
    assert (summary.strict.hits, summary.lenient.hits, summary.form.hits, summary.cases) == (2, 3, 3, 4)
    assert summary.accuracy_in_form.value == pytest.approx(2 / 3)
    assert summary.real_citations.value == pytest.approx(2 / 3)
    assert summary.mean_citations == pytest.approx(2 / 4)
    assert list(summary.by_condition) == ["Acute myocardial infarction"]
    assert summary.majority_at_k.of == summary.consistency.of == 0
    assert (summary.unjudged, summary.answers) == (0, 4)


def test_explanations_that_fit_are_a_share_with_an_interval_over_cases() -> None:
    """Four cases of two equal flags count as three flags, as in `test_flags_of_one_case_are_one_cluster`."""
    results = [replace(judge(case(i), RIGHT), explained=2, fitting=2 * (i % 2)) for i in range(4)]
    fit = summarise([*results, judge(case(4), RIGHT)]).explanations_fit
    assert (fit.hits, fit.of) == (4, 8)
    assert (round(fit.low, 3), round(fit.high, 3)) == (0.125, 0.875)
    assert summarise([judge(case(1), RIGHT)]).explanations_fit.of == 0


def test_next_steps_are_counted_of_the_right_answers_that_should_have_one() -> None:
    results = [
        replace(judge(case(i), RIGHT, tokens=90), intact=flag) for i, flag in enumerate((True, True, False, None))
    ]
    intact = summarise(results).next_step_intact
    assert (intact.hits, intact.of) == (2, 3)
    assert summarise(results[3:]).next_step_intact.of == 0
    assert summarise([replace(each, tokens=0) for each in results]).next_step_intact.of == 0, "a baseline says none"


def test_what_cannot_be_judged_is_in_no_accuracy() -> None:
    open_case = Case("1", "Why?", "Because of one thing", "open")
    summary = summarise([judge(open_case, compose("x", "Because of another"))])
    assert (summary.cases, summary.unjudged, summary.strict.of, summary.form.hits) == (1, 1, 0, 1)


def test_registers_and_conditions_are_counted_apart() -> None:
    results = [judge(case(1, "note"), RIGHT), judge(case(2, "note"), WRONG), judge(case(3, "letter"), RIGHT)]
    by_group = summarise(results).by_group
    assert {name: (s.hits, s.of) for name, s in by_group.items()} == {"letter": (1, 1), "note": (1, 2)}


def test_pass_at_1_is_the_mean_over_seeds_and_the_majority_of_them_is_one_vote() -> None:
    texts = {1: (RIGHT, RIGHT, WRONG), 2: (RIGHT, WRONG, WRONG)}
    results = [judge(case(n), text, seed=seed) for n, three in texts.items() for seed, text in enumerate(three)]
    summary = summarise(results)
    assert (summary.pass_at_1.hits, summary.pass_at_1.of, summary.cases) == (3, 6, 2)
    assert (summary.majority_at_k.hits, summary.majority_at_k.of) == (1, 2)


def test_malformed_answers_have_no_vote() -> None:
    answers = [judge(case(1), text, seed=i) for i, text in enumerate((BARE, BARE, WRONG))]
    assert majority_vote(answers) == {case(1).id: False}
    assert majority_vote([judge(case(1), BARE)]) == {case(1).id: False}
    assert majority_vote([judge(case(1), t, seed=i) for i, t in enumerate((RIGHT, RIGHT, WRONG))]) == {case(1).id: True}


def test_an_option_is_chosen_consistently_whatever_its_letter() -> None:
    def version(number: int, options: dict[str, str]) -> Case:
        return Case(f"c/1~{number}", "Which?", "A" if options["A"] == "aspirin" else "B", "choice", options=options)

    first, second = version(0, {"A": "aspirin", "B": "heparin"}), version(1, {"A": "heparin", "B": "aspirin"})
    content = [judge(first, compose("x", "A")), judge(second, compose("x", "B"))]
    letter = [judge(first, compose("x", "A")), judge(second, compose("x", "A"))]
    none = [judge(first, compose("x", "I cannot say")), judge(second, compose("x", "I cannot say"))]
    assert consistent(content) == {"c/1": True}
    assert consistent(letter) == consistent(none) == {"c/1": False}
    assert (summarise(content).strict.hits, summarise(content).cases) == (2, 1)
    assert summarise(letter).consistency.of == 1


def test_paired_comparison_counts_discordant_cases_only() -> None:
    cases = [case(i) for i in range(10)]
    first = [judge(each, WRONG if i < 6 else RIGHT) for i, each in enumerate(cases)]
    second = [judge(each, RIGHT) for each in cases]
    paired = compare_paired(first, second)
    assert (paired.only_first, paired.only_second, paired.cases) == (0, 6, 10)
    assert paired.difference == pytest.approx(0.6)
    assert paired.p == pytest.approx(2 / 2**6)
    assert compare_paired(first, first).p == 1.0


def test_p_of_a_hand_computed_split() -> None:
    """7 against 1 of 8: 2 × (1 + 8) / 256."""
    first = [judge(case(i), RIGHT if i == 0 else WRONG) for i in range(8)]
    second = [judge(case(i), WRONG if i == 0 else RIGHT) for i in range(8)]
    assert compare_paired(first, second).p == pytest.approx(18 / 256)


def test_a_confusion_names_what_was_said_instead() -> None:
    found = confusions([judge(case(1), WRONG), judge(case(2), compose("x", "Something else entirely."))])
    assert found["Acute myocardial infarction", "Aortic dissection"] == 1
    assert found["Acute myocardial infarction", "something else entirely"] == 1


def test_near_confusers_add_up_to_the_answers() -> None:
    texts = [RIGHT, BARE, WRONG, WRONG, compose("x", "Gout"), compose("x", "No idea"), ""]
    texts.append(compose("x", "Outside what this model was trained for"))
    row = near_confusers([judge(case(i), text) for i, text in enumerate(texts)])["Acute myocardial infarction"]
    assert (row.answers, row.right, row.near["Aortic dissection"], row.far, row.declined, row.unclear) == (
        8,
        2,
        2,
        1,
        1,
        2,
    )
    assert row.answers == row.right + sum(row.near.values()) + row.far + row.declined + row.unclear
