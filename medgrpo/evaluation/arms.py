"""The arms of an evaluation: the same cases, asked of each variant and of the controls, in one report.

A folder an arm under the output folder; a report over all of them beside. Running it again goes on where it stopped, and
another adapter under another name adds an arm.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.data import load_cases, load_demonstrations
from medgrpo.engines import BASE, GRPO, Engine, Sampling
from medgrpo.errors import DataError, RunError, SettingsError
from medgrpo.evaluation import ARMS, baselines
from medgrpo.evaluation.folder import (
    TITLES,
    Arm,
    Evaluation,
    arm_folders,
    keep_cases,
    ordered,
    read_arm,
    read_cases,
    read_lines,
    slug,
    write_lines,
)
from medgrpo.evaluation.measures import Result, judge
from medgrpo.evaluation.report import write_report
from medgrpo.evaluation.run import claim, evaluate
from medgrpo.evaluation.shuffle import shuffled
from medgrpo.parsing import compose

BASELINES: dict[str, Callable[[Sequence[Case], Sequence[Case]], list[str]]] = {
    "majority": baselines.majority,
    "keyword rule": baselines.keyword_rule,
    "TF-IDF + logistic regression": baselines.tfidf,
}
Opened = Callable[[str], tuple[Engine, int]]
"""Variant -> an engine that has it, and how many answers to ask of it at the same time."""


@dataclass(frozen=True)
class Plan:
    """What to evaluate, and where to keep it.

    Attributes:
        out: the evaluation's folder.
        source, split, limit: of the cases, as for `load_cases`; several splits are joined by "+".
        arms: of `ARMS`.
        name: title of the adapter's arm, with which all others are compared; its folder is named after it.
        joined: title -> folder of arms evaluated earlier elsewhere.
        baselines: with the classifiers that count words.
        sampling, seeds: see `evaluate`.
        shuffle: versions of each multiple-choice case with its options in another order; 0 asks it as it is.
        fingerprint: of the adapter's weights, so that another adapter isn't mixed into the same arm.
    """

    out: Path
    source: str = "casebook"
    split: str = "test"
    limit: int | None = None
    arms: tuple[str, ...] = (BASE, GRPO)
    name: str = "GRPO"
    joined: Mapping[str, Path] = field(default_factory=dict)
    baselines: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    seeds: int = 1
    shuffle: int = 0
    fingerprint: str = ""


def run_plan(plan: Plan, opened: Opened) -> Evaluation:
    """Ask what is missing, judge everything anew and write the report; returns all arms of the folder.

    Raises:
        SettingsError: an arm is unknown, or a number is out of range.
        RunError: a joined folder holds no result, or the engine has no adapter for the arm "grpo".
    """
    _check(plan)
    cases = cases_of(plan)
    keep_cases(plan.out, cases)
    if plan.baselines:
        _keep_baselines(plan, cases)
    for arm in plan.arms:
        _ask(plan, arm, cases, opened)
    joined = [_joined(title, folder, plan.out) for title, folder in plan.joined.items()]
    evaluation = collect(plan.out, joined, plan.name)
    if not write_report(evaluation, plan.out):
        print("There is no accuracy.png: pip install matplotlib, and run this again.", file=sys.stderr)
    return evaluation


def cases_of(plan: Plan) -> list[Case]:
    """The cases of a plan, in their versions."""
    cases = [case for split in plan.split.split("+") for case in load_cases(plan.source, split.strip(), plan.limit)]
    return shuffled(cases, plan.shuffle) if plan.shuffle else cases


def collect(folder: Path, joined: Sequence[Arm] = (), reference: str = "") -> Evaluation:
    """All arms of a folder and the joined ones, judged anew; the new verdicts replace those in the folder.

    Raises:
        RunError: there is no answer at all.
    """
    cases = read_cases(folder)
    own = []
    for path in arm_folders(folder):
        arm = read_arm(path, cases=cases.values())
        _keep_verdicts(path, arm.results)
        own.append(arm)
    known = [*BASELINES, *TITLES.values()]
    own.sort(key=lambda arm: known.index(arm.title) if arm.title in known else len(known))
    arms = ordered([arm for arm in [*own, *joined] if arm.results])
    if not arms:
        raise RunError(f"There is no answer in {folder}: name at least one of --arms, --join and --baselines.")
    return Evaluation(folder, cases, arms, reference)


def pack(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation, joined arms included, in the form in which it is shipped: gzipped answers, and the report.

    Raises:
        RunError: the folder holds further arms, which the report would not know of.
    """
    names = {slug(arm.title) for arm in evaluation.arms}
    if strangers := [path.name for path in arm_folders(folder) if path.name not in names]:
        raise RunError(f"{folder} also holds {', '.join(strangers)}: delete them, or pack into another folder.")
    answered = {result.case_id for arm in evaluation.arms for result in arm.results}
    write_lines(folder, "cases", (vars(case) for id, case in evaluation.cases.items() if id in answered), packed=True)
    for arm in evaluation.arms:
        place = folder / slug(arm.title)
        place.mkdir(parents=True, exist_ok=True)
        claim(place, {**arm.settings, "title": arm.title}, anew=True)
        write_lines(place, "results", (result.record() for result in arm.results), packed=True)
    arms = tuple(replace(arm, name=slug(arm.title)) for arm in evaluation.arms)
    write_report(replace(evaluation, folder=folder, arms=arms), folder)


