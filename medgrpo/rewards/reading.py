"""A completion read once for all rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from medgrpo.parsing import ANSWER_CLOSE, ANSWER_OPEN, Sections, Tag, sections, tags

Completion = str | Sequence[Mapping[str, object]]
Scored = tuple[float | None, str]
"""A reward's value and the reason for it; None if it does not apply or cannot be judged."""


@dataclass(frozen=True)
class Reading:
    """A finished completion with its tags and sections."""

    text: str
    tags: tuple[Tag, ...]
    sections: Sections

    @cached_property
    def answer_blocks(self) -> int:
        """Answers that were opened and closed, or opened again; one that was cut off does not count."""
        names = [tag.name for tag in self.tags]
        closed = sum(pair == (ANSWER_OPEN, ANSWER_CLOSE) for pair in pairwise(names))
        return max(closed, names.count(ANSWER_OPEN)) if closed else 0


def text_of(completion: Completion) -> str:
    """The text of a completion, which TRL gives as a string or as a list of chat messages."""
    if isinstance(completion, str):
        return completion
    return "".join([str(message.get("content") or "") for message in completion])


@lru_cache(maxsize=512)
def read(text: str) -> Reading:
    """Parses a finished text; cached, since every reward asks for the same one."""
    found = tags(text)
    return Reading(text, tuple(found), sections(text, found, final=True))
