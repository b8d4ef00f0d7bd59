"""What the Evaluate tab shows, as values: which evaluations there are, what is chosen, which results remain.

Every number comes from the files of an evaluation (`medgrpo.evaluation.folder`), which are read again when they change.
What a visitor sends is looked up among what there is, never used as a path.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from medgrpo.errors import RunError
from medgrpo.evaluation.folder import Arm, Evaluation, find_evaluations, read_evaluation
from medgrpo.evaluation.measures import Result
from medgrpo.evaluation.report import reference_of
from medgrpo.models import PROFILES
from medgrpo.settings import Settings
from medgrpo.ui.evaluate_job import folder_of

HERE = "Run on this machine"
ALL = "All"
OUTCOMES = (ALL, "Right", "Wrong", "Malformed")
PAGE = 40
"""Cases of one page of the list."""


@dataclass(frozen=True)
class Sight:
    """What a visitor looks at; an empty field means the default.

    Attributes:
        model, data: names of `places`.
        condition, register: of the cases that count, or `ALL`.
        arm: title of the arm whose cases are listed.
        outcome: of `OUTCOMES`.
        page: of the list, from 0.
        case: id of the open case.
    """

    model: str = ""
    data: str = ""
    condition: str = ALL
    register: str = ALL
    arm: str = ""
    outcome: str = ALL
    page: int = 0
    case: str = ""

    def with_(self, field: str, value: str) -> "Sight":
        """Another choice in a picker; what hangs on the old one goes back to its default."""
        resets = {"model": {"data": "", "case": ""}, "data": {"case": ""}}.get(field, {})
        return replace(self, page=0, **{**resets, field: value})

    def after(self, message: str) -> "Sight":
        """After a click in the page: "arm:TITLE", "page:NUMBER" or "case:ID", each with "#" and a counter behind."""
        what, _, value = message.rpartition("#")[0].partition(":")
        if what == "arm":
            return replace(self, arm=value, page=0)
        if what == "case":
            return replace(self, case=value)
        if what == "page" and value.isdecimal():
            return replace(self, page=int(value[:6]))
        return self


@dataclass(frozen=True)
class Choice:
    """An evaluation as a visitor sees it.

    Attributes:
        evaluation: as a whole.
        arms: with the results that pass the filters; an arm without any stays, and shows that it has none.
        conditions, registers: that occur.
        arm: the one whose cases are listed, as filtered.
        sight: what was asked for, defaults filled in.
    """

    evaluation: Evaluation
    arms: tuple[Arm, ...]
    conditions: tuple[str, ...]
    registers: tuple[str, ...]
    arm: Arm
    sight: Sight

    @property
    def reference(self) -> Arm | None:
        """The filtered reference arm."""
        found = reference_of(self.evaluation)
        return next((arm for arm in self.arms if found and arm.title == found.title), None)

    @property
    def main(self) -> tuple[Arm, ...]:
        """The arms that tell the story, filtered: the strongest control, the first base and SFT, and the reference."""
        chosen = [
            self._best("control"),
            *(next((a for a in self.arms if a.kind == kind), None) for kind in ("base", "sft")),
        ]
        chosen.append(self.reference)
        unique = {arm.title: arm for arm in chosen if arm is not None}
        return tuple(unique.values())

    @property
    def listed(self) -> list[Result]:
        """The results of the arm that have the outcome, in the order of their files."""
        return [result for result in self.arm.results if self.sight.outcome in (ALL, outcome(result))]

    @property
    def missing(self) -> int:
        """Answers that the models of this evaluation still owe, filters aside."""
        cases = self.evaluation.cases.keys()
        asked = (arm for arm in self.evaluation.arms if arm.settings.get("variant") in ("base", "grpo"))
        return sum(len(cases - {result.case_id for result in arm.results}) for arm in asked)

    def _best(self, kind: str) -> Arm | None:
        arms = [arm for arm in self.arms if arm.kind == kind]
        return max(
            arms, key=lambda arm: sum(bool(r.strict) for r in arm.results) / max(1, len(arm.results)), default=None
        )


def outcome(result: Result) -> str:
    """One of `OUTCOMES`, or "Not judged"; an answer that isn't in form is malformed, right or not."""
    if result.form != "ok":
        return "Malformed"
    return {True: "Right", False: "Wrong", None: "Not judged"}[result.correct]


def places(settings: Settings) -> dict[str, dict[str, Path]]:
    """Model -> data set -> folder: what is shipped with each profile, then what was run on this machine, newest first."""
    found: dict[str, dict[str, Path]] = {}
    for profile in PROFILES.values():
        shipped = find_evaluations(profile.assets / "evaluation")
        if shipped:
            found[profile.title] = {path.name.replace("-", " ").capitalize(): path for path in shipped}
    own = sorted(find_evaluations(folder_of(settings)), key=lambda path: path.stat().st_mtime, reverse=True)
    if own:
        found[HERE] = {path.name: path for path in own}
    return found


def settled(sight: Sight, found: dict[str, dict[str, Path]], preferred: str) -> Sight:
    """The sight with a model and a data set that exist; `preferred` is the model to begin with."""
    model = next((name for name in (sight.model, preferred) if name in found), next(iter(found), ""))
    data = sight.data if sight.data in found.get(model, {}) else next(iter(found.get(model, {})), "")
    return replace(sight, model=model, data=data)


def choose(sight: Sight, found: dict[str, dict[str, Path]]) -> Choice:
    """What a settled sight shows.

    Raises:
        RunError: the evaluation is gone or empty.
    """
    folder = found.get(sight.model, {}).get(sight.data)
    if folder is None:
        raise RunError("There is no evaluation yet: run one below, or with `python -m medgrpo evaluate`.")
    evaluation = load(folder)
    results = [result for arm in evaluation.arms for result in arm.results]
    conditions = tuple(sorted({result.condition for result in results}))
    registers = tuple(sorted({result.group for result in results if result.group}))
    condition = sight.condition if sight.condition in conditions else ALL
    register = sight.register if sight.register in registers else ALL
    arms = tuple(replace(arm, results=_passing(arm, condition, register)) for arm in evaluation.arms)
    reference = reference_of(evaluation)
    titles = [arm.title for arm in arms]
    default = reference.title if reference else titles[-1]
    arm = arms[titles.index(sight.arm if sight.arm in titles else default)]
    outcome_ = sight.outcome if sight.outcome in OUTCOMES else ALL
    sight = replace(sight, condition=condition, register=register, arm=arm.title, outcome=outcome_)
    choice = Choice(evaluation, arms, conditions, registers, arm, sight)
    last = max(0, (len(choice.listed) - 1) // PAGE)
    return replace(choice, sight=replace(sight, page=min(sight.page, last)))


def _passing(arm: Arm, condition: str, register: str) -> list[Result]:
    return [r for r in arm.results if condition in (ALL, r.condition) and register in (ALL, r.group)]


def load(folder: Path) -> Evaluation:
    """An evaluation, read again only if one of its files changed. Raises RunError as `read_evaluation` does."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".gz"))
    try:
        stats = [path.stat() for path in files]
    except FileNotFoundError:  # one was replaced just now
        return read_evaluation(folder)
    return _load(folder, tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=12)
def _load(folder: Path, version: tuple[object, ...]) -> Evaluation:
    return read_evaluation(folder)
