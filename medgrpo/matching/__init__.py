"""The one matcher: is a predicted answer right?

Rewards, evaluation and page all ask `match`. It knows words, spellings and units, and no list of diagnoses; it never
raises, and it reads at most `LONGEST` characters: a longer answer is not one answer and is wrong. How each kind is
judged is said at the head of `diagnosis`, `choice` and `numeric`; "open" answers are right if they equal the reference
or an alias, and otherwise cannot be judged by rule.
"""

from functools import lru_cache

from medgrpo.cases import Case
from medgrpo.matching.choice import match_choice
from medgrpo.matching.diagnosis import match_diagnosis
from medgrpo.matching.names import names_condition
from medgrpo.matching.numeric import match_numeric
from medgrpo.matching.numeric import states_unit as _states_unit
from medgrpo.matching.text import bare, before_next_step, visible, words
from medgrpo.matching.verdict import Match
from medgrpo.parsing import is_blank

__all__ = ["LONGEST", "Match", "match", "states_condition", "states_unit"]

LONGEST = 4_000
"""Characters of an answer that is read."""
_COPY_LENGTH = 150  # characters from which an answer is checked for being a copy of the case
_QUESTION = 20_000  # characters of a case that are compared


def match(predicted: str, case: Case) -> Match:
    """Judges an answer section against a case.

    Args:
        predicted: the answer section, without tags; what follows "Next:" is not judged.
        case: its `kind` says how; its `aliases` count like the answer.
    """
    predicted = predicted.strip()
    if len(predicted) > LONGEST:
        return Match(False, f"The answer has {len(predicted):,} characters; more than {LONGEST:,} is not one answer.")
    if is_blank(predicted):
        return Match(False, "The answer is empty.")
    text = visible(predicted)
    if len(text) > _COPY_LENGTH and _copies(text, case.question):
        return Match(False, "The answer repeats the case instead of answering.")
    if case.kind == "numeric":
        return match_numeric(predicted, case.answer, case.unit, case.tolerance)
    if case.kind == "diagnosis":
        return match_diagnosis(text, visible(case.answer), tuple(map(visible, case.aliases)))
    if case.kind == "choice":
        return match_choice(text, case.answer, case.options)
    return _match_open(text, case)


def _copies(text: str, question: str) -> bool:
    """Whether most of a long answer stands in the question: five words in a row, more often than not."""
    known = _runs(visible(question[:_QUESTION]))
    said = _runs(before_next_step(text)[0])
    return len(said) >= 20 and 2 * len(said & known) > len(said)


@lru_cache(maxsize=512)
def _runs(text: str) -> frozenset[tuple[str, ...]]:
    spoken = words(text)
    return frozenset(zip(*(spoken[i:] for i in range(5)), strict=False))


def states_condition(text: str) -> bool:
    """Whether a text names a condition by a word the diagnosis matcher knows, so that it can tell it from others."""
    return any(map(names_condition, words(visible(text))))


def states_unit(predicted: str, case: Case) -> bool:
    """Whether a numeric answer writes the case's unit, or one that converts to it."""
    return _states_unit(predicted[:LONGEST], case.unit)


def _match_open(text: str, case: Case) -> Match:
    """Equal to the reference: right. Anything else needs a reader."""
    said = {bare(text), bare(before_next_step(text)[0])}
    if any(bare(name) in said for name in (case.answer, *case.aliases) if bare(name)):
        return Match(True, "The answer equals the reference.")
    return Match(None, "The answer is worded differently from the reference; a person has to judge it.")
