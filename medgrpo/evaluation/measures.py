"""One answer judged, and how sure a count can be.

Every verdict comes from the text a model wrote, through the same parser and matcher as the rewards. A case that cannot be
judged (`correct is None`) is left out of an accuracy and counted on its own; it is never wrong and never right.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from typing import Any

from medgrpo.cases import Case
from medgrpo.data.knowledge import load_conditions
from medgrpo.data.scope import ALIASES, ANSWER
from medgrpo.intervals import wilson
from medgrpo.matching import match
from medgrpo.parsing import Sections, parse
from medgrpo.rewards import FITS, explanations, is_intact, quoted_findings

RUN = 8
"""Words in a row that stand in the question too before they count as copied; a quoted finding is rarely longer."""
COPIED = 0.7
"""Share of a section's words within such runs from which it counts as copied."""
VARIED = "~"
"""Between the id of a case and the number of a variation of it (see `medgrpo.evaluation.shuffle`)."""


@dataclass(frozen=True)
class Result:
    """One case, answered once and judged.

    Attributes:
        case_id, condition, group: the case, its reference answer and the register it is written in.
        seed: of the sampler.
        text: everything the model wrote.
        label: the answer section, as judged.
        form: status of the parser.
        correct: of the answer section wherever it was found; None if it cannot be judged.
        why: the matcher's reason.
        several: hedged, doubled or listed instead of answered.
        cited, real: quotations in the reasoning, and how many of them stand in the case.
        tokens, truncated, seconds: length of the answer, whether the limit cut it, and time.
        copied: reasoning or answer is mostly text of the question, word for word.
        named: for a wrong diagnosis the condition of the knowledge base it names, "" if none or several.
        declined: the answer says that the case is outside what the model was trained for.
        choice: text of the option that was chosen, for multiple choice.
        explained, fitting: explanations of quoted findings in the reasoning, and how many of them fit their finding
            (`FITS`); 0 where the case doesn't say what its findings mean.
        intact: of a right answer, whether its next step is word for word that of the case; None for others and where
            the case has none.
    """

    case_id: str
    condition: str
    group: str
    seed: int
    text: str
    label: str
    form: str
    correct: bool | None
    why: str
    several: bool
    cited: int
    real: int
    tokens: int
    truncated: bool
    seconds: float
    copied: bool = False
    named: str = ""
    declined: bool = False
    choice: str = ""
    explained: int = 0
    fitting: int = 0
    intact: bool | None = None

    @property
    def strict(self) -> bool | None:
        """Right and exactly in form; a malformed answer is wrong."""
        return self.correct if self.form == "ok" or self.correct is None else False

    @property
    def case(self) -> str:
        """Id of the case itself, the same for all its variations."""
        return self.case_id.partition(VARIED)[0]

    @property
    def statement(self) -> str:
        """What is said, to compare with another answer: the chosen option, or the first statement in lower case."""
        return (self.choice or statement(self.label)).lower()

    def record(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Result":
        """The result of a record. Raises TypeError if a field is missing; unknown ones are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})


def judge(
    case: Case, text: str, *, seed: int = 0, tokens: int = 0, truncated: bool = False, seconds: float = 0.0
) -> Result:
    """Judge one text. The group of a case is the register in its id, such as "note" in casebook/test/note/000001."""
    sections = parse(text, final=True)
    verdict = match(sections.answer, case)
    cited, real = quoted_findings(sections.reasoning, case.question)
    fits = explanations(sections.reasoning, case)
    diagnosis = case.kind == "diagnosis"
    return Result(
        case_id=case.id,
        condition=case.answer,
        group=case.id.split("/")[2] if case.id.count("/") > 2 else "",
        seed=seed,
        text=text,
        label=sections.answer,
        form=sections.status,
        correct=verdict.correct,
        why=verdict.why,
        several=verdict.several,
        cited=cited,
        real=real,
        tokens=tokens,
        truncated=truncated,
        seconds=seconds,
        copied=copies(sections, case.question),
        named=named_condition(sections.answer) if diagnosis and verdict.correct is False else "",
        declined=diagnosis and declines(sections.answer),
        choice=chosen_option(sections.answer, case) if case.kind == "choice" else "",
        explained=len(fits),
        fitting=sum(fit >= FITS for fit in fits),
        intact=is_intact(sections.answer, case) if case.approach and verdict.correct else None,
    )


def statement(label: str) -> str:
    """The part of an answer that states something: up to the first full stop or line end, at most 60 characters."""
    return label.split(". ")[0].split("\n")[0].strip(" .")[:60]


def copies(sections: Sections, question: str) -> bool:
    """Whether the reasoning, or the answer, is mostly (`COPIED`) runs of `RUN` words or more that stand in the question."""
    known = _runs(question)
    return any(_covered(part, known) > COPIED for part in (sections.reasoning, sections.answer))


@lru_cache(maxsize=256)
def _runs(text: str) -> frozenset[tuple[str, ...]]:
    said = _words(text)
    return frozenset(tuple(said[i : i + RUN]) for i in range(len(said) - RUN + 1))


def _covered(part: str, known: frozenset[tuple[str, ...]]) -> float:
    said = _words(part)
    inside = [False] * len(said)
    for i in range(len(said) - RUN + 1):
        if tuple(said[i : i + RUN]) in known:
            inside[i : i + RUN] = [True] * RUN
    return sum(inside) / len(said) if said else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@lru_cache(maxsize=4096)
def named_condition(label: str) -> str:
    """The one condition of the knowledge base that an answer names, by the matcher; "" if none or several."""
    fitting = [condition.answer for condition in _conditions() if match(label, condition).correct]
    return fitting[0] if len(fitting) == 1 else ""


@cache
def _conditions() -> tuple[Case, ...]:
    return tuple(Case(c.slug, "", c.name, "diagnosis", c.aliases) for c in load_conditions())


@lru_cache(maxsize=4096)
def declines(label: str) -> bool:
    """Whether an answer says that the case is outside what the model was trained for."""
    return match(label, Case("outside", "", ANSWER, "diagnosis", ALIASES)).correct is True


def chosen_option(label: str, case: Case) -> str:
    """Text of the option that an answer chooses, by the matcher; "" if it chooses none or several."""
    chosen = [text for letter, text in case.options.items() if match(label, replace(case, answer=letter)).correct]
    return chosen[0] if len(chosen) == 1 else ""


@dataclass(frozen=True)
class Share:
    """A count out of a number with its 95 % interval, see `share`."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself, NaN out of nothing."""
        return self.hits / self.of if self.of else float("nan")

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})" if self.of else "no case"


