"""The meaning reward: what is said of a quoted finding has to be what that finding means, not what another one means."""

from dataclasses import replace

import pytest

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import FITS, explain, explanations
from medgrpo.rewards.audit import gold_completion
from medgrpo.rewards.citations import MOST_QUOTES

QUESTION = (
    "A 45-year-old woman has sharp chest pain that eases on leaning forward. There is a friction rub. She had a cold two "
    "weeks ago. The ECG shows ST elevation in all leads. She owns two dogs."
)
FINDINGS = ("sharp chest pain that eases on leaning forward", "a friction rub", "a cold two weeks ago")
PAIN, RUB, COLD = MEANINGS = (
    "pain that depends on posture suggests an inflamed pericardium",
    "roughened layers scrape against each other with every beat",
    "viral infections often precede the illness",
)
CASE = Case("d", QUESTION, "Acute pericarditis", "diagnosis", findings=FINDINGS, meanings=MEANINGS)
QUOTED = '"a friction rub"'


def meaning(reasoning: str, case: Case = CASE) -> float | None:
    return explain(compose(reasoning, "Gout"), case, {"meaning": 1.0})[0].value


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gold_earns_everything_however_many_findings_there_are(count: int) -> None:
    case = replace(CASE, findings=FINDINGS[:count], meanings=MEANINGS[:count])
    assert explain(gold_completion(case), case, {"meaning": 1.0})[0].value == 1.0


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (f'{QUOTED}: {RUB}. "a cold two weeks ago": {COLD}.', [1.0, 1.0]),
        (f"{QUOTED} stands out: {RUB}.", [1.0]),
        (f"{QUOTED} shows that {RUB}.", [0.94]),
        (f"{QUOTED}: {PAIN}.", [0.0]),
        (f"{QUOTED}: {RUB}. {QUOTED}: {RUB}.", [1.0, 0.0]),
        (f'{QUOTED}: {RUB}. "friction rub": {RUB}.', [1.0, 0.0]),
        (f"{QUOTED} agrees with this. {RUB}.", []),
        (f'{QUOTED} and "a cold two weeks ago" fit. {RUB}.', []),
        (f"{QUOTED} is heard\n{RUB}", []),
        (f'It is hard to say why "two dogs": {RUB}.', []),
        (f"A friction rub: {RUB}.", []),
        (f"“a friction rub”: {RUB}. “a cold two weeks ago”: {COLD}.", [1.0, 1.0]),
        (f'"A  Friction\nRUB," stands out: {RUB}.', [1.0]),
        (f'"sharp chest pain that eases": {PAIN}.', [1.0]),
        (f'"There is a friction rub": {RUB}.', [1.0]),
        (f'"sharp chest pain": {PAIN}.', []),
        (f"{RUB} {QUOTED}", []),
        (f'{QUOTED}: {RUB} "', [1.0]),
        (QUOTED, []),
        ("", []),
    ],
)
def test_what_is_said_of_a_quoted_finding_is_held_against_what_it_means(text: str, fits: list[float]) -> None:
    assert explanations(text, CASE) == pytest.approx(fits, abs=0.005)


def test_only_what_follows_a_colon_is_the_explanation() -> None:
    lead = "stands out among all these findings of today"
    assert explanations(f"{QUOTED} {lead}: {RUB}.", CASE) == [1.0]
    assert explanations(f"{QUOTED} {lead}, {RUB}.", CASE)[0] < 0.75
    assert explanations(f"{QUOTED}: {RUB}. Then: {PAIN}.", CASE) == [1.0]


def test_an_explanation_of_another_finding_does_not_fit() -> None:
    exchanged = [f'"{finding}": {other}.' for finding, other in zip(FINDINGS, (RUB, COLD, PAIN), strict=True)]
    assert max(explanations(" ".join(exchanged), CASE)) < FITS
    assert meaning(" ".join(exchanged)) == pytest.approx(0.0, abs=0.1)


def test_a_long_clause_that_names_everything_pays_less_than_the_right_one() -> None:
    everything = ", ".join(MEANINGS)
    flattered = meaning(f'"{FINDINGS[0]}": {everything}. {QUOTED}: {everything}. "{FINDINGS[2]}": {everything}.')
    assert flattered is not None
    assert 0.2 < flattered < FITS
    assert meaning(f'"{FINDINGS[0]}": {PAIN}. {QUOTED}: {RUB}. "{FINDINGS[2]}": {COLD}.') == 1.0


def test_two_explained_findings_are_enough_and_every_further_one_counts() -> None:
    two = f'"{FINDINGS[0]}": {PAIN}. {QUOTED}: {RUB}.'
    assert meaning(f"{QUOTED}: {RUB}.") == 0.5
    assert meaning(two) == 1.0
    assert meaning(f'{two} "{FINDINGS[2]}": {COLD}.') == 1.0
    assert meaning(f'{two} "{FINDINGS[2]}": {RUB}.') == pytest.approx(2 / 3, abs=0.01)
    assert meaning(f"{two} {two}") == 0.5  # said twice


def test_a_quote_of_two_findings_explains_one_of_them() -> None:
    case = replace(CASE, findings=("a friction rub", "a rub"), question="There is a friction rub and a rub.")
    case = replace(case, meanings=(RUB, PAIN))
    both = '"a friction rub and a rub"'
    assert explanations(f"{both}: {RUB}. {both}: {PAIN}.", case) == [1.0, 1.0]
    assert explanations(f"{both}: {PAIN}. {both}: {COLD}. {both}: {RUB}.", case) == pytest.approx([1.0, 0.0, 0.0])


def test_quotes_beyond_the_limit_are_not_read() -> None:
    def after(count: int) -> list[float]:
        return explanations('"two dogs" bark. ' * count + f"{QUOTED}: {RUB}.", CASE)

    assert after(MOST_QUOTES - 1) == [1.0]
    assert after(MOST_QUOTES) == after(10 * MOST_QUOTES) == []


def test_it_does_not_apply_without_meanings_and_needs_the_form() -> None:
    assert meaning(f"{QUOTED}: {RUB}.", replace(CASE, meanings=())) is None
    assert explanations(f"{QUOTED}: {RUB}.", replace(CASE, meanings=())) == []
    broken = f"{QUOTED}: {RUB}. <answer>Acute pericarditis</answer>"
    assert explain(broken, CASE, {"meaning": 1.0})[0].value == 0.0


def test_the_reason_counts_explanations() -> None:
    def why(reasoning: str) -> str:
        return explain(compose(reasoning, "Gout"), CASE, {"meaning": 1.0})[0].why

    assert why(f'{QUOTED}: {RUB}. "{FINDINGS[0]}": {COLD}.') == (
        "2 quoted findings are explained (2 expected); 1 explanation fits its finding."
    )
    assert why(f"{QUOTED}: {RUB}.").startswith("1 quoted finding is explained")
    assert why("It fits.").startswith("0 quoted findings are explained (2 expected)")
