"""The reference's names, and where a sentence mentions one of them.

A name is found word by word, with describing words in between ("acute decompensated heart failure"), and also if it is
written as one word or as two ("gastro-oesophageal", "gastroesophageal").
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from medgrpo.matching.text import word, words
from medgrpo.matching.words import DISEASE_ENDINGS, DISEASES, MODIFIERS, NOT_DISEASES, OPTIONAL

GOLD = "\0"
"""Stands for the reference in a list of words."""

_TOKEN = re.compile(r"[^\W_]+|[,/()&+|?:]|-(?=\s)")
_PHRASES = (
    (re.compile(r"(?<=\w)['`´]s\b", re.IGNORECASE), ""),
    (re.compile(r"\bas\s+well\s+as\b", re.IGNORECASE), " and "),
    (re.compile(r"\bfailing\s+that\b", re.IGNORECASE), " or "),
    (re.compile(r"\b(?:no|without\s+(?:a\s+|any\s+)?)\s*doubt\b", re.IGNORECASE), " "),
)
"""Phrases that would be misread word by word."""


@dataclass(frozen=True)
class Names:
    """The names of one reference.

    Attributes:
        full: each name as normalised words.
        by_initial: first letter -> names with their run-together spelling, longest first.
    """

    full: frozenset[tuple[str, ...]]
    by_initial: dict[str, list[tuple[tuple[str, ...], str]]]

    def mark(self, sentence: str) -> list[str]:
        """The sentence as normalised words and separators, with `GOLD` for each mention of the reference."""
        for phrase, plain in _PHRASES:
            sentence = phrase.sub(plain, sentence)
        found = _TOKEN.findall(sentence)
        tokens = [word(item) if item[0].isalnum() else item for item in found]
        marked: list[str] = []
        i = 0
        while i < len(tokens):
            length = 0
            for name, together in self.by_initial.get(tokens[i][0], ()):
                length = _length(tokens, i, name, together)
                if length:
                    break
            if length:
                marked.append(GOLD)
                marked.extend(item for item in tokens[i : i + length] if item in MODIFIERS)
            else:
                marked.append(tokens[i])
            i += length or 1
        return marked


@lru_cache(maxsize=2048)
def names_of(answer: str, aliases: tuple[str, ...]) -> Names:
    """The names of a reference; also without "acute", and "exacerbation of COPD" for "COPD exacerbation"."""
    names: dict[tuple[str, ...], str] = {}
    for text in (answer, *aliases):
        full = words(text)
        short = tuple(item for item in full if item not in OPTIONAL)
        for name in (full, short, (*full[-1:], "of", *full[:-1])):
            if name and (name == full or len(name) > 1 or names_condition(name[0])):
                names[name] = _run_together("".join(name))
    by_initial: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for name, together in sorted(names.items(), key=lambda item: -len(item[1])):
        by_initial.setdefault(name[0][0], []).append((name, together))
    return Names(frozenset(names), by_initial)


@lru_cache(maxsize=8192)
def names_condition(item: str) -> bool:
    """Whether a normalised word is the head of a disease's name."""
    if item in DISEASES:
        return True
    return len(item) > 5 and item.endswith(DISEASE_ENDINGS) and item not in NOT_DISEASES


def _length(tokens: list[str], start: int, name: tuple[str, ...], together: str) -> int:
    """How many tokens from `start` spell the name; 0 if they don't."""
    i, matched = start, 0
    while matched < len(name) and i < len(tokens):
        if tokens[i] == name[matched]:
            matched += 1
        elif not (matched > 0 and tokens[i] in MODIFIERS and i - start < len(name) + 2):
            break
        i += 1
    if matched == len(name):
        return i - start
    joined = ""
    if len(together) > 3:
        for n, token in enumerate(tokens[start : start + len(name) + 2], 1):
            joined = _run_together(joined + token)
            if joined == together:
                return n
            if len(joined) >= len(together):
                break
    return 0


def _run_together(text: str) -> str:
    """Words without spaces: "gastro esophageal" as "gastresophageal", like the one word after normalisation."""
    return text.replace("oe", "e").replace("ae", "e")
