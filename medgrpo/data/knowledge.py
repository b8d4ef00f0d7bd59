"""The knowledge base: one hand-written YAML file a condition, read into frozen dataclasses.

Two things are checked apart. A file whose structure is wrong raises `DataError` here. The editorial rules of
`knowledge/README.md` (enough phrasings, no label in any text, confusers that exist) are returned as sentences by
`violations`, so that one slip in one file does not stop everything and the tests can name every slip at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from medgrpo.errors import DataError

HERE = Path(__file__).parent
FOLDER = HERE / "knowledge"
VOICES = ("note", "prose", "patient")
KINDS = ("symptom", "sign", "vital", "laboratory", "imaging")

Voice = Literal["note", "prose", "patient"]


@dataclass(frozen=True)
class Phrasings:
    """The ways to say one thing, by voice; empty where that voice would not say it."""

    note: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    patient: tuple[str, ...] = ()

    def of(self, voice: Voice) -> tuple[str, ...]:
        return cast(tuple[str, ...], getattr(self, voice))

    def all(self) -> tuple[str, ...]:
        return self.note + self.prose + self.patient


@dataclass(frozen=True)
class Statement:
    """One thing that can be said of a patient. `hard` phrasings occur in the hard split only.

    `values` maps a placeholder to (low, high, decimals), in the unit that stands in the phrasing.
    """

    id: str
    source: str
    say: Phrasings
    hard: Phrasings
    values: Mapping[str, tuple[float, float, int]]
    because: str = ""
    kind: str = "symptom"
    weight: str = "support"
    atypical: bool = False
    frequency: float = 1.0
    against: str = ""

    def phrasings(self, voice: Voice, hard: bool) -> tuple[str, ...]:
        return (self.hard if hard else self.say).of(voice)


@dataclass(frozen=True)
class Confuser:
    """A near neighbour, and what would point there instead."""

    name: str
    tells: str


@dataclass(frozen=True)
class Condition:
    """One of the conditions; ages in years, `male` is the share of men."""

    slug: str
    name: str
    aliases: tuple[str, ...]
    specialty: str
    emergency: bool
    age: tuple[int, int]
    male: float
    sources: Mapping[str, str]
    approach: str
    approach_source: str
    findings: tuple[Statement, ...]
    negatives: tuple[Statement, ...]
    risk_factors: tuple[Statement, ...]
    confusers: tuple[Confuser, ...]

    def statements(self) -> Iterator[Statement]:
        yield from self.findings
        yield from self.negatives
        yield from self.risk_factors


def read_yaml(path: Path) -> Any:
    """The parsed file. Raises DataError if it is missing or not YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}. Restore it from the repository (git checkout {path}).") from None


@cache
def load_conditions(folder: Path = FOLDER) -> tuple[Condition, ...]:
    """All conditions, by slug. Raises DataError if there are none or one has the wrong structure."""
    conditions = tuple(read_condition(path) for path in sorted(folder.glob("*.yaml")))
    if not conditions:
        raise DataError(f"no knowledge files (*.yaml) in {folder}. Restore them: git checkout {folder}.")
    return conditions


