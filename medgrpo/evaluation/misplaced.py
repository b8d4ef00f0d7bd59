"""Is what an answer says of a quoted finding said of another one in the casebook? Asked of any text, without a reference.

An explanation is known by its meaning: it says the clause that goes with some findings of the knowledge base, by the measure
of the reward `meaning`. It is misplaced if the quote has far more words in common with another finding than with those,
each weighed by how few findings have it (inverse document frequency, Spärck Jones 1972, J Doc 28:11). The rule understands
nothing: how often it is right stands in docs/decisions/0012-misplaced-explanations.md.
"""

import math
from collections import Counter
from functools import cache

from medgrpo.data.knowledge import load_conditions
from medgrpo.rewards.meanings import FITS, SAYS_SOMETHING, dice, said_of_quotes, stems

FAR_MORE = 2.5
"""Times the weight of the words in common."""


def misplaced(reasoning: str) -> list[tuple[int, int]]:
    """Where the text says of a quote what another finding means: (start, end) of each such explanation."""
    findings, weights = _known()
    fresh = stems.__wrapped__  # what people type must not outlive their tab in a cache
    found = []
    for quote, start, end in said_of_quotes(reasoning):
        meaning, words = fresh(reasoning[start:end]), fresh(quote)
        common = [(sum(weights[word] for word in words & known), clause) for clause, known in findings]
        own = [weight for weight, clause in common if dice(meaning, clause) >= FITS]
        if len(meaning) >= SAYS_SOMETHING and own and max(own) * FAR_MORE < max(weight for weight, _ in common):
            found.append((start, end))
    return found


@cache
def _known() -> tuple[list[tuple[frozenset[str], frozenset[str]]], dict[str, float]]:
    """(what it means, the words it is said in) of each statement, as stems, and the weight of each word."""
    findings = [
        (stems(each.because), frozenset().union(*map(stems, (*each.say.note, *each.say.prose, *each.say.patient))))
        for condition in load_conditions()
        for each in (*condition.findings, *condition.negatives, *condition.risk_factors)
        if each.because
    ]
    counts = Counter(word for _, words in findings for word in words)
    return findings, {word: math.log((1 + len(findings)) / (1 + n)) for word, n in counts.items()}
