"""The five rewards of the seed notebook, written anew with their faults, as an ablation.

Known faults, each shown by `audit` and listed in `docs/rewards.md`: two form patterns that cannot both match and
break at line breaks; a tag counter that punishes opening the answer; the last answer block wins and no block at all
means the whole text; and a reference column that holds the whole XML text, which no stripped answer can equal.
`answer_only=True` compares with the bare answer instead, to show what the other faults do on their own.
"""

import re

from medgrpo.cases import Case
from medgrpo.rewards.reading import Reading, Scored

_STRICT = re.compile(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$")
_SOFT = re.compile(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>")
_LINE = 4_000  # the patterns are quadratic on one long line; such a line cannot pay anyway within our lengths


def extracted(text: str) -> str:
    """What stands between the last opening and the next closing answer tag; without tags the whole text."""
    return text.split("<answer>")[-1].split("</answer>")[0].strip()


def reference(case: Case) -> str:
    """The seed's reference column: the whole form, ending in a line break."""
    findings = ", ".join(case.findings) or "The findings point to one answer."
    return f"<reasoning>\n{findings}\n</reasoning>\n<answer>\n{case.answer}\n</answer>\n"


def xmlcount_score(reading: Reading, case: Case) -> Scored:
    """An eighth a tag, less a thousandth for each character after the answer."""
    text, value = reading.text, 0.0
    value += 0.125 * (text.count("<reasoning>\n") == 1)
    value += 0.125 * (text.count("\n</reasoning>\n") == 1)
    if text.count("\n<answer>\n") == 1:
        value += 0.125 - 0.001 * len(text.split("\n</answer>\n")[-1])
    if text.count("\n</answer>") == 1:
        value += 0.125 - 0.001 * (len(text.split("\n</answer>")[-1]) - 1)
    return (
        value,
        "An eighth for each tag, less a thousandth for each character after the answer, or for all if it is not "
        "closed.",
    )


def soft_format_score(reading: Reading, case: Case) -> Scored:
    """0.5 if the blocks stand inside one line each."""
    return 0.5 * bool(_SOFT.match(_bounded(reading.text))), "Half a point if neither block contains a line break."


def strict_format_score(reading: Reading, case: Case) -> Scored:
    """0.5 for one-line sections with line breaks exactly where expected, one at the very end included."""
    return 0.5 * bool(
        _STRICT.match(_bounded(reading.text))
    ), "Half a point if each section is one line and a line break ends the text."


def int_score(reading: Reading, case: Case) -> Scored:
    """0.5 if the answer consists of digits."""
    return 0.5 * extracted(reading.text).isdigit(), "Half a point if the answer consists of digits, whatever was asked."


def correctness_score(reading: Reading, case: Case, answer_only: bool = False) -> Scored:
    """2.0 if the last answer equals the reference column to the letter."""
    gold = case.answer if answer_only else reference(case)
    equal = extracted(reading.text) == gold
    return (
        2.0 * equal,
        "Two points if the last answer equals the reference column, here the whole XML text, to the letter.",
    )


def _bounded(text: str) -> str:
    """The text, or nothing if a line is too long for patterns that backtrack."""
    return text if len(text) <= _LINE or max(map(len, text.split("\n"))) <= _LINE else ""
