"""What an evaluation counts, and how sure it can be.

Every number comes from the text a model wrote, through the same parser and matcher as the rewards. A case that cannot be
judged (`correct is None`) is left out of an accuracy and counted on its own; it is never wrong and never right.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medgrpo.cases import Case
from medgrpo.matching import match
from medgrpo.parsing import parse
from medgrpo.rewards import quoted_findings


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

    @property
    def strict(self) -> bool | None:
        """Right and exactly in form; a malformed answer is wrong."""
        return self.correct if self.form == "ok" or self.correct is None else False


def judge(
    case: Case, text: str, *, seed: int = 0, tokens: int = 0, truncated: bool = False, seconds: float = 0.0
) -> Result:
    """Judge one text. The group of a case is the register in its id, such as "note" in casebook/test/note/000001."""
    sections = parse(text, final=True)
    verdict = match(sections.answer, case)
    cited, real = quoted_findings(sections.reasoning, case.question)
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
    )


@dataclass(frozen=True)
class Share:
    """A count out of a number of cases with its 95 % Wilson interval (Wilson 1927, JASA 22:209)."""

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


def share(flags: Iterable[bool]) -> Share:
    """Share of true flags."""
    from scipy.stats import binomtest

    values = list(flags)
    if not values:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(sum(values), len(values)).proportion_ci(method="wilson")
    return Share(sum(values), len(values), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Summary:
    """All figures of one evaluation; see `summarise`."""

    cases: int
    strict: Share
    lenient: Share
    form: Share
    accuracy_in_form: Share
    truncated: Share
    several: Share
    real_citations: Share
    mean_tokens: float
    by_condition: dict[str, Share]
    by_group: dict[str, Share]

    def record(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return asdict(self)


def summarise(results: Sequence[Result]) -> Summary:
    """Figures over one result a case. Accuracies leave out what cannot be judged."""
    judged = [r for r in results if r.correct is not None]
    return Summary(
        cases=len(results),
        strict=share(bool(r.strict) for r in judged),
        lenient=share(bool(r.correct) for r in judged),
        form=share(r.form == "ok" for r in results),
        accuracy_in_form=share(bool(r.correct) for r in judged if r.form == "ok"),
        truncated=share(r.truncated for r in results),
        several=share(r.several for r in results),
        real_citations=share(flag for r in results for flag in [True] * r.real + [False] * (r.cited - r.real)),
        mean_tokens=sum(r.tokens for r in results) / max(1, len(results)),
        by_condition=_strict_by(judged, lambda r: r.condition),
        by_group=_strict_by(judged, lambda r: r.group),
    )


def _strict_by(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, Share]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(bool(result.strict))
    return {name: share(flags) for name, flags in sorted(groups.items())}


@dataclass(frozen=True)
class Paired:
    """Two evaluations of the same cases, strictly judged (McNemar 1947, exact binomial form).

    Attributes:
        only_first, only_second: cases that only one of the two had right.
        difference: accuracy of the second minus the first.
        p: two-sided p value; 1.0 if they never differ.
    """

    cases: int
    only_first: int
    only_second: int
    difference: float
    p: float


def compare_paired(first: Sequence[Result], second: Sequence[Result]) -> Paired:
    """Compare two evaluations on the cases that both answered."""
    from scipy.stats import binomtest

    left = {(r.case_id, r.seed): bool(r.strict) for r in first if r.correct is not None}
    right = {(r.case_id, r.seed): bool(r.strict) for r in second if r.correct is not None}
    shared = sorted(left.keys() & right.keys())
    lost = sum(left[key] and not right[key] for key in shared)
    won = sum(right[key] and not left[key] for key in shared)
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Paired(len(shared), lost, won, (won - lost) / max(1, len(shared)), p)


def majority_vote(results: Sequence[Result]) -> dict[str, bool]:
    """Per case: is the most frequent label over its seeds right? Ties go to the label seen first."""
    by_case: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_case[result.case_id].append(result)
    votes = {}
    for case_id, answers in by_case.items():
        winner, _ = Counter(_statement(r.label) for r in answers).most_common(1)[0]
        votes[case_id] = next(bool(r.strict) for r in answers if _statement(r.label) == winner)
    return votes


def confusions(results: Sequence[Result]) -> Counter[tuple[str, str]]:
    """How often a condition (first) was answered with another statement (second); right answers are left out."""
    return Counter((r.condition, _statement(r.label)) for r in results if r.correct is False)


def _statement(label: str) -> str:
    return label.split(". ")[0].split("\n")[0].strip(" .")[:60]
