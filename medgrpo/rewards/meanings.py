"""The meaning reward: does what is said of a quoted finding fit that finding, or does it belong to another one?

What a finding means stands in `case.meanings`, a clause for each of `case.findings`. What a text says of it is the rest
of the sentence after the quote, or what follows a colon there. The two are compared by the stems of their content words
(Dice coefficient, Dice 1945, Ecology 26:297), so a long clause that might fit anything pays less than one that fits.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, zip_longest

from medgrpo.cases import Case
from medgrpo.rewards.citations import ENOUGH, MOST_QUOTES, QUOTED, plain, supports
from medgrpo.rewards.reading import Reading, Scored

FITS = 0.6
"""Dice coefficient from which an explanation counts as that of its finding."""
SAYS_SOMETHING = 3
"""Content words from which the rest of a sentence counts as an explanation ('"fever" agrees with this' has one)."""
_END = re.compile(r"[.;!?](?=\s|$)|\n")
_WORD = re.compile(r"[a-z]{3,}")
_COMMON = frozenset(
    "and are but can for from has have into its may not that the their this was were which with".split()  # noqa: SIM905
)


def meaning_score(reading: Reading, case: Case) -> Scored:
    """How well the quoted findings are explained, on average over two findings or all that were explained, if more.

    None if the case does not say what its findings mean.
    """
    if not case.meanings:
        return None, "Does not apply: the case does not say what its findings mean."
    if reading.sections.status != "ok":
        return 0.0, "Explanations count only in a text that keeps the form."
    fits = explanations(reading.sections.reasoning, case)
    needed = min(ENOUGH, len(case.meanings))
    good = sum(fit >= FITS for fit in fits)
    return (
        sum(fits) / max(needed, len(fits)),
        f"{len(fits)} quoted finding{' is' if len(fits) == 1 else 's are'} explained ({needed} expected); "
        f"{good} explanation{' fits its' if good == 1 else 's fit their'} finding.",
    )


def explanations(reasoning: str, case: Case) -> list[float]:
    """For each quoted finding that is explained, how well the explanation fits it, in [0, 1]; none without `case.meanings`.

    A finding is explained once: saying it again counts as an explanation that does not fit.
    """
    told = _told(case.findings, case.meanings) if case.meanings else ()
    used: set[int] = set()
    fits: list[float] = []
    for quoted, start, end in said_of_quotes(reasoning):
        quote = plain(quoted)
        about = [i for i, (finding, _) in enumerate(told) if supports(quote, finding)]
        said = stems(reasoning[start:end]) if about else frozenset()
        if len(said) < SAYS_SOMETHING:
            continue
        best = max(about, key=lambda i: (i not in used, dice(said, told[i][1])))
        fits.append(0.0 if best in used else dice(said, told[best][1]))
        used.add(best)
    return fits


def said_of_quotes(reasoning: str) -> Iterator[tuple[str, int, int]]:
    """Each quoted phrase and where in the text stands what is said of it: the rest of the sentence, up to the next quote
    at most; only what follows a colon, if there is one.
    """
    quotes = list(islice(QUOTED.finditer(reasoning), MOST_QUOTES + 1))
    for match, following in zip_longest(quotes[:MOST_QUOTES], quotes[1:]):
        start, end = match.end(), following.start() if following else len(reasoning)
        stop = _END.search(reasoning, start, end)
        end = stop.start() if stop else end
        said = reasoning[max(start, reasoning.find(":", start, end) + 1) : end].lstrip()
        yield match[1] or match[2], end - len(said), end


def dice(one: frozenset[str], other: frozenset[str]) -> float:
    """Dice coefficient of two sets of stems, 0 if both are empty."""
    return 2 * len(one & other) / max(1, len(one) + len(other))


@lru_cache(maxsize=4096)
def stems(text: str) -> frozenset[str]:
    """The content words of a text, cut to five letters."""
    return frozenset(word[:5] for word in _WORD.findall(text.casefold()) if word not in _COMMON)


@lru_cache(maxsize=1024)
def _told(findings: tuple[str, ...], meanings: tuple[str, ...]) -> tuple[tuple[str, frozenset[str]], ...]:
    pairs = zip(map(plain, findings), map(stems, meanings), strict=True)
    return tuple((finding, clause) for finding, clause in pairs if finding and clause)
