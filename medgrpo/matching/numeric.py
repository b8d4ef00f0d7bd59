"""Does a free text state the reference value, once, in its unit?

A value without any unit counts, because the question names the unit; a value with another unit does not, unless the two
differ by a fixed factor listed here. Every number the text claims must be right: "12 or 14" is wrong. In a calculation
("140 - 126 = 14") only what stands after the equals sign is claimed.
"""

import re
import unicodedata
from functools import lru_cache
from math import isfinite

from medgrpo.matching.text import before_next_step
from medgrpo.matching.verdict import Match

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_PLAIN_SIGNS = str.maketrans({"µ": "u", "μ": "u", "−": "-", "–": "-", "—": "-", "⁄": "/"})
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR = re.compile(r"(\d*)([¼-¾⅐-⅞])")
_NUMBER = re.compile(
    r"(?<![\w.,^])[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+,\d{1,2}(?![\d,])|\d+\.?\d*|\.\d+)"
    r"(?:\s?(?:x|\*|×)\s?10\s?\^\s?[-+]?\d{1,3}|e[-+]?\d{1,4}(?![\d\w]))?(?:/(\d+)(?![\d.,]))?",
    re.IGNORECASE,
)
_SCALES = frozenset({"3", "5", "6", "9", "10", "12.5", "15", "20", "24", "30", "42", "100"})
_UNIT = re.compile(r"\s*(%|°\s?[a-z]|[a-zµμ]+(?:[a-z0-9^./*·-]*[a-z0-9])?)")
_IGNORED = re.compile(r"[(\[]\s*(?:normal|reference|ref\b|range|target|usual|upper limit|lower limit)[^)\]]*[)\]]")
_CLAUSE = re.compile(r"[;\n]|\.(?=\s|$)|,(?=\s)")
_HEDGE = re.compile(
    r"\b(?:or|vs|versus|either|between|not|isn't|unlikely)\b|[<>≤≥±]"
    r"|\b(?:at least|at most|more than|less than|greater than|above|below|over|under)\s+[-+]?\d"
)
_OPERATOR = re.compile(r"\d\s*[-+*/×÷x−–(]|[)]\s*[-+*/×÷]")
_SAME = {
    "meq/l": "mmol/l", "mval/l": "mmol/l", "mmhg": "mmhg", "torr": "mmhg", "percent": "%", "per cent": "%", "pct": "%",
    "kg/m^2": "kg/m2", "years": "year", "yrs": "year", "yr": "year", "packyears": "packyear", "packyear": "packyear",
    "points": "point", "pts": "point", "minutes": "min", "mins": "min", "hours": "h", "hrs": "h", "hr": "h",
    "hour": "h", "days": "day", "weeks": "week", "litres": "l", "liters": "l", "litre": "l", "liter": "l",
    "bpm": "/min", "beats/min": "/min",
}  # fmt: skip
_FACTORS = {
    ("g/dl", "g/l"): 10.0, ("mg/dl", "mg/l"): 10.0, ("l", "ml"): 1000.0, ("dl", "ml"): 100.0,
    ("l/min", "ml/min"): 1000.0,
    ("kpa", "mmhg"): 7.50062, ("h", "min"): 60.0, ("m", "cm"): 100.0, ("kg", "g"): 1000.0, ("g", "mg"): 1000.0,
    ("mmol/l", "umol/l"): 1000.0,
}  # fmt: skip
_UNITS = """
% mmol/l umol/l nmol/l mol/l g/l g/dl mg/l mg/dl ug/l ng/ml pg/ml iu/l u/l mmhg kpa cmh2o ml l dl ml/min l/min kg
g mg ug ng mcg kg/m2 m cm mm m2 year month week day h min s sec bpm /min packyear point mosm/kg mosmol/kg mosm/l
fl pg mv °c °f c f cc mol mmol meq
"""
_KNOWN = frozenset(_UNITS.split())


