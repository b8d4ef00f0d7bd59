"""The knowledge base: one hand-written YAML file a condition, read into frozen dataclasses.

A file whose structure is wrong raises `DataError` here. The editorial rules of `knowledge/README.md` (enough
phrasings, no label in any text, confusers that exist) are checked by `tests/data/test_knowledge.py`.
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
RESERVED = {"practice": 5, "validation": 6}
"""Which of seven phrasings belongs to one split alone."""
RESERVED_FROM = 14
"""Shorter lists are said by all splits but hard."""

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


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: one object an entry
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

    def phrasings(self, voice: Voice, split: str) -> tuple[str, ...]:
        """What this split may say. Of a long list under `say` one seventh is practice's alone and one seventh
        validation's alone, so that both ask in words that the demonstrations never used; test shares those of train.
        """
        return _pool(self, voice, split)


@cache
def _pool(statement: Statement, voice: Voice, split: str) -> tuple[str, ...]:
    if split == "hard":
        return statement.hard.of(voice)
    said = statement.say.of(voice)
    if len(said) < RESERVED_FROM:
        return said
    pool = RESERVED.get(split)
    return tuple(text for i, text in enumerate(said) if (i % 7 == pool if pool else i % 7 not in RESERVED.values()))


@cache
def without(statement: Statement, voice: Voice, split: str, avoid: re.Pattern[str]) -> tuple[str, ...]:
    """The phrasings of this split that `avoid` does not match."""
    return tuple(text for text in _pool(statement, voice, split) if not avoid.search(text))


@dataclass(frozen=True)
class Confuser:
    """A near neighbour, and what would point there instead."""

    name: str
    tells: str


@dataclass(frozen=True, eq=False)
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
        raise DataError(f"{path} cannot be read: {error}. Restore it: git checkout {path}.") from None


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
