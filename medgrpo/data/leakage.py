"""Keeps what is tested out of what is trained on. Linear in the length of the texts.

Texts are compared in lower case with single spaces. Meant for Hub data sets and own files; the casebook keeps its
splits apart by construction and repeats phrasings on purpose.
"""

from collections.abc import Iterable, Sequence

from medgrpo.cases import Case


def deduplicate(cases: Iterable[Case]) -> list[Case]:
    """The first case of each question, in order."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(_plain(case.question), case)
    return list(first.values())


def drop_overlapping(train: Sequence[Case], test: Iterable[Case], span: int = 64) -> tuple[list[Case], list[Case]]:
    """Training cases as (kept, dropped); a dropped one shares `span` characters in a row with a test case, or is one.

    Hashes of all spans of the test are held in memory. A training text is probed at every `span // 2`-th character with
    half a span, since any shared span contains such a probe whole, and searched in full only where a probe hits.
    """
    half = max(span // 2, 1)
    spans, probes, whole = set[int](), set[int](), set[str]()
    for case in test:
        text = _plain(case.question)
        whole.add(text)
        spans.update(_hashes(text, span))
        probes.update(_hashes(text, half))
    kept: list[Case] = []
    dropped: list[Case] = []
    for case in train:
        text = _plain(case.question)
        (dropped if text in whole or _shares(text, spans, probes, span, half) else kept).append(case)
    return kept, dropped


def _shares(text: str, spans: set[int], probes: set[int], span: int, half: int) -> bool:
    if not any(hash(text[at : at + half]) in probes for at in range(0, len(text) - half + 1, half)):
        return False
    return any(each in spans for each in _hashes(text, span))


def _hashes(text: str, length: int) -> Iterable[int]:
    return (hash(text[at : at + length]) for at in range(len(text) - length + 1))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
