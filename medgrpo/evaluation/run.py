"""Ask an engine every case once, keep each answer at once, go on where it stopped.

An evaluation is a folder: `settings.json` (what was asked of whom), `results.jsonl` (one line a case, appended), and the
report written from them. A second call with the same settings answers only the cases that are missing.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.engines import Engine, Sampling
from medgrpo.errors import RunError
from medgrpo.evaluation.measures import Result, judge
from medgrpo.prompts import Message, build_messages

Progress = Callable[[int, int], None]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The lines of `results.jsonl`; a torn one is left out."""
    path = folder / "results.jsonl"
    if not path.is_file():
        return []
    results: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            results.append(json.loads(line))
        except ValueError:
            continue
    return results


def rejudge(folder: Path, cases: Sequence[Case]) -> list[Result]:
    """The kept answers to `cases`, judged anew: texts are kept for good, verdicts follow the matcher of today.

    One result a case and seed; if an answer stands there twice, the later one counts.
    """
    by_id = {case.id: case for case in cases}
    fields = ("seed", "tokens", "seconds", "truncated")
    records = {(record["case_id"], record["seed"]): record for record in read_records(folder)}
    return [
        judge(by_id[case_id], record["text"], **{name: record[name] for name in fields})
        for (case_id, _), record in records.items()
        if case_id in by_id
    ]


def evaluate(
    engine: Engine,
    variant: str,
    cases: Sequence[Case],
    folder: Path,
    *,
    sampling: Sampling = Sampling(),
    structured: bool = True,
    examples: Sequence[tuple[str, str]] = (),
    workers: int = 1,
    on_progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> list[Result]:
    """Answer `cases` and judge them; returns all results of the folder in the order of `cases`.

    Args:
        folder: made if absent; results of an earlier, interrupted call with the same settings are kept.
        structured: with the instructions on the form.
        examples: (question, whole completion) pairs shown before each case, for a few-shot control.
        workers: requests at the same time.
        on_progress: called with (answered, all) after each case.
        stop: set it to end after the cases in flight.

    Raises:
        RunError: the folder holds an evaluation with other settings.
        EngineError: the engine stopped; what was answered is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, _describe(engine, variant, sampling, structured, len(examples)))
    _end_torn_line(folder / "results.jsonl")
    done = {(result.case_id, result.seed): result for result in rejudge(folder, cases)}
    seed = sampling.seed or 0
    lock = threading.Lock()

    def one(case: Case) -> None:
        if stop is not None and stop.is_set():
            return
        start = time.perf_counter()
        deltas = list(engine.stream(_messages(case.question, structured, examples), sampling, variant))
        count, seconds = len(deltas), time.perf_counter() - start
        result = judge(
            case, "".join(deltas), seed=seed, tokens=count, truncated=count >= sampling.max_tokens, seconds=seconds
        )
        with lock:
            done[case.id, seed] = result
            _append(folder / "results.jsonl", asdict(result))
            if on_progress is not None:
                on_progress(len(done), len(cases))

    _for_each([case for case in cases if (case.id, seed) not in done], one, workers)
    return [done[case.id, seed] for case in cases if (case.id, seed) in done]


def _for_each(cases: Sequence[Case], work: Callable[[Case], None], workers: int) -> None:
    """Run `work` on every case; the first error ends it after the cases in flight."""
    pool = ThreadPoolExecutor(workers)
    try:
        pending = [pool.submit(work, case) for case in cases]
        finished, _ = wait(pending, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
    finally:  # also when a person presses Ctrl+C
        pool.shutdown(cancel_futures=True)


def _messages(question: str, structured: bool, examples: Sequence[tuple[str, str]]) -> list[Message]:
    *system, user = build_messages(question, structured=structured)
    shown = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in examples]
    return [*system, *(message for pair in shown for message in pair), user]


def _describe(engine: Engine, variant: str, sampling: Sampling, structured: bool, examples: int) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "model": engine.model,
        "adapter": engine.adapter if variant != "base" else "",
        "variant": variant,
        "structured": structured,
        "examples": examples,
        "sampling": asdict(sampling),
    }


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.is_file():
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return
    kept = json.loads(path.read_text(encoding="utf-8"))
    different = sorted(key for key in settings if kept.get(key) != settings[key])
    if different:
        raise RunError(
            f"{folder} holds an evaluation with another {' and '.join(different)}: give another --out, or delete the folder."
        )


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _end_torn_line(path: Path) -> None:
    """After a kill in mid-write, keep the next line from being glued to the torn one."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