def share(flags: Iterable[tuple[Hashable, bool]]) -> Share:
    """Share of true flags among (case, flag) pairs, with its 95 % Wilson interval (Wilson 1927, JASA 22:209).

    Flags of one case, such as its quotations or its answers to several seeds, are not independent. The interval is then
    that of the effective number of flags: their number divided by the design effect, which is the variance of a ratio
    over cases (linearised, Cochran 1977, section 2.11) over the binomial one, and at least 1. Where all flags agree it
    cannot be estimated and the number of cases is taken. With one flag a case this is the plain Wilson interval.
    """
    hits: dict[Hashable, int] = defaultdict(int)
    counts: dict[Hashable, int] = defaultdict(int)
    for case, flag in flags:
        hits[case] += flag
        counts[case] += 1
    total, of = sum(hits.values()), sum(counts.values())
    if not of:
        return Share(0, 0, 0.0, 1.0)
    p = total / of
    low, high = wilson(p, _effective(list(hits.values()), list(counts.values())))
    return Share(total, of, min(low, p), max(high, p))  # at 0 and 1 rounding would leave the share outside


def _effective(hits: list[int], counts: list[int]) -> float:
    cases, of = len(counts), sum(counts)
    p = sum(hits) / of
    if cases == of:
        return of
    if p in (0.0, 1.0) or cases < 2:
        return cases
    squares = sum((hit - p * count) ** 2 for hit, count in zip(hits, counts, strict=True))
    variance = cases / (cases - 1) * squares / of**2
    return max(1.0, of / max(1.0, variance * of / (p * (1 - p))))
