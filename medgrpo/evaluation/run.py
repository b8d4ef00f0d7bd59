"""Ask an engine every case, keep each answer at once, go on where it stopped.

A second call with the same settings answers only what is missing. The files are described in `medgrpo.evaluation.folder`.
"""

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medgrpo.cases import Case
from medgrpo.engines import Engine, Sampling
from medgrpo.engines.base import tokens_of
from medgrpo.errors import RunError
from medgrpo.evaluation.folder import read_settings, rejudge
from medgrpo.evaluation.measures import Result, judge
from medgrpo.prompts import Message, build_messages

Progress = Callable[[Sequence[Result], int], None]
_Asked = tuple[Case, int]  # a case and a seed


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
    seeds: int = 1,
    about: dict[str, Any] | None = None,
    on_progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> list[Result]:
    """Answer `cases` and judge them; returns all results of the folder in the order of `cases`, seed after seed.

    Args:
        folder: of the arm, made if absent; results of an earlier, interrupted call with the same settings are kept.
        structured: with the instructions on the form.
        examples: (question, whole completion) pairs shown before the case, for a few-shot baseline.
        workers: requests at the same time; more than the engine has slots only wait there.
        seeds: answers to each case, with the seeds `sampling.seed`, `sampling.seed + 1`, ...
        about: further fields of `settings.json`, such as "title" (which may change) and "adapter_sha256" (which may not).
        on_progress: called after each answer with the results so far and the number there will be.
        stop: set it to end within a token; answers in flight are dropped.

    Raises:
        RunError: the folder holds an evaluation with other settings.
        EngineError: the engine stopped; what was answered is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder, _describe(engine, variant, sampling, structured, len(examples)) | (about or {}))
    _end_torn_line(folder / "results.jsonl")
    done = {(result.case_id, result.seed): result for result in rejudge(folder, cases)}
    first = sampling.seed or 0
    asked = [(case, seed) for seed in range(first, first + seeds) for case in cases]
    lock, stop = threading.Lock(), stop or threading.Event()

    def one(what: _Asked) -> None:
        case, seed = what
        result = _answer(
            engine, variant, case, replace(sampling, seed=seed), _messages(case, structured, examples), stop
        )
        if result is None:
            return
        with lock:
            done[case.id, seed] = result
            _append(folder / "results.jsonl", result.record())
            if on_progress is not None:
                on_progress([done[case.id, seed] for case, seed in asked if (case.id, seed) in done], len(asked))

    _for_each([(case, seed) for case, seed in asked if (case.id, seed) not in done], one, workers, stop)
    return [done[case.id, seed] for case, seed in asked if (case.id, seed) in done]


def _answer(
    engine: Engine, variant: str, case: Case, sampling: Sampling, messages: list[Message], stop: threading.Event
) -> Result | None:
    """The judged answer to one case; None if it was stopped before its end."""
    if stop.is_set():
        return None
    start = time.perf_counter()
    text, count = "", 0
    with closing(_generator(engine.stream(messages, sampling, variant))) as deltas:
        for delta in deltas:
            text, count = text + delta, count + tokens_of(delta)
            if stop.is_set():
                break
    if stop.is_set():
        return None
    seconds = time.perf_counter() - start
    cut = count >= sampling.max_tokens
    return judge(case, text, seed=sampling.seed or 0, tokens=count, truncated=cut, seconds=seconds)


def _generator(deltas: Iterator[str]) -> Generator[str]:
    """A generator, which can be closed, over whatever iterator an engine returned."""
    yield from deltas


def _for_each(what: Sequence[_Asked], work: Callable[[_Asked], None], workers: int, stop: threading.Event) -> None:
    """Run `work` on everything; the first error ends it, and so does Ctrl+C: nothing else is begun or waited for long."""
    pool = ThreadPoolExecutor(workers)
    try:
        pending = [pool.submit(work, each) for each in what]
        finished, _ = wait(pending, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
    except KeyboardInterrupt:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _messages(case: Case, structured: bool, examples: Sequence[tuple[str, str]]) -> list[Message]:
    *system, user = build_messages(case.question, structured=structured)
    shown = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in examples]
    return [*system, *(message for pair in shown for message in pair), user]


def _describe(engine: Engine, variant: str, sampling: Sampling, structured: bool, examples: int) -> dict[str, Any]:
    return {
        "engine": engine.name,
        "model": engine.model,
        "adapter": adapter_name(engine.adapter) if variant != "base" else "",
        "variant": variant,
        "structured": structured,
        "quotes": getattr(engine, "quotes", "free"),
        "examples": examples,
        "sampling": asdict(sampling),
    }


def adapter_name(adapter: str) -> str:
    """A name for an adapter that says nothing about this machine: of a folder or file its last two parts."""
    return "/".join(Path(adapter).resolve().parts[-2:]) if adapter and Path(adapter).exists() else adapter


def claim(folder: Path, settings: dict[str, Any], anew: bool = False) -> None:
    """Write an arm's settings, or hold them against those that stand there; fields that were not written then are added.

    Raises:
        RunError: a field other than the title differs, and it isn't to be written `anew`.
    """
    kept = {} if anew else read_settings(folder)
    kept = kept and {"quotes": "free"} | kept  # an evaluation from before this setting
    different = sorted(key for key in settings if key != "title" and kept.get(key, settings[key]) != settings[key])
    if different:
        raise RunError(
            f"{folder} holds an evaluation with another {' and '.join(different)}: "
            "give another name or folder, or delete that one."
        )
    if kept != kept | settings:
        (folder / "settings.json").write_text(json.dumps(kept | settings, indent=2) + "\n", encoding="utf-8")


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _end_torn_line(path: Path) -> None:
    """After a kill in mid-write, keep the next line from being glued to the torn one."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
