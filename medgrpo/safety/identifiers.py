"""What in a case looks like it identifies a patient. A warning, not a filter: it misses much and is sometimes wrong."""

import re

_READ = 20_000  # characters

_PHONE = (
    r"(?<![\d./-])(?:\+\d{1,3}[ -]?\(?\d|\(\d{2,5}\) ?\d|0\d{2,4}[ -]?\d|\d{3}[-.]\d{3}[-.]\d)"
    r"(?:[ -]?\d){3,11}(?![\d/])"
)
_CALLED = r"(?i:\b(?:tel|telephone|phone|mobile|cell|call)\b[^\n\d]{0,12})\d(?:[ -]?\d){6,12}"
_BORN = (
    r"(?i)\b(?:DOB|D\.O\.B\.?|date\s+of\s+birth|born(?:\s+on)?)\b[^\n\d]{0,12}"
    r"\d{1,4}(?:[-./]|(?:st|nd|rd|th)?\s+)(?:\d{1,2}|[a-z]{3,9})[-./,\s]+\d{1,4}"
)
_RECORD = (
    r"(?i)\b(?:(?:MRN|URN|NHS|CHI)\b(?:\s*(?:no|number|id))?|(?:hospital|patient|record|insurance"
    r"|medicare)\s*(?:no|number|num|id)\b)"
    r"\.?\s*[:#]?\s*[A-Z]{0,3}\d(?:[ -]?\d){4,13}"
)
_NAME = (
    r"\b(?:Mr|Mrs|Ms|Miss)\.?\s+(?:[A-Z]\.\s*)?[A-Z][a-zà-ÿ]+"
    r"|\b(?:[Pp]atient(?:'s)?\s+)?[Nn]ame(?:\s+is|:)\s*[A-Z][a-zà-ÿ]+"
)
_PATTERNS = (
    ("an e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")),
    ("a telephone number", re.compile(f"{_PHONE}|{_CALLED}")),
    ("a date of birth", re.compile(_BORN)),
    ("a record number", re.compile(_RECORD)),
    ("a social security number", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")),
    ("a person's name", re.compile(_NAME)),
)
_NHS = re.compile(r"(?<!\d)\d{3}([ -]?)\d{3}\1\d{4}(?!\d)")


def identifiers(text: str) -> list[str]:
    """Kinds of identifier found, in words ("a date of birth"); the values themselves are not repeated."""
    text = text[:_READ]
    found = [name for name, pattern in _PATTERNS if pattern.search(text)]
    if any(_is_nhs_number(re.sub(r"[ -]", "", match[0])) for match in _NHS.finditer(text)):
        found.append("an NHS number")
    return found


def _is_nhs_number(digits: str) -> bool:
    """The check digit of the NHS Data Dictionary, modulus 11."""
    check = 11 - sum(int(digit) * (10 - i) for i, digit in enumerate(digits[:9])) % 11
    return check != 10 and check % 11 == int(digits[9])
