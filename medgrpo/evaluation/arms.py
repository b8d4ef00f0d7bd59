"""The arms of an evaluation: the same cases, asked of each variant and of the controls, in one report.

A folder an arm under the output folder; a report over all of them beside. Running it again goes on where it stopped.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.data import load_cases, load_demonstrations
from medgrpo.engines import BASE, GRPO, Engine, Sampling
from medgrpo.errors import RunError, SettingsError
from medgrpo.evaluation import ARMS, baselines
from medgrpo.evaluation.measures import Result, judge
from medgrpo.evaluation.report import write_report
from medgrpo.evaluation.run import evaluate, rejudge
from medgrpo.parsing import compose

TITLES = {"base": "base", "base-free": "base, no instructions", "base-few-shot": "base, 3 examples"}
BASELINES: dict[str, Callable[[Sequence[Case], Sequence[Case]], list[str]]] = {
    "majority": baselines.majority,
    "keyword rule": baselines.keyword_rule,
    "TF-IDF + logistic regression": baselines.tfidf,
}


def run_arms(
    engine: Engine | None,
    arms: Sequence[str],
    out: Path,
    *,
    source: str,
    split: str,
    limit: int | None,
    adapter_arm: str,
    joined: Mapping[str, str],
    baselines: bool,
    sampling: Sampling,
    workers: int,
) -> dict[str, list[Result]]:
    """Evaluate `arms` on one split and write the report into `out`; returns arm title -> results.

    Args:
        adapter_arm: title of the arm that answers with the adapter, the one all others are compared with.
        joined: title -> folder of arms evaluated earlier, say with another adapter.

    Raises:
        SettingsError: an arm is unknown.
        RunError: a joined folder holds no result, or the engine has no adapter for the arm "grpo".
    """
    cases = load_cases(source, split, limit)
    results = dict(_baselines(source, cases)) if baselines else {}
    for title, folder in joined.items():
        results[title] = _joined(title, Path(folder), cases)
    if engine is not None:
        with closing(engine):
            for arm in arms:
                title = TITLES.get(arm, adapter_arm)
                options = _options(arm, engine, source)
                print(f"{title}: {len(cases)} cases of {source}/{split}", file=sys.stderr)
                results[title] = evaluate(
                    engine,
                    GRPO if arm == "grpo" else BASE,
                    cases,
                    out / arm,
                    sampling=sampling,
                    workers=workers,
                    on_progress=_print_progress,
                    **options,
                )
    write_report(results, out, f"{source}, {split} split, {len(cases)} cases", adapter_arm)
    return results


def _options(arm: str, engine: Engine, source: str) -> dict[str, Any]:
    if arm not in ARMS:
        raise SettingsError(f"--arms {arm!r} is unknown: use {', '.join(ARMS)}.")
    if arm == "grpo" and GRPO not in engine.variants:
        raise RunError(
            f"There is no adapter for {engine.model} to evaluate: set MEDGRPO_ADAPTER, or leave out the arm grpo."
        )
    if arm == "base-few-shot":
        return {"examples": [(case.question, text) for case, text in load_demonstrations(source, "train", 3)]}
    return {"structured": arm != "base-free"}


def _baselines(source: str, cases: Sequence[Case]) -> dict[str, list[Result]]:
    train = load_cases(source, "train")
    return {
        name: [judge(case, compose("no model", label)) for case, label in zip(cases, rule(train, cases), strict=True)]
        for name, rule in BASELINES.items()
    }


def _joined(title: str, folder: Path, cases: Sequence[Case]) -> list[Result]:
    results = rejudge(folder, cases)
    if not results:
        raise RunError(f"--join {title}={folder}: there is no result for these cases; run that evaluation first.")
    return results


def _print_progress(done: int, of: int) -> None:
    end = "\n" if done == of else ""
    print(f"\r  {done}/{of}", end=end, file=sys.stderr, flush=True)
