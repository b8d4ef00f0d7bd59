"""The reasoning reward: true quotes of deciding findings, no pay for invented ones or for copying the case."""

import pytest

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import explain, quoted_findings, told_apart

QUESTION = (
    "A 45-year-old woman has sharp chest pain that eases on leaning forward. There is a friction rub. She had a "
    "cold two "
    "weeks ago. She works in an office and does not smoke. She owns two dogs and a painless mole. Blood pressure "
    "is normal."
)
FINDINGS = ("sharp chest pain that eases on leaning forward", "friction rub", "a cold two weeks ago")
CASE = Case("d", QUESTION, "Acute pericarditis", "diagnosis", findings=FINDINGS)


def reasoning(text: str, case: Case = CASE) -> float | None:
    return next(item.value for item in explain(compose(text, "Gout"), case) if item.name == "reasoning")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It must be the heart.", 0.0),
        ("The friction rub and a cold two weeks ago fit.", 0.0),
        ('"friction rub" fits.', 0.5),
        ('"friction rub" and "a cold two weeks ago" fit.', 1.0),
        ("“Friction  RUB” and “a cold two\nweeks ago” fit.", 1.0),
        ('"a friction rub." and "She had a cold two weeks ago" fit.', 1.0),
        ('"sharp chest pain that eases" and "friction rub" fit.', 1.0),
        ('"friction rub", "a cold two weeks ago", "fever", "cough" fit.', 0.5),
        ('"friction rub" and "friction rub" fit.', 0.5),
        ('"a" "is" "two dogs"', 0.0),
        ('"fever" and "cough"', 0.0),
        ('"pain" and "rub"', 0.0),
        ('"friction rub', 0.0),
    ],
)
def test_quotes_pay_for_being_true_and_deciding(text: str, value: float) -> None:
    assert reasoning(text) == value


def test_copying_the_case_pays_nothing() -> None:
    assert reasoning(f'"{QUESTION}"') == 0.0
    assert reasoning(" ".join(f'"{sentence}"' for sentence in QUESTION.split(". "))) == 0.0
    words = QUESTION.split()
    assert reasoning(" ".join(f'"{" ".join(words[i : i + 3])}"' for i in range(len(words)))) == 0.0


def test_one_long_quote_supports_one_finding() -> None:
    assert reasoning(f'"{QUESTION[: QUESTION.index(" She works")]}"') == 0.5


def test_words_must_match_whole() -> None:
    case = Case("d", "A painless mole. He coughs.", "x", "diagnosis", findings=("pain",))
    assert reasoning('"pain"', case) == 0.0


def test_a_case_that_is_all_findings_may_be_quoted_in_parts() -> None:
    case = Case("d", "fever 39, dry cough, new rash", "x", "diagnosis", findings=("fever 39", "dry cough", "new rash"))
    assert reasoning('"fever 39" and "dry cough" decide.', case) == 1.0
    assert reasoning('"fever 39, dry cough, new rash"', case) == 0.0


def test_it_does_not_apply_without_findings_and_needs_the_form() -> None:
    assert reasoning('"x"', Case("o", "Why?", "x")) is None
    broken = 'So "friction rub". <answer>Gout</answer>'
    assert next(item.value for item in explain(broken, CASE) if item.name == "reasoning") == 0.0


def test_quotes_can_be_counted_for_an_evaluation() -> None:
    assert quoted_findings('"friction rub", "a cold" and "fever"', QUESTION) == (3, 2)
    assert quoted_findings("", "") == (0, 0)


def test_the_pieces_make_up_the_text_and_agree_with_the_measure() -> None:
    reasoning = 'First "friction rub", then "a cold" and “fever”; "x" is too short to tell, "open'
    pieces = list(told_apart(reasoning, QUESTION))
    assert "".join(piece for piece, _ in pieces) == reasoning
    quotes = [(piece, real) for piece, real in pieces if real is not None]
    assert quotes == [('"friction rub"', True), ('"a cold"', True), ("“fever”", False)]
    assert quoted_findings(reasoning, QUESTION) == (3, 2)
