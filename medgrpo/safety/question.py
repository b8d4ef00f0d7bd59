"""A typed case, made fit for a model and a page without changing what it says."""

import re
import unicodedata

from medgrpo.errors import CaseError
from medgrpo.parsing import is_blank

LONGEST = 20_000
"""Characters of a case."""

# zero-width and direction-override characters, tag characters, and controls other than line break and tab
_UNSEEN = re.compile(
    "[\u200b\u2060-\u2064\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]|(?![\n\t])[\x00-\x1f\x7f-\x9f]"
)
_LINE_BREAK = re.compile("\r\n|[\r\u2028\u2029\x85]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean_question(text: str) -> str:
    """A case as composed Unicode (NFC), without control, invisible and direction-override characters.

    Tags such as `</reasoning>` stay as typed; `medgrpo.prompts` makes them harmless.

    Raises:
        CaseError: the case is empty or longer than `LONGEST` characters.
    """
    _check_length(text)
    text = _SURROGATE.sub("\ufffd", _UNSEEN.sub("", _LINE_BREAK.sub("\n", text)))
    text = unicodedata.normalize("NFC", text).strip()
    if is_blank(text):
        raise CaseError("The case is empty. Describe the patient in a few sentences, or choose one of the examples.")
    _check_length(text)  # composing may lengthen a text
    return text


def _check_length(text: str) -> None:
    if len(text) > LONGEST:
        raise CaseError(
            f"The case has {len(text):,} characters; the limit is {LONGEST:,}. "
            "Shorten it to what matters for the diagnosis."
        )
