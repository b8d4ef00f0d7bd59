"""Run directories written by the same functions as a trainer's, with chosen metrics, completions and held-out answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.parsing import compose
from medgrpo.rewards import advantages, explain, total
from medgrpo.training.config import parse_config, write_config
from medgrpo.training.recording import record_held_out
from medgrpo.training.run_directory import RunDirectory, append_lines

CASE = Case(
    id="casebook/train/000001",
    question="A 45-year-old man has crushing chest pain and sweats. The ECG shows ST elevation. Diagnosis?",
    answer="Acute myocardial infarction",
    kind="diagnosis",
    aliases=("heart attack",),
    findings=("crushing chest pain", "ST elevation"),
)
RIGHT = compose('"crushing chest pain" and "ST elevation" fit.', "Acute myocardial infarction. Next: ECG.")
WRONG = compose('"crushing chest pain" may be a tear.', "Aortic dissection. Next: CT.")
BARE = "<answer>Acute myocardial infarction</answer>"
CUT = "<reasoning>It could be many things and"

START = 1_800_000_000.0


def a_run(path: Path, lines: Sequence[Mapping[str, Any]] = (), stage: str = "grpo", **config: Any) -> RunDirectory:
    """A finished run with these lines of metrics; `step` and `time` are added."""
    run = RunDirectory(path)
    run.create()
    write_config(parse_config({"stage": stage, **config}), run.config_file)
    whole = [{"step": step, "time": START + 2.0 * step, **line} for step, line in enumerate(lines, 1)]
    append_lines(run.metrics_file, whole)
    write_status(run, step=len(lines), total=len(lines), stage=stage)
    return run


def write_status(run: RunDirectory, **values: Any) -> None:
    status = {"phase": "finished", "stage": "grpo", "pid": 1, "attempt": 1, "started": START, **values}
    (run.path / "status.json").write_text(json.dumps(status), encoding="utf-8")


def steady(count: int, **changes: float | Callable[[int], float]) -> list[dict[str, Any]]:
    """Lines of a run that is well, with some names changed; a function gets the step."""
    well: dict[str, Any] = {
        "loss": 0.4,
        "grad_norm": 0.2,
        "reward": lambda step: 1.0 + 1.5 * step / count,
        "reward_std": 0.7,
        "frac_reward_zero_std": 0.1,
        "completions/mean_length": 120.0,
        "completions/clipped_ratio": 0.0,
        "rewards/format/mean": 0.9,
        "rewards/tags/mean": 0.9,
        "rewards/correctness/mean": lambda step: 0.3 + 0.6 * step / count,
        "rewards/numeric/mean": 0.5,
        "rewards/reasoning/mean": 0.6,
        "rewards/meaning/mean": 0.5,
        "rewards/next_step/mean": 0.4,
        "rewards/length/mean": 0.0,
        "entropy": 0.3,
        "learning_rate": 1e-5,
        "step_time": 2.0,
    } | changes
    return [
        {name: value(step) if callable(value) else value for name, value in well.items()}
        for step in range(1, count + 1)
    ]


def write_group(run: RunDirectory, step: int, index: int, texts: Sequence[str], case: Case = CASE, **own: Any) -> None:
    """One group, scored by the rewards as the trainer does."""
    scores = [explain(text, case) for text in texts]
    totals = [total(each) for each in scores]
    records = [
        {
            "step": step, "group": index, "case": case.id, "prompt": case.question, "completion": text,
            "scores": {score.name: score.value for score in each}, "total": whole, "advantage": advantage,
            "truncated": text == CUT, "tokens": len(text.split()), **own,
        }
        for text, each, whole, advantage in zip(texts, scores, totals, advantages(totals), strict=True)
    ]  # fmt: skip
    append_lines(run.completions_file(step), records)


def write_evaluation(run: RunDirectory, step: int, texts: Sequence[str]) -> None:
    """Held-out answers to as many cases, judged by the recorder's own function."""
    question = CASE.question
    cases = [
        Case(f"casebook/validation/{number:06d}", f"{question} ({number})", CASE.answer, "diagnosis")
        for number in range(len(texts))
    ]
    record_held_out(run, step, cases, [(text, text == CUT) for text in texts], 1.0)
