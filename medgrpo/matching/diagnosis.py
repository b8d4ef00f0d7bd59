"""Does a free text commit to the reference diagnosis, and to nothing else?

The text is cut at "Next:", split into sentences, and the sentence that states the diagnosis is found. In it the
reference and its aliases are marked, and everything beside them must be description, reason or denial. What names
another condition, offers a choice or takes the diagnosis back makes the answer wrong. A later sentence may explain,
not add a second diagnosis. In doubt the verdict is wrong: a reward that misses an odd phrasing teaches plain
speech, one that can be talked round teaches talk.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from medgrpo.matching.names import GOLD, Names, names_condition, names_of
from medgrpo.matching.text import before_next_step, sentences, words
from medgrpo.matching.verdict import Match
from medgrpo.matching.words import (
    ALTERING,
    AND,
    CONTRARY,
    DENIALS,
    EITHER,
    INSTEAD,
    MODIFIERS,
    OTHER_CONDITION,
    REASONS,
)

_NOUNS = (
    "diagnosis|diagnoses|dx|condition|answer|cause|explanation|impression|assessment|aetiology|etiology"
    "|picture|presentation"
)
_STATES = re.compile(
    rf"\b(?:{_NOUNS})\b[^.:=]{{0,60}}?(?::|=|\bis\b|\bwould\s+be\b|\bappears\s+to\s+be\b|\bremains\b"
    rf"|\bwas\b)\s*(?:that\s+of\s+|most\s+likely\s+|likely\s+|probably\s+)*",
    re.IGNORECASE,
)
_SUGGESTS = re.compile(
    r"\b(?:(?:most|very|highly)\s+)?(?:consistent\s+with|suggest(?:s|ive\s+of|ing|ed)?|indicat(?:es|ive\s+of|ing)"
    r"|points?\s+to(?:wards?)?"
    r"|diagnostic\s+of|(?:probably|likely)\s+(?:has|have|represents?|is|due\s+to)|this\s+is|it\s+is|patient\s+has"
    r"|represents?)\s+",
    re.IGNORECASE,
)
_LIKELY = re.compile(
    r"(?<!less )(?<!not )\b(?:most\s+likely|likely|probable|probably|typical\s+of|classic\s+for)\b", re.IGNORECASE
)
_UNDECIDED = re.compile(
    r"\b(?:either|differential|ddx|one\s+of|cannot\s+(?:be\s+)?(?:determined?|distinguish|say|tell)|possibilities"
    r"|list\s+of)\b",
    re.IGNORECASE,
)
_ADDS = re.compile(
    r"^\W*(?:or|and|also|alternatively|versus|vs|plus|another|other|if\s+not|otherwise|maybe|perhaps|possibly"
    r"|differential|ddx|consider)\b"
    r"|\b(?:could|may|might|can)\s+(?:also\s+)?be\b|\balso\s+(?:possible|likely|consider)|\balternative(?:ly)?\b"
    r"|\bdifferential\b",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(
    r"\b(?:is|are|was|be|been|seem|appear|look)\s+(?:\w+\s+)?(?:unlikely|less\s+likely|excluded|ruled\s+out"
    r"|improbable|doubtful|wrong|incorrect|false"
    r"|not\s+(?:likely|supported|present|correct|probable|the|a|our))\b"
    r"|^\W*(?:unlikely|excluded|ruled\s+out|not\s+likely|less\s+likely)\b"
)
_PARENTHESIS = re.compile(r"\(\s*([A-Za-z]{2,8})\s*\)")
_UNDECIDED_WHY = "The answer gives several possibilities and does not decide."
_LIST_WHY = "The answer is a list of several conditions."
_CHOICE_WHY = "The answer offers a choice of several conditions; one diagnosis is asked for."
_OTHER_WHY = "The answer names another condition."
_BESIDE_WHY = "The answer names several conditions beside one another; one diagnosis is asked for."
_SECOND_WHY = "The answer adds a second diagnosis later on, so it names several."
_SEVERAL = frozenset({_UNDECIDED_WHY, _LIST_WHY, _CHOICE_WHY, _BESIDE_WHY, _SECOND_WHY})
_PLAN = frozenset({"for", "to", "if", "check", "consider", "start", "give", "monitor", "treat", "confirm"})
_SHORT = 6
"""A later sentence of at most so many telling words that names a condition adds a diagnosis; a longer one explains."""
_OPENING = 3
"""Words that may stand before the name in a sentence that states it without saying so."""
_MENTIONS = 2
"""Conditions that may be mentioned after "because", "with" and the like."""


@dataclass(frozen=True)
class _Segment:
    """Words of a claim between two separators."""

    joiner: str
    words: list[str]
    choice: bool  # stands on either side of an "or"

    @property
    def gold(self) -> bool:
        return GOLD in self.words

    @property
    def denied(self) -> bool:
        return self.joiner in INSTEAD or not DENIALS.isdisjoint(self.words)

    @property
    def other(self) -> bool:
        described = MODIFIERS if self.gold else ()  # "gout attack", "gallstone pancreatitis"
        return any(item in OTHER_CONDITION or (names_condition(item) and item not in described) for item in self.words)

    @property
    def unknown(self) -> bool:
        return any(item not in MODIFIERS and item != GOLD for item in self.words)


@lru_cache(maxsize=512)
def match_diagnosis(text: str, answer: str, aliases: tuple[str, ...]) -> Match:
    """Judges a text that went through `text.visible`; True or False, never None."""
    names = names_of(answer, aliases)
    statement, rest = before_next_step(text)
    if words(statement) in names.full:
        problem = _after_next(rest, names)
        return _wrong(problem) if problem else Match(True, f"The answer is the reference: {answer}.")
    parts = sentences(statement)
    if not parts:
        return Match(False, "The answer names no diagnosis.")
    head = _headline(parts, names)
    problem = _judge(parts[head], answer, names)
    for i, part in enumerate(parts):
        if not problem and i != head:
            problem = _later(part, names)
    problem = problem or _after_next(rest, names)
    if problem == _OTHER_WHY and any(GOLD in names.mark(part) for part in parts):
        problem = _BESIDE_WHY
    if problem:
        return _wrong(problem)
    return Match(True, f"The answer commits to the reference, {answer}, and to nothing else.")


def _wrong(problem: str) -> Match:
    return Match(False, problem, several=problem in _SEVERAL)


def _named(token: str) -> bool:
    return token == GOLD or names_condition(token)


def _headline(parts: list[str], names: Names) -> int:
    """Index of the sentence that states the diagnosis."""
    if len(parts) == 1:
        return 0
    for pattern in (_STATES, _LIKELY, _SUGGESTS):
        for i, part in enumerate(parts):
            found = pattern.search(part)
            if found and any(map(_named, names.mark(part))):
                return i
    return next((i for i, part in enumerate(parts) if _opens_with_name(names.mark(part))), 0)


def _opens_with_name(tokens: list[str]) -> bool:
    """Whether a sentence is a name with description, as opposed to a story in which one occurs."""
    named = next((i for i, token in enumerate(tokens) if _named(token)), None)
    return named is not None and (named <= _OPENING or len(tokens) <= _SHORT)


def _claim(sentence: str) -> str:
    """The part of a sentence that names the diagnosis, without "The most likely diagnosis is"."""
    for pattern in (_STATES, _SUGGESTS):
        found = pattern.search(sentence)
        if found:
            return sentence[found.end() :]
    return sentence


def _judge(sentence: str, answer: str, names: Names) -> str:
    """What is wrong with the sentence that states the diagnosis; empty if it commits to the reference."""
    if _UNDECIDED.search(sentence):
        return _UNDECIDED_WHY
    tokens = names.mark(_without_abbreviations(_claim(sentence)))
    cut = _end_of_naming(tokens)
    segments = _segments(tokens[:cut])
    problem = next(filter(None, (_fault(segment, answer) for segment in segments)), "")
    if not any(segment.gold for segment in segments):
        return problem or f"The answer does not name the reference, {answer}."
    if problem:
        return _BESIDE_WHY if problem == _OTHER_WHY else problem
    if (
        sum(
            segment.unknown and not segment.denied and not segment.words[0].isdigit() and len(segment.words) < 4
            for segment in segments
            if not segment.gold
        )
        > 2
    ):
        return _LIST_WHY
    if _taken_back(tokens):
        return f"The answer names {answer} but takes it back."
    tail = [segment for segment in _segments(tokens[cut:]) if segment.other and not segment.denied and not segment.gold]
    mentions = sum(names_condition(token) for segment in tail for token in segment.words)
    if any(segment.joiner in EITHER for segment in tail) or mentions > _MENTIONS:
        return _BESIDE_WHY
    return ""


def _fault(segment: _Segment, answer: str) -> str:
    if not segment.gold:
        if segment.denied and not (segment.choice and not segment.other):
            return ""
        if segment.other or (segment.choice and segment.unknown):
            return _CHOICE_WHY if segment.choice else _OTHER_WHY
        return ""
    if segment.denied:
        return f"The answer denies {answer}."
    if segment.other:
        return _BESIDE_WHY
    if _altered(segment.words):
        return f"The answer speaks of {answer} but does not make the diagnosis."
    if _contrary(segment.words, answer):
        return f"The answer describes {answer} with a word that contradicts it."
    return ""


def _later(sentence: str, names: Names, states_only: bool = False) -> str:
    """What is wrong with a sentence beside the statement: a second diagnosis, or the first one taken back."""
    states = _STATES.search(sentence)
    if states_only and not states:
        return ""
    tokens = names.mark(sentence if states is None else sentence[states.end() :])
    segments = _segments(tokens)
    added = any(segment.other and not segment.denied and not segment.gold for segment in segments)
    if states and added and GOLD not in tokens and re.search(r"diagnos|answer|dx", states[0], re.IGNORECASE):
        return _SECOND_WHY
    if states_only:
        return ""
    denied_gold = any(segment.gold and segment.denied and len(segment.words) <= _SHORT for segment in segments)
    if denied_gold or _taken_back(tokens):
        return "The answer takes its diagnosis back later on."
    if tokens and DENIALS.issuperset(tokens):
        return "The answer takes its diagnosis back later on."
    brief = sum(token[0].isalnum() and token not in MODIFIERS for token in tokens) <= _SHORT
    tentative = _ADDS.search(sentence) or (
        GOLD not in tokens and (_LIKELY.search(sentence) or _SUGGESTS.search(sentence))
    )
    if added and ALTERING.isdisjoint(tokens) and (brief or tentative):
        return _SECOND_WHY
    if brief and GOLD not in tokens and re.match(r"\W*(?:or|alternatively|vs|versus)\b", sentence, re.IGNORECASE):
        return _SECOND_WHY
    return ""


def _after_next(rest: str, names: Names) -> str:
    """What is wrong with the next step: it may mention anything, but state no diagnosis; nor may a later paragraph."""
    problem = _later(rest, names, states_only=True)
    for paragraph in rest.split("\n\n")[1:]:
        sentence = next(iter(sentences(paragraph)), "")
        if not problem and _PLAN.isdisjoint(words(sentence)):
            problem = _later(sentence, names)
    return problem


def _end_of_naming(tokens: list[str]) -> int:
    """Where the naming of the diagnosis ends and reasons or details begin."""
    named = next((i for i, token in enumerate(tokens) if _named(token)), len(tokens))
    return next((i for i in range(named + 1, len(tokens)) if tokens[i] in REASONS), len(tokens))


def _segments(tokens: list[str]) -> list[_Segment]:
    """The stretches between separators; the strongest of neighbouring separators counts."""
    pieces: list[tuple[str, list[str]]] = [("", [])]
    for token in tokens:
        separates = not token[0].isalnum() and token != GOLD
        if separates or token in EITHER or token in AND or token in INSTEAD:
            joiner, current = pieces[-1]
            if current:
                pieces.append((token, []))
            elif joiner not in EITHER:
                pieces[-1] = (token, current)
        else:
            pieces[-1][1].append(token)
    joiners = [joiner for joiner, _ in pieces[1:]] + [""]
    return [
        _Segment(joiner, current, joiner in EITHER or following in EITHER)
        for (joiner, current), following in zip(pieces, joiners, strict=True)
        if current
    ]


def _taken_back(tokens: list[str]) -> bool:
    """Whether "is unlikely" or the like follows the reference before another condition is named."""
    if GOLD not in tokens:
        return False
    after = tokens[tokens.index(GOLD) + 1 :]
    end = next((i for i, token in enumerate(after) if names_condition(token)), len(after))
    return _TAKES_BACK.search(" ".join(after[:end])) is not None


def _altered(tokens: list[str]) -> bool:
    at = tokens.index(GOLD)
    return not ALTERING.isdisjoint(tokens[max(0, at - 2) : at] + tokens[at + 1 : at + 2]) or "family" in tokens


def _contrary(tokens: list[str], answer: str) -> bool:
    reference = set(words(answer))
    return any(
        group & reference and (group & set(tokens)) - reference
        for group in CONTRARY
        if reference.isdisjoint(group & set(tokens))
    )


def _without_abbreviations(claim: str) -> str:
    """The claim without "(STEMI)" after the words that spell it."""
    return _PARENTHESIS.sub(
        lambda found: (
            " " if _abbreviates(found[1].lower(), claim[max(0, found.start() - 80) : found.start()]) else found[0]
        ),
        claim,
    )


def _abbreviates(letters: str, phrase: str) -> bool:
    """Whether the letters are read off the phrase in order, the first and the last from the start of a word."""
    text = " " + " ".join(words(phrase))
    at = text.find(" " + letters[0]) + 1
    for letter in letters[1:-1]:
        at = text.find(letter, at + 1) if at > 0 else -1
    return at > 0 and (" " + letters[-1]) in text[at:]
