"""Keeps text that people type from steering the model.

Chat templates are filled in before the text becomes tokens, and llama.cpp and vLLM then read `<|im_start|>system` in a
case as the control token, not as text: a case could close its own turn and write the system message. Every engine
passes what it sends through `without_control_tokens`. The text stays readable: a token gets a space after its first
character.
"""

import re
from collections.abc import Iterable, Sequence

from medgrpo.prompts import Message

COMMON = ("<|", "<｜", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>")
"""Control tokens, or their first characters, of the usual model families; for servers whose vocabulary isn't known."""


def without_control_tokens(messages: Sequence[Message], tokens: Iterable[str] = ()) -> list[Message]:
    """The messages with the control tokens in all but the system message (which is ours) broken up.

    Args:
        messages: chat messages.
        tokens: the control tokens of this model's vocabulary, beside the common ones.
    """
    longest_first = sorted({*COMMON, *(token for token in tokens if len(token) > 1)}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return [m if m["role"] == "system" else {**m, "content": _split(pattern, m["content"])} for m in messages]


def _split(pattern: re.Pattern[str], text: str) -> str:
    while pattern.search(text):  # overlapping tokens need a second pass; every pass only ever breaks tokens up
        text = pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
    return text
