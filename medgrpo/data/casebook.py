"""The casebook: vignettes drawn from the knowledge base, the same to the byte on every machine.

Splits are decided before anything is drawn: the set of findings of a vignette belongs to exactly one split (by hash,
`split_of`), frames belong to splits in `registers.yaml`, and the hard split alone uses `hard` phrasings, its own
registers and its own distractors. A vignette holds three to eight findings drawn by frequency, pertinent negatives,
history, neutral noise and sometimes one detail that points elsewhere; no text names any condition.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from medgrpo.cases import Case
from medgrpo.data.knowledge import HERE, Condition, Phrasings, Statement, load_conditions, read_yaml, without
from medgrpo.data.registers import Item, Person, Register, registers_of, render
from medgrpo.errors import DataError

SEED = "casebook-1"  # changing it changes every vignette
SIZES = {"train": 600, "practice": 320, "validation": 20, "test": 20, "hard": 20}  # vignettes a condition
SHARES = (
    ("train", 0.40),
    ("practice", 0.55),
    ("validation", 0.70),
    ("test", 0.85),
    ("hard", 1.0),
)  # bounds of the hash
DETAIL = 0.3  # share with a detail that points elsewhere; in the hard split HARD_DETAIL
HARD_DETAIL = 0.5
BRIEF = 0.2  # share of one-liners: two or three findings and nothing else
ADULT = 18

# words that tie a statement to a sex, and to the years in which a woman can be pregnant
_CHILDBEARING = (
    r"pregnan|contracepti|the pill\b|\bperiods?\b|menstru|childbirth|gave birth|post-?partum|\biud\b|\bivf\b|\bcoil\b|"
    r"breastfe|hcg|\blmp\b|tampon|fibroid"
)
FERTILE = re.compile(_CHILDBEARING, re.I)
FEMALE = re.compile(
    _CHILDBEARING + r"|menorrh|vagina|ovar|miscarr|gyna?ecol|uter(us|ine)|tubal|fallopian|gravid|\bhrt\b|o?estrogen",
    re.I,
)
MALE = re.compile(r"prostat|testic|\bscrot|\bbph\b|erectile", re.I)
COMMON = frozenset(  # words too common to mean that two statements speak of the same thing
    """about after again also been both came come comes could down even ever every feel feels felt from gets have having
    into just keeps last left like more most much never only other over quite really right said same side since some
    still than that them then there they this through time told very week weeks went were what when which while with
    without would days hours found show shows""".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Vignette:
    """A case with what it was made of; `spans[i]` is how `items[i]` stands in the question."""

    case: Case
    condition: Condition
    items: tuple[Item, ...]
    spans: tuple[str, ...]
    template: str


def split_of(slug: str, ids: Iterable[str]) -> str:
    """The one split in which this set of finding ids of this condition may occur."""
    digest = hashlib.sha256(f"{SEED}:{slug}:{','.join(sorted(ids))}".encode()).digest()
    place = int.from_bytes(digest[:4], "big") / 2**32
    return next(split for split, bound in SHARES if place < bound)


@cache
def vignettes(split: str, times: int = 1) -> tuple[Vignette, ...]:
    """All vignettes of a split, conditions taking turns, and as many again for `times` above 1, the same ones first.

    Raises DataError for an unknown split.
    """
    if split not in SIZES:
        raise DataError(f"the casebook has no split {split!r}. Use one of: {', '.join(SIZES)}.")
    conditions, made = load_conditions(), dict[str, Vignette]()
    seen: dict[str, set[frozenset[str]]] = {condition.slug: set() for condition in conditions}
    for number in range(times * SIZES[split] * len(conditions)):
        condition, attempt = conditions[number % len(conditions)], 0
        while (vignette := _vignette(condition, split, number, attempt, seen[condition.slug])).case.question in made:
            attempt += 1
        made[vignette.case.question] = vignette
        seen[condition.slug].add(frozenset(item.statement.id for item in vignette.items if item.role == "finding"))
    return tuple(made.values())


def _vignette(condition: Condition, split: str, number: int, attempt: int, seen: Set[frozenset[str]]) -> Vignette:
    rng = random.Random(f"{SEED}/{split}/{number}/{attempt}")
    register = rng.choice(registers_of(split, brief=rng.random() < BRIEF))
    patient = _Patient(condition, split, register, rng)
    findings = patient.findings(seen)
    negatives = [] if register.brief else patient.negatives(findings)
    history = [] if register.brief else patient.history(findings + negatives)
    items = [Item("finding", each) for each in findings]
    items += [Item("negative", each, each.against) for each in negatives]
    items += [Item("history", each) for each in history]
    if not register.brief:
        share = HARD_DETAIL if split == "hard" else DETAIL
        if rng.random() < share and (detail := patient.detail(findings, findings + negatives + history)):
            items.append(detail)
        items += [Item("noise", each) for each in patient.noise()]
    rng.shuffle(items)
    rendered = render(register, split, Person(patient.age, patient.male, patient.avoid), items, rng)
    told = [(item, span) for item, span in zip(items, rendered.spans, strict=True) if item.role == "finding"]
    told.sort(key=lambda pair: pair[0].statement.weight != "key")
    case = Case(
        id=f"casebook/{split}/{register.name}/{number:06d}",
        question=rendered.text,
        answer=condition.name,
        kind="diagnosis",
        aliases=condition.aliases,
        findings=tuple(span for _, span in told),
        meanings=tuple(item.statement.because for item, _ in told),
        approach=condition.approach,
        source="casebook",
        split=split,
    )
    return Vignette(case, condition, tuple(items), rendered.spans, rendered.template)


class _Patient:
    """Draws what one patient has; every method uses the same generator in a fixed order."""

    def __init__(self, condition: Condition, split: str, register: Register, rng: random.Random) -> None:
        self.condition, self.split, self.voice, self.rng = condition, split, register.voice, rng
        self.brief = register.brief
        self.hard = split == "hard"
        self.male = rng.random() < condition.male
        self.age = rng.randint(max(condition.age[0], ADULT), max(condition.age[1], ADULT))
        self.avoid = re.compile(rng.choice(_rules()["variants"].get(condition.slug, ("(?!)",))))
        self.conflicts = _conflicts(condition.slug)
        self.possible = frozenset(each for each in condition.statements() if self.sayable(each))

    def usable(self, statements: Sequence[Statement], taken: Sequence[Statement]) -> list[Statement]:
        """Those this register can say of this patient and that contradict nothing in `taken`."""
        ids = {each.id for each in taken}
        clash = ids.union(*(self.conflicts.get(each, ()) for each in ids))
        return [each for each in statements if each.id not in clash and each in self.possible]

    def sayable(self, statement: Statement) -> bool:
        low, high = _rules()["ages"].get(f"{self.condition.slug}/{statement.id}", (0, 120))
        if not (low <= self.age <= high and _fits(statement, self.age, self.male)):
            return False
        return bool(self.said(statement) if statement.against else self.unavoided(statement))

    def unavoided(self, statement: Statement) -> tuple[str, ...]:
        return without(statement, self.voice, self.split, self.avoid)

    def said(self, statement: Statement) -> tuple[str, ...]:
        return statement.phrasings(self.voice, self.split)

    def findings(self, seen: Set[frozenset[str]]) -> list[Statement]:
        """Three to eight findings whose set belongs to this split, a new one while there are new ones to be had; two or
        three in a brief register (more where this split has no such set).

        Raises DataError if no set belongs to this split.
        """
        for attempt in range(2000):
            drawn = self._draw_few(self.rng.choice((2, 2, 3)) + attempt // 500) if self.brief else self._draw()
            ids = frozenset(each.id for each in drawn)
            if len(ids) < (2 if self.brief else 3) or (ids in seen and attempt < 20):
                continue
            if split_of(self.condition.slug, ids) == self.split:
                return drawn
        raise DataError(f"{self.condition.slug}.yaml has too few findings for split {self.split!r}. Add findings.")

    def _draw(self) -> list[Statement]:
        rng, drawn = self.rng, list[Statement]()
        pool = list(self.condition.findings)
        rng.shuffle(pool)

        def add(statements: list[Statement]) -> None:
            for each in statements:
                if each in self.usable([each], drawn) and not (each.atypical and any(d.atypical for d in drawn)):
                    drawn.append(each)

        add([each for each in pool if each.frequency > rng.random()])
        keys = [each for each in pool if each.weight == "key" and not each.atypical]
        least, most = rng.choice((3, 4, 4, 5)), rng.choice((6, 7) if self.voice == "patient" else (6, 7, 8))
        wanted = 2 if rng.random() < (0.8 if self.hard else 0.9) else 1
        for each in keys:
            if sum(d.weight == "key" for d in drawn) < wanted:
                add([each])
        for each in pool:
            if len(drawn) < least:
                add([each])
        if not any(each.kind == "symptom" for each in drawn):
            add([each for each in pool if each.kind == "symptom" and each in self.possible][:1])
        while len(drawn) > most:
            spare = [d for d in drawn if d.weight != "key" or sum(k.weight == "key" for k in drawn) > 3]
            drawn.remove(rng.choice(spare or drawn))
        return drawn if any(each.weight == "key" for each in drawn) else []

    def _draw_few(self, wanted: int) -> list[Statement]:
        """Typical findings, the first two key ones; one key finding alone needs two others beside it."""
        drawn: list[Statement] = []
        pool = [each for each in self.condition.findings if not each.atypical]
        self.rng.shuffle(pool)
        keys = [each for each in pool if each.weight == "key"]
        for each in keys:
            if len(drawn) < 2:
                drawn += self.usable([each], drawn)
        wanted = max(wanted, 3 if len(drawn) < 2 else 2)
        for each in pool:
            if len(drawn) < wanted and each not in drawn:
                drawn += self.usable([each], drawn)
        return drawn if len(drawn) >= wanted and drawn[0].weight == "key" else []

    def negatives(self, taken: list[Statement]) -> list[Statement]:
        chosen: list[Statement] = []
        for _ in range(self.rng.choice((1, 2, 2, 3) if self.hard else (0, 1, 1, 2, 2, 3))):
            if usable := self.usable(self.condition.negatives, taken + chosen):
                chosen.append(self.rng.choice(usable))
        return chosen

    def history(self, taken: list[Statement]) -> list[Statement]:
        chosen: list[Statement] = []
        for each in self.rng.sample(self.condition.risk_factors, len(self.condition.risk_factors)):
            if len(chosen) < 2 and self.rng.random() < each.frequency and each in self.usable([each], taken + chosen):
                chosen.append(each)
        return chosen

    def noise(self) -> list[Statement]:
        pool = [each for each, low, high in _noise(self.hard) if low <= self.age <= high]
        return self.rng.sample(pool, self.rng.choice((1, 1, 2, 3) if self.hard else (0, 1, 1, 2)))

    def detail(self, findings: list[Statement], taken: list[Statement]) -> Item | None:
        """One finding that points to a confuser, or the absence of a key finding; None if nothing fits."""
        absent = self._absent(findings)
        borrowed = self._borrowed(taken)
        if absent and (not borrowed or self.rng.random() < 0.3):
            return Item("detail", self.rng.choice(absent))
        return self.rng.choice(borrowed) if borrowed else None

    def _absent(self, findings: list[Statement]) -> list[Statement]:
        if self.voice == "patient":
            return []
        usable = [
            each
            for each in self.usable(self.condition.findings, findings)
            if each.weight == "key" and _plain(each) and not each.values and not _resembles(each, findings)
        ]
        return [made for each in usable if self.said(made := _absence(each, self.split))]

    def _borrowed(self, taken: list[Statement]) -> list[Item]:
        mine = [*self.condition.findings, *taken]
        by_name = {each.name: each for each in load_conditions()}
        own_ids = {each.id for each in self.condition.statements()}
        never = [*_rules()["never_detail"]["any"], *_rules()["never_detail"].get(self.condition.slug, ())]
        others = [by_name[each.name] for each in self.condition.confusers if each.name in by_name]
        return [
            Item("detail", each, other.name)
            for other in others
            if other.male != (0.0 if self.male else 1.0)
            for each in other.findings
            if each.weight == "support" and _plain(each) and self.sayable(each) and each.id not in own_ids
            if f"{other.slug}/{each.id}" not in never and not _resembles(each, mine)
        ]


def _plain(finding: Statement) -> bool:
    """A usual complaint or sign, so that borrowing or denying it reads naturally."""
    return not finding.atypical and finding.kind in ("symptom", "sign")


@cache
def _rules() -> dict[str, Any]:
    rules: dict[str, Any] = read_yaml(HERE / "casebook_rules.yaml")
    return rules


@cache
def _conflicts(slug: str) -> dict[str, set[str]]:
    """Both ways: what each entry of a condition excludes."""
    both: dict[str, set[str]] = {}
    for one, others in _rules()["conflicts"].get(slug, {}).items():
        for other in others:
            both.setdefault(one, set()).add(other)
            both.setdefault(other, set()).add(one)
    return both


@cache
def _noise(hard: bool) -> tuple[tuple[Statement, int, int], ...]:
    """The distractors with their age range; every fourth one is kept for the hard split."""
    made = []
    for number, entry in enumerate(read_yaml(HERE / "distractors.yaml")):
        if (number % 4 == 3) == hard:
            said = Phrasings((entry["note"],), (entry["prose"],), (entry["patient"],))
            statement = Statement(id=f"noise_{number}", source="", say=said, hard=said, values={})
            made.append((statement, *entry.get("age", (0, 120))))
    return tuple(made)


def _fits(statement: Statement, age: int, male: bool) -> bool:
    """Whether the words can be said of such a patient: nobody is pregnant at 70, no woman has a prostate."""
    female_only, male_only, fertile_only = _limits(statement)
    return not ((male and female_only) or (not male and male_only) or (age > 48 and fertile_only))


@cache
def _limits(statement: Statement) -> tuple[bool, bool, bool]:
    text = " | ".join(statement.say.all() + statement.hard.all())
    return bool(FEMALE.search(text)), bool(MALE.search(text)), bool(FERTILE.search(text))


@cache
def _stems(statement: Statement) -> frozenset[str]:
    words = re.findall(r"[a-z]{4,}", " ".join(statement.say.all() + statement.hard.all()).lower())
    return frozenset(word[:5] for word in words if word not in COMMON)


def _resembles(one: Statement, others: Iterable[Statement]) -> bool:
    """Whether it shares so many words with one of the others that both may speak of the same thing."""
    return any(len(_stems(one) & _stems(other)) > 0.2 * len(_stems(one)) for other in others)


@cache
def _absence(finding: Statement, split: str) -> Statement:
    """The finding denied, in the voices whose phrasings can take a plain "no"."""

    def deny(texts: Sequence[str]) -> tuple[str, ...]:
        plain = (re.sub(r"^(an?|the|some) ", "", text) for text in texts if "," not in text and len(text) < 70)
        return tuple(f"no {text}" for text in plain if not re.search(r"\b(no|not|without)\b", text))

    said = Phrasings(*[deny(finding.phrasings("prose", split))] * 2)
    return replace(finding, id=f"absent_{finding.id}", say=said, hard=said)
