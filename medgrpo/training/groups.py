"""The completions behind the curves: whole groups, as the trainer compared them, with the reason of every score.

Scores, totals and advantages are those that trained, read from the recording. Reasons come from `medgrpo.rewards.explain`
on the case found again by its id. A reason is given only where that function, asked today, gives the recorded score:
a case or a reward that changed since must not explain what it did not cause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import fmean
from typing import Any

from medgrpo.cases import Case
from medgrpo.parsing import parse
from medgrpo.prompts import build_messages
from medgrpo.rewards import Score, explain
from medgrpo.training.view import View, stamp_of

FILTERS = ("all", "best", "worst", "no spread", "right but malformed")
RECENT = 40
"""Recorded steps that a search through all of them reads, from the latest back."""
FLAT = 1e-6
CORRECT = ("correctness", "legacy_correctness")
NEEDS_CASE = ("correctness", "numeric", "reasoning", "meaning", "next_step", "legacy_correctness")
"""Rewards that compare with the reference, its findings or its next step; the others need the text alone."""

GONE = "The case is no longer in the data as it was then, so the reason cannot be told again."
WAITING = "The cases are being read; the reason comes in a moment."
OTHER = "The reward has changed since: today it would give {value}."


@dataclass(frozen=True)
class Completion:
    """One completion of a group.

    Attributes:
        number: its place in the recorded group, from 1.
        scores: unweighted values with the weights of the run; `why` is empty until `with_reasons`.
        total, advantage: as they trained; `total` is None if no reward applied.
    """

    number: int
    text: str
    scores: tuple[Score, ...]
    total: float | None
    advantage: float
    truncated: bool
    tokens: int

    @property
    def right(self) -> bool:
        return any(score.name in CORRECT and (score.value or 0) > 0 for score in self.scores)

    @cached_property
    def malformed(self) -> bool:
        return parse(self.text, final=True).status != "ok"


@dataclass(frozen=True)
class Group:
    """All recorded completions of one prompt in one step."""

    step: int
    index: int
    case_id: str
    prompt: str
    completions: tuple[Completion, ...]

    @property
    def key(self) -> str:
        return f"{self.step}/{self.index}"

    @property
    def totals(self) -> list[float]:
        return [each.total for each in self.completions if each.total is not None]

    @property
    def mean(self) -> float:
        return fmean(self.totals) if self.totals else 0.0

    @property
    def flat(self) -> bool:
        """All completions earn the same, so nothing is learned from this group."""
        return not self.totals or max(self.totals) - min(self.totals) < FLAT

    def right_but_malformed(self) -> list[Completion]:
        return [each for each in self.completions if each.right and each.malformed]


def groups(view: View, step: int) -> list[Group]:
    """The recorded groups of a step; lines that lack what a completion needs are left out."""
    stamp = stamp_of(view.run.completions_file(step))
    return list(_groups(view, step, stamp, tuple(view.weights.items())))


@lru_cache(maxsize=128)
def _groups(view: View, step: int, stamp: tuple[int, int], weights: tuple[tuple[str, float], ...]) -> tuple[Group, ...]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for record in view.completions(step):
        if isinstance(record.get("completion"), str) and isinstance(record.get("scores"), Mapping):
            found.setdefault(int(record.get("group") or 0), []).append(record)
    return tuple(_group(step, index, records, dict(weights)) for index, records in sorted(found.items()))


def _group(step: int, index: int, records: Sequence[Mapping[str, Any]], weights: Mapping[str, float]) -> Group:
    first = records[0]
    completions = tuple(
        Completion(
            number=number,
            text=record["completion"],
            scores=tuple(
                Score(str(name), None if value is None else float(value), weights.get(str(name), 1.0), "")
                for name, value in record["scores"].items()
            ),
            total=record.get("total"),
            advantage=float(record.get("advantage") or 0.0),
            truncated=bool(record.get("truncated")),
            tokens=int(record.get("tokens") or 0),
        )
        for number, record in enumerate(records, 1)
    )
    return Group(step, index, str(first.get("case") or ""), str(first.get("prompt") or ""), completions)


def chosen(view: View, step: int | None, which: str) -> list[Group]:
    """Groups of one step, or with None of the last `RECENT` recorded ones, latest first; filtered and sorted.

    "best" and "worst" sort by the mean total, "no spread" keeps groups whose completions all earn the same, "right but
    malformed" those with a completion that has the right answer in a broken form.
    """
    steps = view.completion_steps[: -RECENT - 1 : -1] if step is None else [step]
    found = [group for each in steps for group in groups(view, each)]
    if which == "no spread":
        return [group for group in found if group.flat]
    if which == "right but malformed":
        return [group for group in found if group.right_but_malformed()]
    if which in ("best", "worst"):
        return sorted(found, key=lambda group: group.mean, reverse=which == "best")
    return found


def ordered(group: Group, which: str) -> list[Completion]:
    """Completions of a group as a filter wants them read: best first, worst first, or right but malformed first."""
    best = sorted(group.completions, key=lambda each: (each.total is None, -(each.total or 0.0)))
    if which == "worst":
        return best[::-1]
    if which == "right but malformed":
        return sorted(best, key=lambda each: not (each.right and each.malformed))
    return best


def same_case(case: Case | None, prompt: str) -> bool:
    """Whether a case still reads as it did when it was recorded."""
    return case is not None and build_messages(case.question)[-1]["content"] == prompt


def with_reasons(completion: Completion, prompt: str, case: Case | None, missing: str = GONE) -> tuple[Score, ...]:
    """The recorded scores, each with its reason.

    Args:
        case: the one with the recorded id, if there still is one.
        missing: what is said where the reason needs the case and there is none.
    """
    known = case if same_case(case, prompt) else None
    return tuple(_explained(score, completion.text, prompt, known, missing) for score in completion.scores)


def _explained(score: Score, text: str, prompt: str, case: Case | None, missing: str) -> Score:
    if case is None and score.name in NEEDS_CASE:
        return Score(score.name, score.value, score.weight, missing)
    try:
        (now,) = explain(text, case or Case("", prompt, ""), {score.name: score.weight})
    except KeyError:
        return Score(score.name, score.value, score.weight, "There is no such reward any more.")
    if not _equal(now.value, score.value):
        shown = "no score" if now.value is None else f"{now.value:.2f}"
        return Score(score.name, score.value, score.weight, OTHER.format(value=shown))
    return Score(score.name, score.value, score.weight, now.why)


def _equal(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) < 1e-6
