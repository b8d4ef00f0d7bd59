"""The reasoning reward: are the findings that decide the case quoted, and do the quotes really stand in the case?

It checks citations, not thinking: a phrase in double quotes must occur in the question word for word (case and
white space aside), and phrases that hold a finding of `case.findings` count as support. It cannot tell whether the
text between the quotes follows from them. Copying the case instead of choosing from it earns nothing.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from medgrpo.cases import Case
from medgrpo.parsing import neutralise_tags
from medgrpo.rewards.reading import Reading, Scored

ENOUGH = 2
"""Findings to cite for full credit, or all of them if the case has fewer."""
LARGEST_SHARE = 0.7
"""Share of the question's characters that may be quoted, unless its findings alone are more."""
MOST_QUOTES = 40
"""Quotes that are read; more than that is no selection."""

QUOTED = re.compile(r'"([^"]+)"|“([^“”]+)”')
_SHORTEST = 3


def reasoning_score(reading: Reading, case: Case) -> Scored:
    """Share of quotes that are true × share of the findings cited; None if the case names no findings."""
    if not case.findings:
        return None, "Does not apply: the case does not say which findings support the answer."
    if reading.sections.status != "ok":
        return 0.0, "Reasoning counts only in a text that keeps the form."
    quotes = _quotes(reading.sections.reasoning)
    if not quotes:
        return 0.0, "The reasoning quotes nothing from the case."
    question, findings = _prepared(case.question, case.findings)
    true = [quote for quote in quotes if _occurs(quote, question)]
    copied, allowed = sum(map(len, true)), _allowance(question, findings)
    if len(quotes) > MOST_QUOTES or copied > allowed:
        return (
            0.0,
            f"The reasoning copies the case ({copied / max(1, len(question)):.0%} of it) instead of choosing from it.",
        )
    needed = min(ENOUGH, len(findings))
    cited = min(needed, _cited(true, findings))
    value = len(true) / len(quotes) * cited / needed
    return (
        value,
        f"{len(true)} of {len(quotes)} quotes stand in the case; {cited} of {needed} deciding findings are cited.",
    )


def _quotes(reasoning: str) -> list[str]:
    """The distinct quoted phrases, normalised; at most one more than is allowed."""
    found: dict[str, None] = {}
    for match in QUOTED.finditer(reasoning):
        quote = plain(match[1] or match[2])
        if len(quote) >= _SHORTEST:
            found[quote] = None
        if len(found) > MOST_QUOTES:
            break
    return list(found)


def _cited(quotes: list[str], findings: tuple[str, ...]) -> int:
    """Findings with a quote of their own: one quote supports one finding, so a quote of everything supports one."""
    free = list(quotes)
    cited = 0
    for finding in findings:
        match = next((quote for quote in free if supports(quote, finding)), None)
        if match is not None:
            free.remove(match)
            cited += 1
    return cited


def supports(quote: str, finding: str) -> bool:
    """Whether a quote holds the finding, or half of it or more; both as `plain` gives them."""
    return _occurs(finding, quote) or (2 * len(quote) >= len(finding) and _occurs(quote, finding))


def _allowance(question: str, findings: tuple[str, ...]) -> float:
    """Characters that may be quoted; the findings always, since a one-liner may hold nothing else."""
    told = sum(map(len, findings))
    return max(LARGEST_SHARE * len(question), told, min(1.25 * told, 0.9 * len(question)))


def _occurs(phrase: str, text: str) -> bool:
    """Whether the phrase stands in the text as whole words."""
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        if not (_joins(text, start) or _joins(text, end)):
            return True
        start = text.find(phrase, start + 1)
    return False


def _joins(text: str, cut: int) -> bool:
    return 0 < cut < len(text) and text[cut - 1].isalnum() and text[cut].isalnum()


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Case, white space and outer punctuation aside; tags as the prompt shows them."""
    return " ".join(neutralise_tags(text).casefold().split()).strip(" .,;:")


@lru_cache(maxsize=1024)
def _prepared(question: str, findings: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    return plain(question), tuple(dict.fromkeys(filter(None, map(plain, findings))))


def quoted_findings(reasoning: str, question: str) -> tuple[int, int]:
    """How many phrases a reasoning quotes, and how many of them stand in the question word for word."""
    quotes = _quotes(reasoning)
    told = _prepared(question, ())[0]
    return len(quotes), sum(_occurs(quote, told) for quote in quotes)


def told_apart(reasoning: str, case: str) -> Iterator[tuple[str, bool | None]]:
    """The reasoning in pieces: what is quoted, marks included, with whether it stands in the case, all else with None."""
    fresh = plain.__wrapped__  # the page asks this of what people type, which must not outlive their tab in a cache
    told, at = fresh(case), 0
    for match in islice(QUOTED.finditer(reasoning), MOST_QUOTES):
        quote = fresh(match[1] or match[2])
        if len(quote) >= _SHORTEST:
            yield reasoning[at : match.start()], None
            yield match[0], _occurs(quote, told)
            at = match.end()
    yield reasoning[at:], None