def _check(plan: Plan) -> None:
    for arm in plan.arms:
        if arm not in ARMS:
            raise SettingsError(f"--arms {arm!r} is unknown: use {', '.join(ARMS)}.")
    if plan.seeds < 1:
        raise SettingsError(f"--seeds {plan.seeds} is out of range: use a number of 1 or more.")
    if plan.seeds > 1 and not plan.sampling.temperature:
        raise SettingsError(
            f"--seeds {plan.seeds} gives the same answer every time at temperature 0: add --temperature 0.8."
        )
    if plan.shuffle < 0 or plan.shuffle == 1:
        raise SettingsError(f"--shuffle {plan.shuffle} compares nothing: use 2 or more versions of each case.")
    if not slug(plan.name):
        raise SettingsError(f"--name {plan.name!r} has no letter or digit to name a folder by: give another name.")


def _ask(plan: Plan, arm: str, cases: Sequence[Case], opened: Opened) -> None:
    variant = GRPO if arm == "grpo" else BASE
    title = TITLES[arm] if variant == BASE else plan.name
    about: dict[str, Any] = {"title": title}
    if variant == GRPO and plan.fingerprint:
        about["adapter_sha256"] = plan.fingerprint
    engine, workers = opened(variant)
    with closing(engine):
        if variant not in engine.variants:
            raise RunError(
                f"There is no adapter for {engine.model} to evaluate: give --adapter, or leave out the arm grpo."
            )
        print(f"{title}: {len(cases)} cases of {plan.source}/{plan.split}", file=sys.stderr)
        evaluate(
            engine,
            variant,
            cases,
            plan.out / (slug(title) if variant == GRPO else arm),
            sampling=plan.sampling,
            workers=workers,
            seeds=plan.seeds,
            about=about,
            on_progress=_print_progress,
            **_prompting(arm, plan.source),
        )


def _prompting(arm: str, source: str) -> dict[str, Any]:
    if arm == "base-few-shot":
        return {"examples": [(case.question, text) for case, text in load_demonstrations(source, "train", 3)]}
    return {"structured": arm != "base-free"}


def _keep_baselines(plan: Plan, cases: Sequence[Case]) -> None:
    train = load_cases(plan.source, "train")
    for title, rule in BASELINES.items():
        try:
            labels = rule(train, cases)
        except ImportError as error:
            raise DataError(
                f"The control {title} needs scikit-learn: pip install scikit-learn, or leave out --baselines."
            ) from error
        folder = plan.out / slug(title)
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder, {"engine": "none", "model": title, "variant": "control", "title": title})
        answers = [compose("No model: this control counts words.", label) for label in labels]
        results = [judge(case, text).record() for case, text in zip(cases, answers, strict=True)]
        write_lines(folder, "results", results)


def _joined(title: str, folder: Path, out: Path) -> Arm:
    arm = read_arm(folder, title, read_cases(out).values())
    if not arm.results:
        raise RunError(f"--join {title}={folder}: there is no result for these cases; run that evaluation first.")
    return arm


def _keep_verdicts(folder: Path, results: Sequence[Result]) -> None:
    """Replace verdicts; answers to cases that aren't known here stay as they are."""
    records = {(record["case_id"], record["seed"]): record for record in read_lines(folder, "results")}
    new = records | {(result.case_id, result.seed): result.record() for result in results}
    if new != records:
        write_lines(folder, "results", new.values())


def _print_progress(results: Sequence[Result], of: int) -> None:
    judged = [bool(result.strict) for result in results if result.correct is not None]
    end = "\n" if len(results) == of else ""
    print(f"\r  {len(results)}/{of}, {sum(judged)} right", end=end, file=sys.stderr, flush=True)
