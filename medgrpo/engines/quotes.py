"""A grammar for llama.cpp under which whatever stands between quotation marks stands in the case.

A small model slips when it copies rare words ("vominalysis" for "urinalysis"). With the grammar it chooses the likeliest
token of those that go on with some passage of the case; outside of quotation marks it writes freely, so an answer
whose quotes were right comes out the same. Constrained decoding after Geng et al., Grammar-constrained decoding for
structured NLP tasks without finetuning, 2023 (arXiv:2305.13971). GBNF: one rule a character, each followed by the next.
"""

from collections.abc import Sequence

from medgrpo.prompts import Message

LONGEST = 6000
"""Characters of all questions together; beyond it quotes are free, since the grammar grows with each character."""
BREAK = '"'
"""Stands between two questions: no quote goes across it."""


def quote_grammar(messages: Sequence[Message]) -> str:
    """GBNF that holds quotes to what the person said; "" where quotes are left free: without instructions to quote, in
    very long conversations, and where the person uses quotation marks, since a model that copies them loses count.

    A quote is a passage from word to word, in the letters of the case; the first letter of each word may be large or
    small, as at the beginning of a sentence. White space is one space.
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    text = BREAK.join(" ".join(each.split()) for each in asked)
    if not messages or messages[0]["role"] != "system" or len(text) > LONGEST or any(BREAK in each for each in asked):
        return ""
    starts = [at for at in range(len(text)) if _begins(text, at)]
    if not starts:
        return ""
    lines = [r'root ::= ( [^"] | "\"" quote "\"" )*', f'quote ::= " "? ({" | ".join(f"c{at}" for at in starts)})']
    return "\n".join([*lines, *(_rule(text, at) for at in range(len(text)) if text[at] != BREAK)]) + "\n"


def _rule(text: str, at: int) -> str:
    """The character, and the next one where the passage goes on; it may end behind a word."""
    last = at + 1 == len(text) or text[at + 1] == BREAK
    more = "" if last else f" c{at + 1}{'?' if _ends(text, at) else ''}"
    letter = text[at]
    both = {letter, letter.lower(), letter.upper()} if _begins(text, at) else {letter}
    letters = "".join(sorted(_escaped(each) for each in both if len(each) == 1))
    return f"c{at} ::= [{letters}]{more}"


def _begins(text: str, at: int) -> bool:
    return text[at] not in (" ", BREAK) and not (at and text[at - 1].isalnum() and text[at].isalnum())


def _ends(text: str, at: int) -> bool:
    return text[at] != " " and not (text[at].isalnum() and text[at + 1].isalnum())


def _escaped(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"\\U{ord(letter):08X}"
