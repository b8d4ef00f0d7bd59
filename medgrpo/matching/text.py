"""Answers as comparable words: Unicode, spelling, plurals and punctuation out of the way, sentences apart.

Both sides of every comparison go through here, so a rule need not be linguistically right, only the same for both.
"""

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"(?<=\w)['’`´]s\b", re.IGNORECASE)
_MARKUP = re.compile(r"\*\*|__|[*`#]+|~~")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\s*(?:;|\n)\s*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:vs|v|e\.g|i\.e|dr|st|no|approx|esp|incl|cf|resp|dx|ca|fig)\.|:)\W*$", re.IGNORECASE
)
_ENUMERATOR = re.compile(r"\W*(?:\d{1,2}|[ivx]{1,4})[.)]\W*", re.IGNORECASE)
_LIST_MARK = re.compile(r"^\s*(?:(?:[-•●▪+>]|\(?\d{1,2}[.)](?!\d))\s*)+")
_NEXT = re.compile(
    r"(?:^|(?<=[\s.;,(*_#]))(?:the\s+)?(?:(?:best|most\s+appropriate|appropriate|recommended|suggested|immediate"
    r"|initial)\s+)?"
    r"(?:next(?:\s+\w+){0,2}?\s+steps?|next|management|treatment|plan|work-?up)\s*(?:[:,]|\s-\s|\b(?:is|are|would"
    r"|should)\b)"
    r"|(?:^|(?<=[.;]\s)|(?<=\n))next\b",
    re.IGNORECASE,
)
_SPELLINGS = (("ae", "e"), ("oe", "e"), ("sulph", "sulf"), ("isation", "ization"))
_SAME = {
    "venous": "vein", "emboli": "embolism", "embolus": "embolism", "infarct": "infarction", "bleed": "hemorrhage",
    "bleeding": "hemorrhage", "calculi": "calculus", "stone": "calculus",
}  # fmt: skip
_PLURAL_EXCEPTIONS = ("ss", "us", "is", "os", "as")


def visible(text: str) -> str:
    """The text without accents, format characters and control characters, with plain quotes and dashes."""
    if text.isascii() and text.isprintable():
        return text
    plain = []
    for char in unicodedata.normalize("NFKD", text):
        category = unicodedata.category(char)
        if category == "Pd" or char == "−":
            plain.append("-")
        elif char in "‘’ʼ":
            plain.append("'")
        elif char == "\n" or category not in ("Mn", "Cf", "Cc", "Cs"):
            plain.append(char)
        elif category == "Cc":
            plain.append(" ")
    return "".join(plain)


def words(text: str) -> tuple[str, ...]:
    """The normalised words of a text that went through `visible`."""
    return tuple(map(word, _WORD.findall(_POSSESSIVE.sub("", text))))


@lru_cache(maxsize=8192)
def word(token: str) -> str:
    """One word in lower case, American spelling and the singular."""
    token = token.casefold()
    for british, american in _SPELLINGS:
        token = token.replace(british, american)
    if token.endswith("our") and len(token) > 4:
        token = token[:-3] + "or"
    if len(token) > 3 and token.endswith("s") and not token.endswith(_PLURAL_EXCEPTIONS):
        token = token[:-1]
    return _SAME.get(token, token)


def bare(text: str) -> tuple[str, ...]:
    """The words of a text without articles, for comparing whole texts."""
    return tuple(item for item in words(visible(text)) if item not in ("a", "an", "the"))


def before_next_step(text: str) -> tuple[str, str]:
    """The statement, and what follows it under "Next:" or another heading of that kind."""
    found = _NEXT.search(text)
    return (text[: found.start()], text[found.end() :]) if found else (text, "")


def sentences(text: str) -> list[str]:
    """The sentences, lines and list items of a text, without Markdown and list marks; "2.5" and "vs." don't end one."""
    text = _MARKUP.sub("", text)
    parts: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        piece = text[start : end.end()]
        if _ABBREVIATION.search(piece[-16:]) or (len(piece) < 12 and _ENUMERATOR.fullmatch(piece)):
            continue
        parts.append(text[start : end.start()])
        start = end.end()
    parts.append(text[start:])
    cleaned = (_LIST_MARK.sub("", part).strip() for part in parts)
    return [part for part in cleaned if _WORD.search(part)]
