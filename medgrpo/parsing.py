"""The one reader of model text: what is reasoning, what is the answer, and is the form kept.

Rewards, evaluation, page, command line and API all call `parse`, so they can't disagree about what the answer is. It
knows the form and nothing about medicine. It is a pure function of the text so far, which makes streaming trivial: call
it again on the longer text. It never raises, takes linear time, and loses no text:

* text before the first tag is reasoning, unless that tag is `</answer>`; any other text outside the blocks is answer;
* `<think>` is read as `<reasoning>`; tags match in any case and with spaces inside; an opening tag ends the block
  before it;
* several pieces of one section are joined by a blank line; a text without tags is all answer.

A tail that could still become a tag (`<`, `</rea`) is held back, so a stream never shows half a tag. A finished text
has no tail to wait for: `final=True` gives back "K <" and drops only what is plainly a torn tag (`</`, or three letters
of a name).
"""

import re
from dataclasses import dataclass
from itertools import chain
from typing import Literal

Status = Literal["ok", "repaired", "missing"]
Phase = Literal["reasoning", "answer", ""]

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
FORM = (REASONING_OPEN, REASONING_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
"""The four tags, in the order in which a well-formed text has them."""

_NAMES = ("reasoning", "think", "answer")
_GAP = r"[ \t]{0,8}+"  # possessive and bounded: no backtracking, and the held-back tail stays short
_TAG = re.compile(rf"<{_GAP}(/?){_GAP}({'|'.join(_NAMES)}){_GAP}>", re.IGNORECASE | re.ASCII)


def _unfinished(shortest: int) -> str:
    """Alternatives for a tag name that may still be growing, from `shortest` letters up."""
    stems = sorted({name[:n] for name in _NAMES for n in range(shortest, len(name))}, key=len, reverse=True)
    return "|".join([*(name + _GAP for name in _NAMES), *stems])


_TAIL = re.compile(rf"<{_GAP}/?{_GAP}(?:{_unfinished(1)})?", re.IGNORECASE | re.ASCII)
_TORN = re.compile(rf"<{_GAP}(?:/{_GAP}(?:{_unfinished(1)})?|(?:{_unfinished(3)}))", re.IGNORECASE | re.ASCII)
_LONGEST_TAIL = len("</reasoning") + 3 * 8
_SAYS = re.compile(r"[^\W_]")  # a letter or a digit of any script


@dataclass(frozen=True)
class Sections:
    """A text read as a form.

    Attributes:
        reasoning: without tags and outer white space.
        answer: likewise.
        status: "ok" if the whole text is exactly one non-blank reasoning block and then one non-blank answer block, with
            nothing but white space around them; "repaired" if it has tags but not that form; "missing" if it has none.
        phase: the section at the end of the text, "" between and after the blocks: what a stream is writing just now.
    """

    reasoning: str
    answer: str
    status: Status
    phase: Phase = ""


@dataclass(frozen=True)
class Tag:
    """One tag of a text: its place, its canonical spelling, and whether it was written that way."""

    start: int
    end: int
    name: str
    exact: bool


def tags(text: str) -> list[Tag]:
    """The tags of a text in order; `<think>` counts as an inexact `<reasoning>`."""
    found = []
    for match in _TAG.finditer(text):
        name = f"<{match[1]}{'answer' if match[2][0] in 'aA' else 'reasoning'}>"
        found.append(Tag(match.start(), match.end(), name, match[0] == name))
    return found


def parse(text: str, final: bool = False) -> Sections:
    """Reads a text, or any prefix of one.

    Args:
        text: everything the model has written so far.
        final: nothing more will come, so only a torn tag is held back at the end and not every `<`.
    """
    return sections(text, tags(text), final)


def sections(text: str, found: list[Tag], final: bool = False) -> Sections:
    """`parse` for a caller that already has the text's `tags`."""
    end = _end(text, final)
    if not found:
        answer = text[:end].strip()
        return Sections("", answer, "missing", "answer" if answer else "")
    pieces: dict[str, list[str]] = {"reasoning": [], "answer": []}
    section: Phase = "answer" if found[0].name == ANSWER_CLOSE else "reasoning"
    position = 0
    for tag in found:
        pieces[section].append(text[position : tag.start])
        section = "reasoning" if tag.name == REASONING_OPEN else "answer"
        position = tag.end
    rest = text[position:end]
    pieces[section].append(rest)
    is_open = found[-1].name in (REASONING_OPEN, ANSWER_OPEN) or (found[-1].name == REASONING_CLOSE and rest.strip())
    return Sections(
        reasoning=_join(pieces["reasoning"]),
        answer=_join(pieces["answer"]),
        status="ok" if _well_formed(text, found) else "repaired",
        phase=section if is_open else "",
    )


def compose(reasoning: str, answer: str) -> str:
    """The form around two sections; what `parse` reads as "ok" if neither is blank."""
    reasoning, answer = neutralise_tags(reasoning).strip(), neutralise_tags(answer).strip()
    return f"{REASONING_OPEN}\n{reasoning}\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n{answer}\n{ANSWER_CLOSE}"


def neutralise_tags(text: str) -> str:
    """The text with the form's tags written as ‹answer›: still readable, no longer a tag. For text that isn't a
    model's."""
    return _TAG.sub(lambda match: f"‹{match[0][1:-1]}›", text)


def is_blank(text: str) -> bool:
    """True if the text says nothing: it has no letter and no digit, so "." and "---" are as blank as white space."""
    return not _SAYS.search(text)


def _end(text: str, final: bool) -> int:
    start = text.rfind("<", max(0, len(text) - _LONGEST_TAIL))
    if start < 0:
        return len(text)
    pattern = _TORN if final else _TAIL
    return start if pattern.fullmatch(text, start) else len(text)


def _join(pieces: list[str]) -> str:
    return "\n\n".join(filter(None, map(str.strip, pieces)))


def _well_formed(text: str, found: list[Tag]) -> bool:
    if tuple(tag.name for tag in found[:5]) != FORM or not all(tag.exact for tag in found):
        return False
    cuts = [0, *chain.from_iterable((tag.start, tag.end) for tag in found), len(text)]
    before, reasoning, between, answer, after = (text[cuts[i] : cuts[i + 1]] for i in range(0, 10, 2))
    outside = before + between + after
    return not outside.strip() and not is_blank(reasoning) and not is_blank(answer)
