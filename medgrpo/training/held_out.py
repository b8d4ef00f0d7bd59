"""The same held-out cases over the run: how one answer changed, and what all of them say before and after.

Before and after are the same cases, so the difference is judged in pairs (McNemar, exact) and every share carries its
95 % Wilson interval. A case that cannot be judged is left out of the accuracies and is never wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from medgrpo.intervals import sign_test, wilson
from medgrpo.training.run_directory import RunDirectory
from medgrpo.training.view import View, stamp_of

Answer = Mapping[str, Any]
CHANGES = ("learned", "lost", "changing", "always right", "never right", "right", "wrong", "not judged")
"""What became of a case, in the order in which it is worth reading."""


@dataclass(frozen=True)
class Share:
    """Hits out of `of` cases with their 95 % interval; `of` 0 means there was no case."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.value, self.of) if self.of else (0.0, 1.0)


@dataclass(frozen=True)
class Row:
    """One measure before and after."""

    name: str
    why: str
    before: Share
    after: Share


@dataclass(frozen=True)
class BeforeAfter:
    """Two evaluations of one run.

    Attributes:
        won, lost: cases strictly right only after, and only before, among those judged both times.
        p: two-sided exact McNemar p of that; 1.0 if they never differ.
    """

    first: int
    last: int
    rows: tuple[Row, ...]
    pairs: int
    won: int
    lost: int
    p: float


def strict(answer: Answer) -> bool | None:
    """Right and exactly in form; a malformed answer is wrong; None if it cannot be judged."""
    correct = answer.get("correct")
    return None if correct is None else bool(correct) and answer.get("format") == "ok"


MEASURES: tuple[tuple[str, str, Callable[[Answer], bool | None]], ...] = (
    ("Right and well-formed", "strict accuracy: a malformed answer counts as wrong", strict),
    ("Right", "the answer section, whatever the form", lambda answer: answer.get("correct")),
    ("Well-formed", "exactly one reasoning block, then one answer block", lambda answer: answer.get("format") == "ok"),
    ("Cut off", "reached the length limit before it ended", lambda answer: bool(answer.get("truncated"))),
)


def answers(view: View, step: int) -> list[Answer]:
    """The held-out answers of a step in the order of the cases; entries that are no answers are left out."""
    listed = view.evaluation(step).get("answers")
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def share(found: Sequence[Answer], measure: Callable[[Answer], bool | None]) -> Share:
    """How many answers a measure holds for, of those it can judge."""
    flags = [flag for flag in map(measure, found) if flag is not None]
    return Share(sum(map(bool, flags)), len(flags))


def before_after(view: View, last: int | None = None) -> BeforeAfter | None:
    """First evaluation against the latest (or the one at step `last`); None while there are not two."""
    steps = [step for step in view.evaluation_steps if last is None or step <= last]
    if len(steps) < 2:
        return None
    before, after = answers(view, steps[0]), answers(view, steps[-1])
    rows = tuple(Row(name, why, share(before, of), share(after, of)) for name, why, of in MEASURES)
    earlier = {str(each.get("id")): strict(each) for each in before}
    pairs = [(earlier.get(str(each.get("id"))), strict(each)) for each in after]
    judged = [(one, other) for one, other in pairs if one is not None and other is not None]
    won = sum(other and not one for one, other in judged)
    lost = sum(one and not other for one, other in judged)
    return BeforeAfter(steps[0], steps[-1], rows, len(judged), won, lost, sign_test(won, lost))


@dataclass(frozen=True)
class Course:
    """One case over all evaluations: step -> strictly right, None where it was not judged or not asked."""

    case_id: str
    reference: str
    question: str
    verdicts: tuple[bool | None, ...]

    @property
    def change(self) -> str:
        """One of `CHANGES`."""
        known = [verdict for verdict in self.verdicts if verdict is not None]
        if not known:
            return "not judged"
        if len(known) == 1:
            return "right" if known[0] else "wrong"
        if all(known):
            return "always right"
        if not any(known):
            return "never right"
        if known[-1] != known[0]:
            return "learned" if known[-1] else "lost"
        return "changing"


def courses(view: View) -> list[Course]:
    """Every held-out case of the latest evaluation with its verdicts, those that changed first."""
    steps = tuple(view.evaluation_steps)
    if not steps:
        return []
    return list(_courses(view.run, steps, stamp_of(view.run.evaluation_file(steps[-1]))))


@lru_cache(maxsize=8)
def _courses(run: RunDirectory, steps: tuple[int, ...], stamp: tuple[int, int]) -> tuple[Course, ...]:
    by_step = [verdicts(run, step) for step in steps]
    latest = answers(View(run), steps[-1])
    made = [
        Course(
            str(each.get("id")),
            str(each.get("reference") or ""),
            str(each.get("question") or ""),
            tuple(found.get(str(each.get("id"))) for found in by_step),
        )
        for each in latest
    ]
    return tuple(sorted(made, key=lambda course: CHANGES.index(course.change)))


def verdicts(run: RunDirectory, step: int) -> Mapping[str, bool | None]:
    """Case id -> strictly right at a step; kept, so that a long run is read once."""
    return _verdicts(run, step, stamp_of(run.evaluation_file(step)))


@lru_cache(maxsize=2048)
def _verdicts(run: RunDirectory, step: int, stamp: tuple[int, int]) -> Mapping[str, bool | None]:
    return {str(each.get("id")): strict(each) for each in answers(View(run), step)}


def accuracy(view: View) -> list[Share]:
    """Strict accuracy at each evaluation."""
    found = [verdicts(view.run, step).values() for step in view.evaluation_steps]
    return [Share(sum(map(bool, known)), sum(verdict is not None for verdict in known)) for known in found]


def answer_to(view: View, step: int, case_id: str) -> Answer | None:
    """What was answered to a case at a step, None if it was not asked then."""
    return next((each for each in answers(view, step) if str(each.get("id")) == case_id), None)
