"""The seed's rewards with their faults: the totals measured on the seed's own code, to the last digit."""

import pytest

from medgrpo.cases import Case
from medgrpo.rewards import explain, legacy, total
from medgrpo.rewards.reading import read

ANSWER = "Acute pericarditis"
CASE = Case("d", "Chest pain.", ANSWER, "diagnosis")


def form(reasoning: str, answer: str = ANSWER) -> str:
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>"


SHORT = form("fever fever fe")  # 77 characters
LONG = form(("a" * 77 + "\n") * 10 + "abc")  # 846 characters


def parts(text: str) -> list[float]:
    """The five rewards with the bare answer as reference, as in the seed's code on a clean reference column."""
    reading = read(text)
    scores = [
        legacy.xmlcount_score(reading, CASE),
        legacy.soft_format_score(reading, CASE),
        legacy.strict_format_score(reading, CASE),
        legacy.int_score(reading, CASE),
        legacy.correctness_score(reading, CASE, answer_only=True),
    ]
    return [round(value or 0.0, 3) for value, _ in scores]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHORT + "\n", [0.5, 0, 0.5, 0, 2]),
        (SHORT, [0.424, 0, 0, 0, 2]),
        (LONG, [-0.345, 0, 0, 0, 2]),
        (LONG + "\n", [0.5, 0, 0, 0, 2]),
        (ANSWER, [0, 0, 0, 0, 2]),
        (form("x", "gout") + f"\n<answer>\n{ANSWER}\n</answer>", [0.25, 0, 0, 0, 2]),
        (f"<answer>\n{ANSWER}\n</answer>\n<reasoning>\nx\n</reasoning>\n", [0.348, 0, 0, 0, 2]),
        (form("", "") + "\n", [0.5, 0, 0.5, 0, 0]),
        (LONG[:400], [0.125, 0, 0, 0, 0]),
        (LONG[:818], [-0.443, 0, 0, 0, 0]),
        ("42", [0, 0, 0, 0.5, 0]),
        ("²", [0, 0, 0, 0.5, 0]),
        ("<reasoning>a</reasoning><answer>b</answer>", [0, 0.5, 0, 0, 0]),
    ],
)
def test_the_seed_s_totals(text: str, expected: list[float]) -> None:
    assert parts(text) == pytest.approx(expected, abs=0.0011)


def test_the_texts_have_the_lengths_of_the_measured_ones() -> None:
    assert (len(SHORT), len(LONG), LONG[:818].endswith("<answer>\n")) == (77, 846, True)


def test_opening_the_answer_is_punished() -> None:
    opened = LONG.index("<answer>\n") + len("<answer>\n")
    assert parts(LONG[:opened])[0] < parts(LONG[: opened - 9])[0] - 0.6


def test_bare_gold_beats_the_normal_perfect_completion() -> None:
    assert sum(parts(ANSWER)) > sum(parts(LONG))


@pytest.mark.parametrize("text", [SHORT, LONG, ANSWER, SHORT + "\n", legacy.reference(CASE)])
def test_with_the_seed_s_reference_column_nothing_is_ever_right(text: str) -> None:
    assert {item.name: item.value for item in explain(text, CASE, "legacy")}["legacy_correctness"] == 0.0
    assert (total(explain(text, CASE, "legacy")) or 0.0) <= 1.0


def test_long_lines_do_not_stall_the_patterns() -> None:
    explain("<reasoning>" * 50_000, CASE, "legacy")
    explain("<reasoning>" + "</reasoning><answer>" * 30_000, CASE, "legacy")
