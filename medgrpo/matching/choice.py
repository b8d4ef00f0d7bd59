"""Which option does a free text choose?

A letter counts where it is plainly a choice: alone, first, in brackets, or after "option" and the like. "A" and "I"
inside a sentence are words. An option's text counts in the sentence that states the answer. Letter and text must
agree.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from medgrpo.matching.text import bare, before_next_step, sentences, visible, words
from medgrpo.matching.verdict import Match

_LEADING = re.compile(r"^\W*([A-Za-z])\s*(?:[).:\],-]|$)|^\W*([B-HJ-Z])\s")
_NAMED = re.compile(
    r"\b(?:option|choice|answer(?:\s+choice)?|letter|alternative)s?\b(?:\s+(?:is"
    r"|would\s+be))?\s*[:=]?\s*[(\[\"'*]*\s*([A-Za-z])\b(?!['’]|\s+[a-z]{3})"
)
_BRACKETED = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]|(?<![\w(])([B-HJ-Z])[).:](?=\s|$)")
_CAPITAL = re.compile(r"\b[A-Z]\b")
_STANDING = re.compile(r"(?<![\w'’.-])([B-HJ-Z])(?![\w'’-])")
_AND = r"(?:\bor\b|\band\b|\bvs\b\.?|&|/|,|\+)"
_JOINED = re.compile(
    rf"{_AND}\s*[(\[]?([A-Z])\b(?!\s+[a-z]{{2}})|\b([A-Z])\b[)\]]?\s*{_AND}\s*(?:[(\[]|option\s+)?[A-Z]\b"
)
_ALONE = re.compile(r"\b([A-Z])\b(?!['’]|\s+[a-z])")
_DENIED = re.compile(
    r"\b(?:not|never|isn|neither|nor|except|rule[sd]?\s+out|exclude)\b[^\0]{0,15}\0"
    r"|\0\s+(?:(?:is|wa|would\s+be|seem)\s+)?(?:very\s+)?(?:not|unlikely|incorrect|wrong|excluded|ruled\s+out)\b"
)
_STATES = re.compile(r"\b(?:answer|diagnosis|choice|option)\b[^.:]{0,40}?(?::|\bis\b)\s*", re.IGNORECASE)
_BRIEF = 20  # characters of a sentence in which "no" is an answer wherever it stands
_WEAK = frozenset({("yes",), ("no",), ("maybe",), ("true",), ("false",)})


def match_choice(text: str, answer: str, options: Mapping[str, str]) -> Match:
    """Judges a text that went through `text.visible`; None only if the case's answer is not one of its options."""
    gold = _letter(answer, options)
    if gold is None:
        return Match(None, f"The case cannot be judged: its answer {answer!r} is not one of its options.")
    statement, _ = before_next_step(text)
    parts = sentences(statement.replace("\\boxed", " ")) or [""]
    letters = _letters(parts, options)
    head = next((part for part in parts if _STATES.search(part)), parts[0])
    texts = _texts(head, options)
    chosen = letters | texts
    if not chosen:
        return Match(False, "The answer chooses none of the options.")
    if len(chosen) > 1:
        return Match(
            False, f"The answer names several options ({', '.join(sorted(chosen))}); one is asked for.", several=True
        )
    letter = next(iter(chosen))
    if _denies(head, letter, options[letter]):
        return Match(False, f"The answer denies option {letter}.")
    if letter == gold:
        return Match(True, f"The answer is option {gold}: {options[gold]}.")
    return Match(False, f"The answer is option {letter}; the reference is {gold}: {options[gold]}.")


def _letter(answer: str, options: Mapping[str, str]) -> str | None:
    if answer in options:
        return answer
    wanted = bare(answer)
    return next(
        (
            letter
            for letter, text in options.items()
            if letter.casefold() == answer.casefold().strip() or bare(text) == wanted
        ),
        None,
    )


def _letters(parts: list[str], options: Mapping[str, str]) -> set[str]:
    """The option letters the text chooses."""
    known = {letter.upper(): letter for letter in options}
    found: set[str] = set()
    texts = [visible(text) for text in options.values() if len(text) > 2 and _CAPITAL.search(text)]
    for i, part in enumerate(parts):
        for text in sorted(texts, key=len, reverse=True):  # "vitamin B12 and C" chooses no letter
            part = re.sub(re.escape(text), " ", part, flags=re.IGNORECASE)
        leading = _LEADING.match(part)
        first = leading and (leading[1] or leading[2])
        if first and (first.isupper() or len(part.strip(" ().:*")) == 1):
            found.add(first.upper())
        named = [m[1].upper() for m in _NAMED.finditer(part)]
        bracketed = [(m[1] or m[2]).upper() for m in _BRACKETED.finditer(part)]
        found.update(named, bracketed)
        if i == 0 or named or len(words(part)) <= 4:
            found.update(_STANDING.findall(part))
        if len(words(part)) <= 4:
            found.update(_ALONE.findall(part))
        if found & known.keys():
            found.update(m[1] or m[2] for m in _JOINED.finditer(part))
    return {known[letter] for letter in found if letter in known}


def _texts(sentence: str, options: Mapping[str, str]) -> set[str]:
    """The options whose text stands in the sentence; of texts inside one another only the longer counts."""
    said = f" {' '.join(words(sentence))} "
    opening = f" {' '.join(words(_claim(sentence)))} "
    found = set()
    for name, letter in _by_length(tuple(options.items())):
        if not name:
            continue
        target = f" {' '.join(name)} "
        if name in _WEAK:
            if opening.startswith(target) or said.startswith(target) or (len(said) < _BRIEF and target in said):
                found.add(letter)
        elif target in said:
            found.add(letter)
            said = said.replace(target, " \0 ")
    return found


@lru_cache(maxsize=1024)
def _by_length(options: tuple[tuple[str, str], ...]) -> tuple[tuple[tuple[str, ...], str], ...]:
    names = [(words(visible(text)), letter) for letter, text in options]
    return tuple(sorted(names, key=lambda item: -sum(map(len, item[0]))))


def _claim(sentence: str) -> str:
    found = _STATES.search(sentence)
    return sentence[found.end() :] if found else sentence


def _denies(sentence: str, letter: str, option: str) -> bool:
    """Whether the sentence takes the option back: a denial just before or after its text, or its letter."""
    said = f" {' '.join(words(sentence))} "
    name = " ".join(words(visible(option)))
    mention = f" {name} " if name and f" {name} " in said else f" {letter.lower()} "
    return _DENIED.search(said.replace(mention, " \0 ")) is not None
