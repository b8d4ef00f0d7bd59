"""The next-step reward: a right answer has to end with its next step, word for word, and a wrong one gains nothing by it."""

from dataclasses import replace

import pytest

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import PROFILES, explain, is_intact, total
from medgrpo.rewards.audit import gold_completion
from medgrpo.rewards.next_step import CHANGED, stated

APPROACH = "Immediate hydrocortisone and saline without waiting; take cortisol, ACTH and glucose (U&E) first"
CASE = Case("d", "Weak, tanned, BP 80/40.", "Adrenal crisis", "diagnosis", ("Addisonian crisis",), approach=APPROACH)


def score(answer: str, case: Case = CASE) -> tuple[float | None, str]:
    (one,) = explain(compose("It fits.", answer), case, {"next_step": 1.0})
    return one.value, one.why


@pytest.mark.parametrize(
    "answer",
    [
        f"Adrenal crisis. Next: {APPROACH}.",
        f"Addisonian crisis. Next: {APPROACH}",
        f"ADRENAL CRISIS. NEXT: {APPROACH.upper()}.",
        f"Adrenal crisis\nnext :\n{APPROACH.replace(' ', '  ')}",
        f"Adrenal crisis. Next: {APPROACH.replace(';', ',').replace('(', '').replace(')', '')}",
    ],
)
def test_the_next_step_word_for_word_earns_everything(answer: str) -> None:
    assert score(answer) == (1.0, "The next step is word for word that of the reference.")
    assert is_intact(answer, CASE)


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (APPROACH.replace("saline", "tablets"), 0.45),  # 9 of 10 stems on either side
        (APPROACH.replace("and saline ", ""), 9 / 19),
        (f"{APPROACH} today", 10 / 21),
        (f"{APPROACH}. Next: {APPROACH}", 20 / 42),  # "next" itself is one stem more
        ("saline and hydrocortisone immediately", 3 / 13),
        ("Imaging of the brain", 0.0),
        ("?", 0.0),
        ("at 5", 0.0),
    ],
)
def test_a_next_step_in_other_words_earns_half_of_what_agrees(step: str, value: float) -> None:
    found, why = score(f"Adrenal crisis. Next: {step}.")
    assert found == pytest.approx(value, abs=0.005)
    assert why == f"The next step differs from the reference: {2 * value:.0%} of the content words agree."
    assert not is_intact(f"Adrenal crisis. Next: {step}.", CASE)


def test_the_same_words_in_another_order_are_not_word_for_word() -> None:
    turned = " ".join(reversed(APPROACH.split()))
    assert score(f"Adrenal crisis. Next: {turned}.")[0] == CHANGED < 1.0


@pytest.mark.parametrize("answer", ["Adrenal crisis.", f"Adrenal crisis. {APPROACH}.", "Adrenal crisis. Next:"])
def test_without_next_there_is_nothing_to_earn(answer: str) -> None:
    assert score(answer) == (0.0, 'The answer does not say what comes next (after "Next:").')
    assert not is_intact(answer, CASE)


@pytest.mark.parametrize(
    "answer",
    [
        f"Sepsis. Next: {APPROACH}.",
        f"Adrenal crisis or sepsis. Next: {APPROACH}.",
        f"Not adrenal crisis. Next: {APPROACH}.",
        f"Next: {APPROACH}.",
    ],
)
def test_it_never_lifts_a_wrong_answer(answer: str) -> None:
    assert score(answer) == (0.0, "The next step counts only after a right answer.")
    bare = answer.partition(" Next:")[0]
    assert total(explain(compose("It fits.", answer), CASE)) == total(explain(compose("It fits.", bare), CASE))


def test_two_answer_blocks_earn_nothing() -> None:
    text = compose("It fits.", f"Adrenal crisis. Next: {APPROACH}.")
    (one,) = explain(f"{text}\n<answer>\nSepsis\n</answer>", CASE, {"next_step": 1.0})
    assert one.value == 0.0


def test_it_does_not_apply_without_a_next_step_and_judges_nothing_that_cannot_be_judged() -> None:
    assert score(f"Adrenal crisis. Next: {APPROACH}.", replace(CASE, approach=""))[0] is None
    assert score(f"Little salt. Next: {APPROACH}.", replace(CASE, kind="open"))[0] is None


def test_a_step_of_short_words_can_be_held_against_other_short_words() -> None:
    case = replace(CASE, approach="CT")
    assert score("Adrenal crisis. Next: CT.", case)[0] == 1.0
    assert score("Adrenal crisis. Next: MR.", case)[0] == 0.0  # neither has a content word


def test_gold_ends_with_the_next_step_and_is_worth_it() -> None:
    gold = gold_completion(CASE)
    assert f"Adrenal crisis. Next: {APPROACH}.\n</answer>" in gold
    lost = compose("The findings fit together and point to one answer.", "Adrenal crisis.")
    worth, without = (total(explain(text, CASE)) or 0.0 for text in (gold, lost))
    assert worth - without == PROFILES["medgrpo"]["next_step"]


def test_the_step_is_what_follows_the_first_next() -> None:
    assert stated("Gout. Next: rest. Next: ice") == "rest. Next: ice"
    assert stated("Gout. What comes next is: rest") == stated("Gout. Annext: rest") == ""
