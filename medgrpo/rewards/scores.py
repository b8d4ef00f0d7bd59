"""The rewards that need no more than the form, the matcher and the length.

Each takes a completion and its case and returns a value with a reason. What they guarantee together, and the audit
proves: a right answer in form beats everything else, and the form without the answer is worth little.
"""

from medgrpo.cases import Case
from medgrpo.matching import match, states_unit
from medgrpo.parsing import FORM, is_blank
from medgrpo.rewards.reading import Reading, Scored

SOFT_LENGTH = 2_000
"""Characters up to which a completion is free: about 450 tokens."""
HARD_LENGTH = 4_000
"""Characters from which a completion pays the whole length penalty."""


def format_score(reading: Reading, case: Case) -> Scored:
    """1.0 for exactly the form, else 0.0."""
    if reading.sections.status == "ok":
        return 1.0, "Exactly one reasoning block and then one answer block, with nothing around them."
    if reading.sections.status == "missing":
        return 0.0, "The text has no reasoning or answer block."
    return (
        0.0,
        "The blocks are there, but not exactly one of each, filled, closed, in order and with nothing around them.",
    )


def tags_score(reading: Reading, case: Case) -> Scored:
    """A quarter for each tag that comes when it is due, less a quarter for each that does not; in [0, 1].

    Along a perfect text it only rises, so a completion that was cut off later is never worth less. A closing tag
    pays only if its block is filled.
    """
    due = earned = stray = 0
    opened_at = 0
    for tag in reading.tags:
        if due < len(FORM) and tag.exact and tag.name == FORM[due]:
            closes = tag.name.startswith("</")
            earned += not (closes and is_blank(reading.text[opened_at : tag.start]))
            opened_at = tag.end
            due += 1
        else:
            stray += 1
    why = f"{earned} of {len(FORM)} tags stand where they belong"
    why += f"; {stray} more {'does' if stray == 1 else 'do'} not belong." if stray else "."
    return max(0, earned - stray) / len(FORM), why


def correctness_score(reading: Reading, case: Case) -> Scored:
    """1.0 for a right answer in the one closed answer block, 0.0 for a wrong or missing one, None if unjudged.

    It does not ask for the whole form: a right answer without reasoning is right, and earns less by the other
    rewards.
    """
    if reading.answer_blocks == 0:
        return 0.0, "There is no complete answer block, so nothing counts as the answer."
    if reading.answer_blocks > 1:
        return 0.0, f"There are {reading.answer_blocks} answer blocks; one is asked for."
    verdict = match(reading.sections.answer, case)
    return (None if verdict.correct is None else float(verdict.correct)), verdict.why


def numeric_score(reading: Reading, case: Case) -> Scored:
    """For numeric cases: 1.0 for value and unit, 0.5 for the value without its unit, else 0.0."""
    if case.kind != "numeric":
        return None, "Does not apply: the reference is not a number."
    value, why = correctness_score(reading, case)
    if value != 1.0:
        return value, why
    if case.unit and not states_unit(reading.sections.answer, case):
        return 0.5, f"The value is right, but its unit ({case.unit}) is not written."
    return 1.0, why


def length_score(reading: Reading, case: Case) -> Scored:
    """0 up to `SOFT_LENGTH` characters, falling to -1 at `HARD_LENGTH`: soft overlong punishment, DAPO
    (arXiv:2503.14476) eq. 13.
    """
    size = len(reading.text)
    if size <= SOFT_LENGTH:
        return 0.0, f"{size:,} characters; up to {SOFT_LENGTH:,} cost nothing."
    penalty = min(1.0, (size - SOFT_LENGTH) / (HARD_LENGTH - SOFT_LENGTH))
    return -penalty, f"{size:,} characters; more than {SOFT_LENGTH:,} cost, and from {HARD_LENGTH:,} the cost is full."
