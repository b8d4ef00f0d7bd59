"""The rule that finds what is said of the wrong finding, on the casebook's own texts."""

import pytest

from medgrpo.data.casebook import vignettes
from medgrpo.data.demonstrations import demonstrate
from medgrpo.evaluation.misplaced import misplaced
from medgrpo.parsing import parse
from medgrpo.rewards.meanings import said_of_quotes

RIGHT = "pain that eases on sitting forward suggests an inflamed pericardium"
WRONG = "acetone on the breath shows ketosis"


@pytest.mark.parametrize("said", ["{}", " {}.", ": {}. Later.", " stands out: {}\nSo it is."])
def test_what_belongs_to_another_finding_is_found_where_it_stands(said: str) -> None:
    text = f'Most telling is "My chest hurts when I lie down"{said.format(WRONG)}'
    (span,) = misplaced(text)
    assert text[slice(*span)] == WRONG
    assert misplaced(text.replace(WRONG, RIGHT)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"No quote here: {WRONG}.",
        '"chest hurts when I lie down" fits.',
        '"chest hurts when I lie down": this is what most people with it would say first.',
        f'"xyzzy quuxy 42": {WRONG}.',
        f'"": {WRONG}.',
        f'"chest hurts {WRONG}.',
    ],
)
def test_nothing_is_said_without_a_quote_an_explanation_and_words_that_are_known(text: str) -> None:
    assert misplaced(text) == []


def test_the_casebook_never_contradicts_itself() -> None:
    reasonings = [parse(demonstrate(vignette)).reasoning for vignette in vignettes("validation")]
    assert [text for text in reasonings if misplaced(text)] == []


def test_swapped_explanations_are_mostly_found() -> None:
    found = tried = 0
    for vignette in vignettes("validation"):
        text = parse(demonstrate(vignette)).reasoning
        said = [text[start:end].strip() for _, start, end in said_of_quotes(text)][:2]
        if len(said) == 2 and min(map(len, said)) > 30 and ":" in text:
            swapped = text.replace(said[0], "\0").replace(said[1], said[0]).replace("\0", said[1])
            tried += 1
            found += bool(misplaced(swapped))
    assert tried > 300
    assert found > 0.7 * tried
