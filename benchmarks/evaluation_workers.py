"""How many cases a minute an evaluation answers on this machine's CPUs, and whether the way of asking changes an answer.

Run `python -m benchmarks.evaluation_workers` on a quiet machine (options choose model, adapter, variant). The same hard
cases are asked greedily in each way; texts are held against those of one request at a time. Results
go to `benchmarks/results/evaluation_workers.json`, one entry a model, and as a table to standard output.
"""

import argparse
import json
import os
import platform
import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from medgrpo.data import load_cases
from medgrpo.engines import BASE, GRPO, Engine, Sampling
from medgrpo.engines.llamacpp import LlamaCppEngine, available_cpus
from medgrpo.evaluation.workers import Workers, open_engine
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

RESULTS = Path(__file__).parent / "results" / "evaluation_workers.json"


def ways(settings: Settings, variant: str) -> dict[str, Callable[[], tuple[Engine, int]]]:
    """Name -> engine and requests at the same time; the first is what the others' texts are held against."""
    cores = available_cpus()
    return {
        "page's engine, one request": lambda: (LlamaCppEngine(settings), 1),
        "page's engine, two requests": lambda: (LlamaCppEngine(settings), 2),
        "one process, all threads": lambda: open_engine(settings, variant, 1),
        "one process, all threads, 4 batched": lambda: (LlamaCppEngine(settings, 4, variants=(variant,)), 4),
        f"{cores} processes of one thread, beginnings reused": lambda: (
            Workers(reusing(settings, variant, cores)),
            cores,
        ),
        f"{cores} processes of one thread": lambda: open_engine(settings, variant, cores),
    }


def reusing(settings: Settings, variant: str, cores: int) -> list[LlamaCppEngine]:
    """Engines that keep the beginning which a prompt shares with the one before."""
    return [LlamaCppEngine(replace(settings, threads=1), 1, variants=(variant,)) for _ in range(cores)]


def answer(engine: Engine, workers: int, variant: str, questions: list[str]) -> tuple[dict[str, str], float, int]:
    """Texts by question, seconds after the model was loaded, tokens."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    texts: dict[str, str] = {}
    tokens = [0]

    def work() -> None:
        while True:
            try:
                question = waiting.get_nowait()
            except queue.Empty:
                return
            deltas = list(engine.stream(build_messages(question), Sampling(), variant))
            texts[question] = "".join(deltas)
            tokens[0] += len(deltas)

    for _ in range(workers * 2):  # loads the model and caches the instructions in every process
        list(engine.stream(build_messages("Hello."), Sampling(max_tokens=2), variant))
    for question in questions:
        waiting.put(question)
    begin = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return texts, time.perf_counter() - begin, tokens[0]


def main() -> None:
    """Ask in every way, write the file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", default="")
    parser.add_argument("--variant", choices=(BASE, GRPO), default=GRPO)
    parser.add_argument("--cases", type=int, default=16)
    options = parser.parse_args()
    questions = [case.question for case in load_cases("casebook", "hard", options.cases)]
    load = round(os.getloadavg()[0], 2)
    rows: dict[str, Any] = {}
    expected: dict[str, str] = {}
    print("| way | cases/minute | tokens/s | other texts |\n|---|---|---|---|")
    for name, opened in ways(Settings(model=options.model, adapter=options.adapter), options.variant).items():
        engine, workers = opened()
        with closing(engine):
            texts, seconds, tokens = answer(engine, workers, options.variant, questions)
            model = engine.model
        expected = expected or texts
        different = sum(texts[question] != expected[question] for question in questions)
        rows[name] = {
            "cases/minute": round(60 * len(questions) / seconds, 1),
            "tokens/s": round(tokens / seconds, 1),
            "texts that differ": different,
        }
        print(f"| {name} | {rows[name]['cases/minute']} | {rows[name]['tokens/s']} | {different} of {len(questions)} |")
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    machine = {"cpus": available_cpus(), "load before": load, "python": platform.python_version()}
    kept[f"{model}, {options.variant}"] = {"cases": len(questions), "machine": machine, "ways": rows}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
