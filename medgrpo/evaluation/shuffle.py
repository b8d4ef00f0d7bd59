"""Multiple choice with permuted options: does a model choose the same content wherever it stands?

A model that prefers a letter keeps its accuracy on average and loses its consistency. Each version is a case of its own
with the permuted key, so the matcher judges it like any other.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from medgrpo.cases import Case
from medgrpo.errors import DataError
from medgrpo.evaluation.measures import VARIED

SEED = "options-1"


def shuffled(cases: Sequence[Case], versions: int) -> list[Case]:
    """`versions` versions of each case with its options in another order each; ids get "~0", "~1", ...

    Args:
        cases: all of kind "choice", with their options listed in the question, one a line ("A. text", "(A) text", "A) text").
        versions: at least 2; the first is the order as given.

    Raises:
        DataError: a case is no multiple choice, or its question doesn't list its options.
    """
    return [_version(case, number) for case in cases for number in range(versions)]


def _version(case: Case, number: int) -> Case:
    if case.kind != "choice":
        raise DataError(f"{case.id} is not multiple choice: leave out --shuffle, or use a source of choice cases.")
    letters = list(case.options)
    order = _order(case.id, letters, number)
    options = {letter: case.options[old] for letter, old in zip(letters, order, strict=True)}
    key = letters[order.index(case.answer)]
    return replace(
        case,
        id=f"{case.id}{VARIED}{number}",
        question=_relisted(case, options),
        options=options,
        answer=key,
        findings=(),  # spans of the text as it was
        meanings=(),
    )


def _order(case_id: str, letters: list[str], number: int) -> list[str]:
    """Permutations that differ from one another as long as there are enough of them; number 0 changes nothing."""
    rng = random.Random(f"{SEED}/{case_id}")
    orders = [list(letters)]
    tries = 0
    while len(orders) <= number:
        order = rng.sample(letters, len(letters))
        tries += 1
        if order not in orders or tries > 100:
            orders.append(order)
    return orders[number]


def _relisted(case: Case, options: dict[str, str]) -> str:
    text = case.question
    for letter, old in case.options.items():
        line = re.compile(rf"^(\s*\(?{re.escape(letter)}[.):]\s*){re.escape(old)}[ \t]*$", re.MULTILINE)
        text, found = line.subn(rf"\g<1>\0{letter}\0", text, count=1)
        if not found:
            raise DataError(
                f"{case.id}: option {letter} ({old:.40}) isn't a line of its own in the question, so it cannot be moved. "
                f'Write the options into the question as lines such as "{letter}. {old:.40}", or leave out --shuffle.'
            )
    for letter, new in options.items():
        text = text.replace(f"\0{letter}\0", new)
    return text