def read_condition(path: Path) -> Condition:
    """One condition from its file. Raises DataError naming the file and the field that is wrong."""
    raw = read_yaml(path)
    try:
        approach, low_high = raw["approach"], raw["age"]
        return Condition(
            slug=path.stem,
            name=str(raw["name"]),
            aliases=tuple(str(alias) for alias in raw["aliases"]),
            specialty=str(raw["specialty"]),
            emergency=bool(raw["emergency"]),
            age=(int(low_high[0]), int(low_high[1])),
            male=float(raw["male"]),
            sources={str(key): str(value) for key, value in raw["sources"].items()},
            approach=str(approach["text"]).rstrip("."),
            approach_source=str(approach["source"]),
            findings=tuple(_statement(entry) for entry in raw["findings"]),
            negatives=tuple(_statement(entry) for entry in raw["negatives"]),
            risk_factors=tuple(_statement(entry) for entry in raw["risk_factors"]),
            confusers=tuple(Confuser(str(c["name"]), str(c["tells"]).rstrip(".")) for c in raw["confusers"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path}: {type(error).__name__} {error}. Compare it with the schema in {FOLDER / 'README.md'}."
        ) from None


def _statement(raw: Mapping[str, Any]) -> Statement:
    try:
        return Statement(
            id=str(raw["id"]),
            source=str(raw["source"]),
            say=_phrasings(raw["say"]),
            hard=_phrasings(raw["hard"]),
            values={k: (float(v[0]), float(v[1]), int(v[2])) for k, v in (raw.get("values") or {}).items()},
            because=str(raw.get("because", "")).rstrip("."),
            kind=str(raw.get("kind", "symptom")),
            weight=str(raw.get("weight", "support")),
            atypical=bool(raw.get("atypical", False)),
            frequency=float(raw.get("frequency", 1.0)),
            against=str(raw.get("against", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"in entry {raw.get('id', raw)!r:.80}: {type(error).__name__} {error}") from None


def _phrasings(raw: Mapping[str, Sequence[str]]) -> Phrasings:
    def clean(voice: str) -> tuple[str, ...]:
        entries = raw.get(voice) or []
        if not all(isinstance(entry, str) for entry in entries):
            raise TypeError(f"a phrasing under {voice!r} is not text: {entries!r:.120}")
        return tuple(" ".join(entry.split()).rstrip(".") for entry in entries)

    return Phrasings(*(clean(voice) for voice in VOICES))


def violations(conditions: Sequence[Condition]) -> list[str]:
    """Editorial slips, one sentence each; empty when the knowledge base keeps the rules of its README."""
    names = {condition.name for condition in conditions}
    labels = label_pattern(conditions)
    found: list[str] = []
    for condition in conditions:
        found += [f"{condition.slug}: {slip}" for slip in _condition_slips(condition, names)]
        for statement in condition.statements():
            found += [f"{condition.slug}/{statement.id}: {slip}" for slip in _statement_slips(statement, condition, labels)]
    return found


def label_pattern(conditions: Sequence[Condition]) -> re.Pattern[str]:
    """Matches any name or alias of any condition as whole words; short capital abbreviations only in capitals."""
    labels = sorted({label for c in conditions for label in (c.name, *c.aliases)}, key=lambda s: (-len(s), s))
    parts = [re.escape(label) if _is_abbreviation(label) else f"(?i:{re.escape(label)})" for label in labels]
    return re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")(?!\w)")


def _is_abbreviation(label: str) -> bool:
    return len(label) <= 5 and label.isupper()


def _condition_slips(condition: Condition, names: set[str]) -> Iterator[str]:
    keys = [f for f in condition.findings if f.weight == "key"]
    counts = {
        "findings (10 to 14)": 10 <= len(condition.findings) <= 14,
        "key findings (4 or more)": len(keys) >= 4,
        "key findings in the patient's words (3 or more)": sum(bool(f.say.patient) for f in keys) >= 3,
        "atypical findings (2 or more)": sum(f.atypical for f in condition.findings) >= 2,
        "negatives (4 or more)": len(condition.negatives) >= 4,
        "risk factors (3 or more)": len(condition.risk_factors) >= 3,
        "confusers (3 or more)": len(condition.confusers) >= 3,
    }
    yield from (f"number of {what} is off" for what, kept in counts.items() if not kept)
    others = [c.name for c in condition.confusers] + [n.against for n in condition.negatives]
    yield from (f"{other!r} is not another condition" for other in others if other not in names - {condition.name})
    ids = [statement.id for statement in condition.statements()]
    yield from (f"id {each!r} occurs twice" for each in sorted({i for i in ids if ids.count(i) > 1}))
    if len(condition.approach.split()) > 20 or condition.approach_source not in condition.sources:
        yield "approach is longer than 20 words or names an unknown source"


def _statement_slips(statement: Statement, condition: Condition, labels: re.Pattern[str]) -> Iterator[str]:
    if statement.source not in condition.sources:
        yield f"source {statement.source!r} is not under sources"
    if statement.kind not in KINDS or statement.weight not in ("key", "support"):
        yield f"kind {statement.kind!r} or weight {statement.weight!r} is unknown"
    is_finding = any(statement is finding for finding in condition.findings)
    for name, where, least in (("say", statement.say, 4 if is_finding else 3), ("hard", statement.hard, 2)):
        for voice in ("note", "prose"):
            if len(where.of(voice)) < least:
                yield f"{name}.{voice} has {len(where.of(voice))} phrasings, needs {least}"
        if 0 < len(where.patient) < least:
            yield f"{name}.patient has {len(where.patient)} phrasings, needs none or {least}"
    if bool(statement.say.patient) != bool(statement.hard.patient):
        yield "patient phrasings under say or hard only"
    for text in statement.say.all() + statement.hard.all():
        if match := labels.search(text):
            yield f"{text!r} names {match.group()!r}"
        if '"' in text or len(text) > 160:
            yield f"{text!r} has a double quote or more than 160 characters"
        if set(re.findall(r"\{(\w+)\}", text)) - set(statement.values):
            yield f"{text!r} has a placeholder without values"
    repeated = set(statement.say.all()) & set(statement.hard.all())
    yield from (f"{text!r} stands under say and hard" for text in sorted(repeated))
    if len(statement.because.split()) > 16:
        yield f"because is {len(statement.because.split())} words"
