"""The word-counting baselines on a toy problem they can solve, and on words they have never seen."""

import pytest

from medgrpo.cases import Case
from medgrpo.evaluation.baselines import keyword_rule, majority, tfidf

TEXTS = {
    "apple": ["red round fruit from a tree", "red fruit with a core", "round fruit, red skin", "fruit, red, sweet"],
    "whale": ["large animal in the sea", "sea animal that sings", "huge animal of the sea", "animal, sea, blowhole"],
    "stone": ["hard grey lump", "grey and hard", "a hard grey thing", "lump, grey, hard", "grey, hard, cold"],
}
TRAIN = [Case(str(i) + label, text, label) for label, texts in TEXTS.items() for i, text in enumerate(texts)]
CASES = [
    Case("1", "a red fruit", "apple"),
    Case("2", "an animal of the sea", "whale"),
    Case("3", "hard and grey", "stone"),
]


def test_majority_gives_the_commonest_label() -> None:
    assert majority(TRAIN, CASES) == ["stone"] * 3


@pytest.mark.parametrize("baseline", [keyword_rule, tfidf])
def test_words_are_enough_for_the_toy_problem(baseline: object) -> None:
    assert callable(baseline)
    assert baseline(TRAIN, CASES) == [case.answer for case in CASES]


def test_unknown_words_fall_back_to_the_majority() -> None:
    assert keyword_rule(TRAIN, [Case("4", "xyzzy", "apple")]) == ["stone"]


def test_a_negated_keyword_counts_all_the_same() -> None:
    assert keyword_rule(TRAIN, [Case("5", "no red fruit, but something else", "stone")]) == ["apple"]