def match_numeric(text: str, answer: str, unit: str, tolerance: float) -> Match:
    """Judges a raw text; None only if the case's own answer is not a finite number."""
    reference = _reference(answer)
    if reference is None:
        return Match(None, f"The case cannot be judged: its answer {answer!r} is not a number.")
    shown = f"{answer} {unit}".strip()
    statement = _IGNORED.sub(" ", _plain(before_next_step(text)[0]))
    claims = _claims(statement, reference.is_integer() and not unit)
    if not claims:
        return Match(False, "The answer states no number.")
    if _HEDGE.search(statement):
        return Match(False, "The answer hedges or gives a range or a bound; one value is asked for.", several=True)
    wanted = canonical_unit(unit)
    values = [_converted(value, written, wanted) for value, written in claims]
    if None in values:
        written = next(written for (_, written), value in zip(claims, values, strict=True) if value is None)
        return Match(False, f"The unit {written} is not the reference's ({unit or 'none'}).")
    slack = abs(tolerance) if isfinite(tolerance) else 0.0
    slack += 1e-9 * max(1.0, abs(reference))
    right = [value is not None and abs(value - reference) <= slack for value in values]
    if all(right):
        return Match(True, f"The value is {shown}, within the tolerance of {tolerance:g}.")
    if any(right):
        return Match(False, "The answer states several different numbers; one is asked for.", several=True)
    return Match(False, f"The value {claims[-1][0]:g} is not the reference, {shown}, within {tolerance:g}.")


def states_unit(text: str, unit: str) -> bool:
    """Whether a number of the statement is followed by the unit, or by one that converts to it."""
    wanted = canonical_unit(unit)
    claims = _claims(_IGNORED.sub(" ", _plain(before_next_step(text)[0])), False)
    return any(written and _converted(1.0, written, wanted) is not None for _, written in claims)


@lru_cache(maxsize=256)
def canonical_unit(unit: str) -> str:
    """A unit in one spelling: lower case, no spaces, "mEq/L" as "mmol/L", "kg/m²" as "kg/m2"."""
    plain = re.sub(r"[\s\u00b7*-]+", "", _plain(unit)).replace("mcg", "ug").replace("^", "").rstrip(".")
    return _SAME.get(plain, plain)


@lru_cache(maxsize=1024)
def _reference(answer: str) -> float | None:
    claims = _claims(_plain(answer), False)
    return claims[0][0] if claims else None


def _plain(text: str) -> str:
    """Lower case, ASCII digits and signs, powers as ^n, fractions as decimals."""
    if not text.isascii():
        text = _VULGAR.sub(lambda m: f"{float(m[1] or 0) + unicodedata.numeric(m[2]):.6g}", text)
        text = _SUPERSCRIPT.sub(lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN_SIGNS)
        text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)
    return text.replace("**", "").lower()


def _claims(text: str, scores: bool) -> list[tuple[float, str]]:
    """The finite numbers a text claims, each with the unit written behind it or "".

    `scores`: read "14/15" as a score of 14 and not as a fraction, if the scale is a usual one.
    """
    found: list[tuple[float, str]] = []
    for clause in _CLAUSE.split(text):
        sides = re.split(r"[=≈]", clause)
        for i, side in enumerate(sides):
            worked = i < len(sides) - 1 and _OPERATOR.search(side)
            if not worked:
                found.extend(_numbers(side, scores))
    return found


def _numbers(text: str, scores: bool) -> list[tuple[float, str]]:
    found = []
    for match in _NUMBER.finditer(text):
        value = _value(match, scores)
        if value is not None and isfinite(value):
            found.append((value, _written_unit(text, match.end())))
    return found


def _value(match: re.Match[str], scores: bool) -> float | None:
    number = match[0].split("/")[0].replace(" ", "")
    number = re.sub(r"(?:x|\*|×)10\^", "e", number)
    number = re.sub(r",(?=\d{3})", "", number).replace(",", ".")
    value = float(number)
    if not match[1]:
        return value
    below = float(match[1])
    if scores and value <= below and match[1] in _SCALES:
        return value
    return value / below if below else None


def _written_unit(text: str, at: int) -> str:
    """The unit after a number, or "" if what follows is an ordinary word."""
    found = _UNIT.match(text, at)
    if not found:
        return ""
    start = text[at : at + 40].lstrip(" -")
    for spelled in ("pack-year", "pack year", "mm hg", "cm h2o", "kg/m^2", "ml/min/1.73"):
        if start.startswith(spelled):
            return canonical_unit(spelled if not spelled.startswith("pack") else "packyear")
    unit = canonical_unit(found[1].replace(" ", ""))
    return unit if unit in _KNOWN or "/" in unit else ""


def _converted(value: float, written: str, wanted: str) -> float | None:
    """The value in the wanted unit; None if the written unit is another one that does not convert."""
    if (
        not written
        or written == wanted
        or (wanted and written.startswith(wanted))
        or (not wanted and written == "point")
    ):
        return value
    factor = _FACTORS.get((written, wanted))
    if factor:
        return value * factor
    factor = _FACTORS.get((wanted, written))
    return value / factor if factor else None
