"""What a run leaves behind while it trains: metrics, the policy's completions, held-out answers, and how it is stopped.

The completions are taken where the rewards are called, through the same public contract that every TRL version keeps,
so a recorded score is the score that trained. The advantages are TRL's formula over these scores. Recording costs one
small write a step. Nothing here loads torch.
"""

import functools
import json
import math
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from medgrpo.cases import Case
from medgrpo.matching import match
from medgrpo.parsing import parse
from medgrpo.rewards import RewardFunction, Scale, Score, advantages, total
from medgrpo.training.run_directory import RunDirectory, append_lines, write_atomically


class StopRequest:
    """Whether the run was asked to end: by the control file or by SIGTERM. A second SIGTERM ends it at once."""

    def __init__(self, run: RunDirectory) -> None:
        self._file = run.stop_file
        self._signalled = False

    def listen(self) -> None:
        """Take SIGTERM from now on; called again after libraries that set handlers of their own. Main thread only."""
        if not self._signalled:
            signal.signal(signal.SIGTERM, self._on_signal)

    def requested(self) -> bool:
        return self._signalled or self._file.exists()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class CompletionRecorder:
    """Wraps the rewards and writes each batch of completions with every score, once all rewards have spoken.

    Args:
        run: where to write.
        weights: reward name -> weight, in the order in which the trainer calls them.
        group_size: completions of one prompt; they stand next to each other in a batch.
        scale: "group", "batch" or "none", as TRL's scale_rewards.
        eos_ids: tokens that end a completion; one that ends otherwise was truncated.
        every: record only steps that are a multiple of this, and the first.
        limit: completions kept of a recorded step, rounded down to whole groups but at least one; 0 records nothing.
    """

    def __init__(
        self,
        run: RunDirectory,
        weights: Mapping[str, float],
        group_size: int,
        scale: Scale,
        eos_ids: Sequence[int],
        every: int = 1,
        limit: int = 64,
    ) -> None:
        self._run = run
        self._weights = dict(weights)
        self._group_size = group_size
        self._scale = scale
        self._eos_ids = frozenset(eos_ids)
        self._every = every
        self._kept = max(1, limit // group_size) * group_size if limit else 0
        self._scores: dict[str, list[float | None]] = {}

    def wrap(self, name: str, reward: RewardFunction) -> RewardFunction:
        """The same reward under its own name, with its scores noted on the way."""

        @functools.wraps(reward)
        def recorded(completions: list[Any], **columns: Any) -> list[float | None]:
            scores = reward(completions=completions, **columns)
            self._scores[name] = list(scores)
            if len(self._scores) == len(self._weights):
                self._write(completions, columns)
                self._scores = {}
            return scores

        recorded.__name__ = name
        return recorded

    def _write(self, completions: list[Any], columns: Mapping[str, Any]) -> None:
        step = columns["trainer_state"].global_step + 1
        if not self._kept or (step != 1 and step % self._every):
            return
        rows = list(zip(*(self._scores[name] for name in self._weights), strict=True))
        totals = [self._total(row) for row in rows]
        strengths = batch_advantages(totals, self._group_size, self._scale)
        records = []
        for index in range(min(self._kept, len(completions))):
            tokens = columns["completion_ids"][index]
            records.append(
                {
                    "step": step,
                    "group": index // self._group_size,
                    "case": _column(columns, "case_id", index),
                    "prompt": _last_content(columns["prompts"][index]),
                    "completion": _last_content(completions[index]),
                    "scores": {name: _finite(score) for name, score in zip(self._weights, rows[index], strict=True)},
                    "total": _finite(totals[index]),
                    "advantage": round(strengths[index], 6),
                    "truncated": not tokens or tokens[-1] not in self._eos_ids,
                    "tokens": len(tokens),
                }
            )
        append_lines(self._run.completions_file(step), records)

    def _total(self, row: Sequence[float | None]) -> float | None:
        return total(
            Score(name, score, self._weights[name], "") for name, score in zip(self._weights, row, strict=True)
        )


def batch_advantages(totals: Sequence[float | None], group_size: int, scale: Scale) -> list[float]:
    """Advantages of a batch, its groups one after another; "batch" divides by the spread of the whole batch."""
    groups = [totals[start : start + group_size] for start in range(0, len(totals), group_size)]
    if scale != "batch":
        return [value for group in groups for value in advantages(group, scale)]
    judged = [value for value in totals if value is not None]
    spread = statistics.stdev(judged) if len(judged) > 1 else 0.0
    return [value / (spread + 1e-4) for group in groups for value in advantages(group, "none")]


def append_metrics(run: RunDirectory, step: int, logs: Mapping[str, Any]) -> None:
    """One line of metrics.jsonl under the trainer's own names; numbers that are not finite become null."""
    line = {"step": step, "time": round(time.time(), 3)}
    line.update({key: _finite(value) for key, value in logs.items() if key != "step"})
    append_lines(run.metrics_file, [line])


def record_held_out(
    run: RunDirectory, step: int, cases: Sequence[Case], answers: Sequence[tuple[str, bool]], seconds: float
) -> dict[str, Any]:
    """Judge the held-out answers and write `evals/<step>.json`; returns it without the texts.

    Args:
        answers: (text, truncated) for each case.
        seconds: what the generation took.
    """
    judged = [_judge(case, text, truncated) for case, (text, truncated) in zip(cases, answers, strict=True)]
    counted = [answer for answer in judged if answer["correct"] is not None]
    summary: dict[str, Any] = {
        "step": step,
        "cases": len(judged),
        "judged": len(counted),
        "accuracy": _share([answer["correct"] and answer["format"] == "ok" for answer in counted]),
        "lenient_accuracy": _share([answer["correct"] for answer in counted]),
        "format_rate": _share([answer["format"] == "ok" for answer in judged]),
        "truncated": _share([answer["truncated"] for answer in judged]),
        "seconds": round(seconds, 2),
    }
    write_atomically(
        run.evaluation_file(step), json.dumps({**summary, "answers": judged}, ensure_ascii=False, indent=1)
    )
    return summary


def _judge(case: Case, text: str, truncated: bool) -> dict[str, Any]:
    """Strict accuracy asks for `correct` and `format` "ok"; `correct` alone also reads a broken form."""
    sections = parse(text)
    matched = match(sections.answer, case)
    return {
        "id": case.id,
        "question": case.question,
        "reference": case.answer,
        "text": text,
        "answer": sections.answer,
        "format": sections.status,
        "correct": matched.correct,
        "why": matched.why,
        "truncated": truncated,
    }


def _share(flags: Sequence[Any]) -> float:
    return round(sum(map(bool, flags)) / len(flags), 4) if flags else 0.0


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _column(columns: Mapping[str, Any], name: str, index: int) -> str:
    values = columns.get(name)
    return str(values[index]) if values else ""


def _last_content(messages: Any) -> str:
    """The text of a prompt or completion, given as chat messages or as plain text."""
    return str(messages[-1]["content"]) if isinstance(messages, list) else str(messages)
