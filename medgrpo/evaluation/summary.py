"""The figures of an evaluation: shares with intervals, votes over several answers, comparisons of two evaluations.

Everything here counts `Result`s; nothing judges a text. "Strict" is right and exactly in form. Where a case was answered
several times (seeds, permuted options) the strict accuracy is pass@1, the mean over all answers.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medgrpo.data.knowledge import load_conditions
from medgrpo.evaluation.measures import Result, Share, share
from medgrpo.intervals import sign_test


@dataclass(frozen=True)
class Summary:
    """All figures of one evaluation; see `summarise`.

    Attributes:
        cases: different cases; `answers` counts every answer to them.
        unjudged: answers that the matcher cannot judge; no accuracy counts them.
        strict, lenient, form, accuracy_in_form: right in form, right anywhere, in form, and right given the form.
        pass_at_1, majority_at_k: strict accuracy over all seeds, and of the most frequent answer over them (empty for one seed).
        truncated, several, copied, declined: cut off, hedged or listed, copied from the question, said to be out of scope.
        real_citations: quotations that stand in the case; of_cited ones, interval over cases.
        mean_citations: real quotations of an answer.
        explanations_fit: explanations of quoted findings that fit their finding, interval over cases; empty where no
            case says what its findings mean.
        next_step_intact: right answers whose next step is word for word that of the case, of those a model wrote (a baseline
            says none); empty where no case has one.
        consistency: cases whose permuted versions all got the same option chosen; empty without permutations.
        mean_tokens: length of an answer.
    """

    cases: int
    answers: int
    unjudged: int
    strict: Share
    lenient: Share
    form: Share
    accuracy_in_form: Share
    pass_at_1: Share
    majority_at_k: Share
    truncated: Share
    several: Share
    copied: Share
    declined: Share
    real_citations: Share
    mean_citations: float
    explanations_fit: Share
    next_step_intact: Share
    consistency: Share
    mean_tokens: float
    by_condition: dict[str, Share]
    by_group: dict[str, Share]

    def record(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return asdict(self)


def summarise(results: Sequence[Result]) -> Summary:
    """Figures over the answers to a set of cases, in any order. Accuracies leave out what cannot be judged."""
    judged = [r for r in results if r.correct is not None]
    strict = share((r.case, bool(r.strict)) for r in judged)
    several_answers = len(judged) > len({r.case for r in judged})
    return Summary(
        cases=len({r.case for r in results}),
        answers=len(results),
        unjudged=len(results) - len(judged),
        strict=strict,
        lenient=share((r.case, bool(r.correct)) for r in judged),
        form=share((r.case, r.form == "ok") for r in results),
        accuracy_in_form=share((r.case, bool(r.correct)) for r in judged if r.form == "ok"),
        pass_at_1=strict,
        majority_at_k=share(majority_vote(results).items() if several_answers else ()),
        truncated=share((r.case, r.truncated) for r in results),
        several=share((r.case, r.several) for r in results),
        copied=share((r.case, r.copied) for r in results),
        declined=share((r.case, r.declined) for r in results),
        real_citations=share(_flags((r.case, r.real, r.cited) for r in results)),
        mean_citations=_mean(r.real for r in results),
        explanations_fit=share(_flags((r.case, r.fitting, r.explained) for r in results)),
        next_step_intact=share((r.case, r.intact) for r in results if r.intact is not None and r.tokens),
        consistency=share(consistent(results).items()),
        mean_tokens=_mean(r.tokens for r in results),
        by_condition=_strict_by(judged, lambda r: r.condition),
        by_group=_strict_by(judged, lambda r: r.group),
    )


def _flags(counts: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, bool]]:
    """(case, hits, of) as one flag each."""
    return ((case, i < hits) for case, hits, of in counts for i in range(of))


def _mean(numbers: Iterable[float]) -> float:
    values = list(numbers)
    return sum(values) / max(1, len(values))


def _strict_by(results: Sequence[Result], key: Callable[[Result], str]) -> dict[str, Share]:
    groups: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for result in results:
        groups[key(result)].append((result.case, bool(result.strict)))
    return {name: share(flags) for name, flags in sorted(groups.items())}


def _by_case(results: Iterable[Result]) -> dict[str, list[Result]]:
    grouped: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        grouped[result.case].append(result)
    return grouped


def majority_vote(results: Sequence[Result]) -> dict[str, bool]:
    """Per case: is the most frequent statement of its well-formed answers right?

    Ties go to the statement that was made first; a case without a well-formed answer is wrong. Answers that cannot be
    judged have no vote.
    """
    votes = {}
    for case, answers in _by_case(r for r in results if r.correct is not None).items():
        formed = [r for r in answers if r.form == "ok"]
        counts = Counter(r.statement for r in formed)
        winner = counts.most_common(1)[0][0] if counts else None
        votes[case] = next((bool(r.correct) for r in formed if r.statement == winner), False)
    return votes


def consistent(results: Sequence[Result]) -> dict[str, bool]:
    """Per case with permuted options: did all versions get the same option chosen? Choosing none is not consistent."""
    varied = {case: answers for case, answers in _by_case(results).items() if len({r.case_id for r in answers}) > 1}
    return {case: len({r.choice for r in answers}) == 1 and bool(answers[0].choice) for case, answers in varied.items()}


@dataclass(frozen=True)
class Paired:
    """Two evaluations of the same cases, strictly judged (McNemar 1947, exact binomial form).

    Attributes:
        cases: that both answered.
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
    """Compare two evaluations on the cases that both answered; several answers to a case count as their majority."""
    left, right = majority_vote(first), majority_vote(second)
    shared = left.keys() & right.keys()
    lost = sum(left[case] and not right[case] for case in shared)
    won = sum(right[case] and not left[case] for case in shared)
    return Paired(len(shared), lost, won, (won - lost) / max(1, len(shared)), sign_test(won, lost))


def confusions(results: Sequence[Result]) -> Counter[tuple[str, str]]:
    """How often a condition (first) was answered with another statement (second); right answers are left out."""
    return Counter((r.condition, r.named or r.statement) for r in results if r.correct is False)


@dataclass(frozen=True)
class Confused:
    """What the cases of one condition were answered with; the counts add up to `answers`.

    Attributes:
        right: lenient, in form or not.
        near: confuser of the condition (knowledge base) -> answers that name it.
        far: answers that name another condition.
        declined: answers that say the case is out of scope.
        unclear: answers that name no condition, or several.
    """

    answers: int
    right: int
    near: dict[str, int]
    far: int
    declined: int
    unclear: int


def near_confusers(results: Sequence[Result]) -> dict[str, Confused]:
    """Per condition of the knowledge base that was asked for: its near confusers in its file's order, and the rest."""
    by_condition: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.correct is not None:
            by_condition[result.condition].append(result)
    table = {}
    for condition in load_conditions():
        if answers := by_condition.get(condition.name):
            wrong = [r for r in answers if not r.correct]
            named = Counter(r.named for r in wrong if r.named)
            near = {each.name: named.pop(each.name, 0) for each in condition.confusers}
            declined = sum(r.declined and not r.named for r in wrong)
            other = sum(named.values())
            unclear = len(wrong) - sum(near.values()) - other - declined
            table[condition.name] = Confused(len(answers), len(answers) - len(wrong), near, other, declined, unclear)
    return table
