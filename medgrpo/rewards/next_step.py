"""The next-step reward: does a right answer end with the next step that belongs to it?

The step stands in `case.approach`; a text says it after "Next:" in its answer. It is to be learned word for word, since
one word exchanged can make sense into nonsense ("hydrocortisone and saline", "hydrocortisone tablets").
"""

import re

from medgrpo.cases import Case
from medgrpo.rewards.meanings import dice, stems
from medgrpo.rewards.reading import Reading, Scored
from medgrpo.rewards.scores import correctness_score

CHANGED = 0.5
"""Most that a next step in other words can earn; the content words it shares decide how much of it."""
_NEXT = re.compile(r"\bnext\s*:", re.IGNORECASE)
_WORD = re.compile(r"\w+")


def next_step_score(reading: Reading, case: Case) -> Scored:
    """1.0 for the next step word for word, half the Dice coefficient for one in other words, 0.0 without a right answer.

    None if the case has no next step or its answer cannot be judged.
    """
    if not case.approach:
        return None, "Does not apply: the case does not say which step comes next."
    said = stated(reading.sections.answer)
    if not said:
        return 0.0, 'The answer does not say what comes next (after "Next:").'
    right, _ = correctness_score(reading, case)
    if right is None:
        return None, "The next step belongs to a right answer, and this one cannot be judged."
    if not right:
        return 0.0, "The next step counts only after a right answer."
    if is_intact(reading.sections.answer, case):
        return 1.0, "The next step is word for word that of the reference."
    fit = dice(stems(said), stems(case.approach))
    return CHANGED * fit, f"The next step differs from the reference: {fit:.0%} of the content words agree."


def stated(answer: str) -> str:
    """What an answer says after its first "Next:"; "" if there is none."""
    heading = _NEXT.search(answer)
    return answer[heading.end() :].strip() if heading else ""


def is_intact(answer: str, case: Case) -> bool:
    """Whether an answer's next step is that of the case word for word; case, white space and punctuation aside."""
    return _words(stated(answer)) == _words(case.approach)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
