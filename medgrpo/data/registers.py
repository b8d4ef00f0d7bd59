"""Puts what is known of a patient into words, in one of the registers of `registers.yaml`.

Knows nothing of diagnoses. Each statement is wrapped in two private-use characters while the text is built, so that its
verbatim span survives joining, capitals, lower case and typing errors; `Rendered.spans` lists the spans.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from medgrpo.data.knowledge import HERE, Statement, Voice, read_yaml, without

OPEN, CLOSE = 0xE000, 0xF000
SLOTS = ("symptoms", "signs", "results", "history", "negatives", "noise")
SLOT_OF_KIND = {"symptom": "symptoms", "sign": "signs", "vital": "signs", "laboratory": "results", "imaging": "results"}
MESSY = 0.2  # share of patients' own texts with lower case, missing apostrophes or typing errors
SLIPS = 0.15  # the same share of the professionals' texts, in training alone: quoting must not depend on known words

Role = Literal["finding", "detail", "negative", "history", "noise"]


@dataclass(frozen=True)
class Item:
    """A statement and its role in one vignette; `about` is the other condition a detail or negative speaks to."""

    role: Role
    statement: Statement
    about: str = ""

    @property
    def slot(self) -> str:
        if self.role in ("negative", "history", "noise"):
            return {"negative": "negatives"}.get(self.role, self.role)
        return "negatives" if self.statement.id.startswith("absent_") else SLOT_OF_KIND[self.statement.kind]


@dataclass(frozen=True)
class Person:
    """Who the vignette is about; `avoid` matches what findings and history must not mention, such as the other side."""

    age: int
    male: bool
    avoid: re.Pattern[str]


@dataclass(frozen=True)
class Register:
    """Templates of one register: parts by slot, and openers, questions and orders by split."""

    name: str
    voice: Voice
    join: tuple[str, ...]
    orders: Mapping[str, Sequence[Sequence[str]]]
    opener: Mapping[str, Sequence[str]]
    question: Mapping[str, Sequence[str]]
    leads: Mapping[str, Sequence[str]]
    brief: bool = False


@dataclass(frozen=True)
class Rendered:
    """The text, the verbatim span of each item in the order given, and the frame it was built in."""

    text: str
    spans: tuple[str, ...]
    template: str


@cache
def load_registers() -> tuple[Register, ...]:
    raw: dict[str, Any] = read_yaml(HERE / "registers.yaml")
    return tuple(
        Register(
            name,
            r["voice"],
            tuple(r["join"]),
            _by_split(r["orders"]),
            _by_split(r["opener"]),
            _by_split(r["question"]),
            leads={slot: r.get(slot, ["{x}."]) for slot in SLOTS},
            brief=bool(r.get("brief", False)),
        )
        for name, r in raw.items()
    )


def _by_split(frames: Mapping[str, Any]) -> dict[str, Any]:
    """Practice is told in the frames of train."""
    return {**frames, "practice": frames["train"]} if "train" in frames else dict(frames)


def registers_of(split: str, brief: bool = False) -> tuple[Register, ...]:
    """The brief or the full registers whose frames include this split."""
    return tuple(each for each in load_registers() if split in each.opener and each.brief == brief)


def render(register: Register, split: str, who: Person, items: Sequence[Item], rng: random.Random) -> Rendered:
    """The vignette in words. Raises IndexError if a statement has no phrasing in this voice."""
    person = _person(who.age, who.male)
    marked: dict[str, list[str]] = {slot: [] for slot in SLOTS}
    for index, item in enumerate(items):
        if item.role in ("finding", "history"):
            phrasings = without(item.statement, register.voice, split, who.avoid)
        else:
            phrasings = item.statement.phrasings(register.voice, split)
        words = _fill(rng.choice(phrasings), item.statement, rng)
        if register.voice == "patient":
            words = words[0].upper() + words[1:]
        marked[item.slot].append(chr(OPEN + index) + words + chr(CLOSE + index))
    if register.voice == "patient":  # people tell what they saw and felt in one go
        marked["symptoms"] += marked["signs"]
        marked["signs"] = []
        rng.shuffle(marked["symptoms"])
    opener, order = rng.choice(register.opener[split]), rng.choice(register.orders[split])
    question = rng.choice(register.question[split])
    parts = _parts(register, opener, marked, rng)
    text = " ".join(parts.get(slot, question if slot == "question" else "") for slot in order)
    text = re.sub(r"\{(\w+)\}", lambda match: person[match.group(1)], " ".join(text.split()))
    messy = MESSY if register.voice == "patient" else SLIPS if split in ("train", "practice") else 0.0
    if messy and rng.random() < messy:
        text = _mess(text, rng)
    template = "\n".join((register.name, opener, question, ",".join(order)))
    return Rendered(*_extract(text, len(items)), template=template)


def _parts(register: Register, opener: str, marked: dict[str, list[str]], rng: random.Random) -> dict[str, str]:
    """One string a slot; {x} filled in, the person still in braces."""
    join, parts = rng.choice(register.join), {}
    if not marked["symptoms"]:  # then what was found, or else measured, comes first
        slot = "signs" if marked["signs"] else "results"
        marked["symptoms"], marked[slot] = marked[slot], []
    symptoms = _chunks(marked["symptoms"], register.voice, rng)
    if "{x}" in opener:
        opener = opener.replace("{x}", _joined(symptoms.pop(0), register.voice, join))
    parts["opener"] = opener
    for slot in SLOTS:
        chunks = symptoms if slot == "symptoms" else _chunks(marked[slot], register.voice, rng)
        leads = rng.sample(list(register.leads[slot]), len(register.leads[slot]))
        said = []
        for number, chunk in enumerate(chunks):
            words = _joined(chunk, register.voice, join)
            bare = register.voice == "patient" and (number >= len(leads) or rng.random() < 0.65)
            lead = "{x}." if bare else leads[number % len(leads)]
            said.append(lead.replace("{x_low}", _lower_first(words)).replace("{x}", words))
        parts[slot] = " ".join(said)
    return parts


def _chunks(marked: list[str], voice: str, rng: random.Random) -> list[list[str]]:
    """Prose takes at most three things a sentence, a patient one, a note all."""
    size = {"prose": rng.choice((2, 3)), "patient": 1}.get(voice, len(marked) or 1)
    return [marked[start : start + size] for start in range(0, len(marked), size)]


def _joined(words: Sequence[str], voice: str, join: str) -> str:
    if voice != "prose":
        return join.join(words)
    if len(words) < 2:
        return "".join(words)
    comma = any("," in each for each in words)
    return ("; " if comma else ", ").join(words[:-1]) + ("; and " if comma else " and ") + words[-1]


def _lower_first(words: str) -> str:
    """Lower-cases the first letter, behind its mark, unless the word is "I", a name or an abbreviation."""
    first = re.split(r"[\s',-]", words[1:], maxsplit=1)[0]
    if first == "I" or (len(first) > 1 and not first[1:].islower()):
        return words
    return words[0] + words[1].lower() + words[2:]


def _fill(phrasing: str, statement: Statement, rng: random.Random) -> str:
    """Draws the numbers of a phrasing."""
    for name, (low, high, decimals) in statement.values.items():
        if "{" + name + "}" in phrasing:
            phrasing = phrasing.replace("{" + name + "}", f"{rng.uniform(low, high):.{decimals}f}")
    return phrasing


def _person(age: int, male: bool) -> dict[str, str]:
    article = "an" if age in (8, 11, 18) or 80 <= age < 90 else "a"
    if male:
        man, female, he, him, his = "man", "male", "he", "him", "His"
    else:
        man, female, he, him, his = "woman", "female", "she", "her", "Her"
    words = {"age": str(age), "a": article, "man": man, "female": female, "mf": female[0]}
    words |= {"he": he, "him": him, "His": his}
    capitals = {"A": article, "Man": man, "Female": female, "MF": female[0], "He": he}
    return words | {name: word.capitalize() for name, word in capitals.items()}


def _mess(text: str, rng: random.Random) -> str:
    """What thumbs do to a text: lower case, lost apostrophes, one or two slips in longer words."""
    if rng.random() < 0.6:
        text = text.lower()
    if rng.random() < 0.5:
        text = text.replace("'", "")
    places = [match.start() for match in re.finditer(r"[a-z]{6,}", text)]
    for start in rng.sample(places, min(len(places), rng.choice((0, 1, 2)))):
        at = start + rng.randint(1, 3)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def _extract(text: str, count: int) -> tuple[str, tuple[str, ...]]:
    marks = dict.fromkeys((*range(OPEN, OPEN + count), *range(CLOSE, CLOSE + count)))
    spans = (text[text.index(chr(OPEN + i)) + 1 : text.index(chr(CLOSE + i))] for i in range(count))
    return text.translate(marks), tuple(span.translate(marks) for span in spans)
