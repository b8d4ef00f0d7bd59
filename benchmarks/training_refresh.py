"""The server's part of one refresh of the live view, for a run of 20,000 steps, and of listing 100 finished runs.

Run `python benchmarks/training_refresh.py`. The run is the shipped recording grown to 20,000 steps in a temporary folder:
metrics every step, a group of completions every tenth, 64 held-out cases every 200. Measured is what a tick of the page
costs: read what is new, make the parts that changed, and encode them as JSON, as Gradio sends them. The 100 runs are the
recording as well, each with three checkpoints of 45 steps' history, listed twice by a new process. Prints two tables and
writes `benchmarks/results/training_refresh.json`.
"""

import json
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from medgrpo.models import PROFILES
from medgrpo.training.run_directory import RunDirectory, append_lines
from medgrpo.ui.known_cases import KnownCases
from medgrpo.ui.train_sight import Picks, see

STEPS, RECORDED, EVALUATED, CASES, ROUNDS = 20_000, 10, 200, 64, 30
GOAL = 100.0
RUNS, CHECKPOINTS, LIST_GOAL = 100, (15, 30, 45), 500.0
SOURCE = PROFILES["smollm2-135m"].assets / "runs" / "grpo"
RESULT = Path(__file__).parent / "results" / "training_refresh.json"


def grow(folder: Path, steps: int = STEPS) -> RunDirectory:
    """The shipped recording repeated until it has so many steps."""
    source, run = RunDirectory(SOURCE), RunDirectory(folder)
    run.create()
    run.config_file.write_bytes(source.config_file.read_bytes())
    lines = source.metrics()
    append_lines(run.metrics_file, [line_of(lines, step) for step in range(1, steps + 1)])
    recorded = [source.completions(step) for step in source.completion_steps()]
    for number, step in enumerate(range(RECORDED, steps + 1, RECORDED)):
        append_lines(run.completions_file(step), recorded[number % len(recorded)])
    evaluations = [source.evaluation(step) for step in source.evaluation_steps()]
    for number, step in enumerate(range(0, steps + 1, EVALUATED)):
        evaluation = evaluations[number % len(evaluations)]
        few = {**evaluation, "step": step, "cases": CASES, "answers": evaluation["answers"][:CASES]}
        run.evaluation_file(step).write_text(json.dumps(few), encoding="utf-8")
    status = json.loads((SOURCE / "status.json").read_text(encoding="utf-8"))
    (folder / "status.json").write_text(json.dumps({**status, "step": steps, "total": 2 * steps}), encoding="utf-8")
    return run


def line_of(lines: list[dict[str, Any]], step: int) -> dict[str, Any]:
    return {**lines[step % len(lines)], "step": step, "time": lines[0]["time"] + 2.2 * step}


class Cases(KnownCases):
    """No case is looked for: reading the source is another thread's work and happens once a process."""

    def find(self, source: str, split: str, case_id: str) -> tuple[None, bool]:
        return None, False


def look(run: RunDirectory, seen: dict[str, str], picks: Picks) -> tuple[dict[str, str], int]:
    """One refresh; returns the new marks and the bytes that would be sent."""
    sight = see("run", lambda _: run, picks, None, seen, Cases(), lambda: [])
    return sight.seen, len(json.dumps(sight.values))


def times(rounds: int, work: Callable[[], tuple[dict[str, str], int]]) -> tuple[list[float], int]:
    spent, size = [], 0
    for _ in range(rounds):
        start = perf_counter()
        _, size = work()
        spent.append(1000 * (perf_counter() - start))
    return spent, size


def measure(run: RunDirectory, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Milliseconds and bytes of each kind of refresh."""
    lines = RunDirectory(SOURCE).metrics()
    picks = Picks("run")
    start = perf_counter()
    seen, size = look(run, {}, picks)
    first = 1000 * (perf_counter() - start)
    step = STEPS
    state = {"seen": seen}

    def next_step() -> tuple[dict[str, str], int]:
        state["seen"], sent = look(run, state["seen"], picks)
        return state["seen"], sent

    def grown() -> tuple[list[float], int]:
        nonlocal step
        spent, sent = [], 0
        for _ in range(rounds):
            step += 1
            append_lines(run.metrics_file, [line_of(lines, step)])
            one, sent = times(1, next_step)
            spent += one
        return spent, sent

    found = {"first look of the process": ([first], size)}
    found["one new step"] = grown()
    found["nothing new"] = times(rounds, next_step)
    found["page reloaded"] = times(rounds, lambda: look(run, {}, picks))
    everything = Picks("run", step="all", which="right but malformed")
    found["search through 40 recorded steps"] = times(rounds, lambda: look(run, state["seen"], everything))
    return {
        name: {"median_ms": round(statistics.median(spent), 1), "worst_ms": round(max(spent), 1), "bytes": sent}
        for name, (spent, sent) in found.items()
    }


def finished_runs(folder: Path) -> None:
    """So many finished runs, their checkpoints whole but for the size of their weights."""
    for number in range(RUNS):
        run = folder / f"202601{number // 24 + 1:02}-{number % 24:02}0000-finished"
        run.mkdir(parents=True)
        for name in ("config.yaml", "status.json", "metrics.jsonl"):
            shutil.copy(SOURCE / name, run / name)
        for step in CHECKPOINTS:
            checkpoint = run / f"checkpoint-{step}"
            checkpoint.mkdir()
            (checkpoint / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
            for name in ("optimizer.pt", "scheduler.pt"):
                with zipfile.ZipFile(checkpoint / name, "w") as archive:
                    archive.writestr("data", "x")
            history = [{"step": each, "loss": 0.1, "reward": 1.0} for each in range(step)]
            (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))


LISTS = """
import sys, time
from pathlib import Path
from medgrpo.training.manager import RunManager
manager, clock = RunManager(Path(sys.argv[1])), getattr(time, sys.argv[2])
for _ in range(2):
    begun = clock()
    found = manager.runs()
    print(clock() - begun)
assert len(found) == {runs} and all(run.checkpoints == {checkpoints} and run.model for run in found), found[:2]
"""


def listings(folder: Path, rounds: int = 5, clock: str = "perf_counter") -> list[tuple[float, float]]:
    """Seconds of the first and of the next list of all runs, by this clock of `time`, each pair in a new process."""
    finished_runs(folder)
    command = [sys.executable, "-c", LISTS.format(runs=RUNS, checkpoints=CHECKPOINTS), str(folder), clock]
    pairs = []
    for _ in range(rounds):
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
        first, again = map(float, done.stdout.split())
        pairs.append((first, again))
    return pairs


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = measure(grow(Path(folder) / "run"))
        firsts, nexts = zip(*listings(Path(folder) / "runs"), strict=True)
    lists = {
        name: {"median_ms": round(1000 * statistics.median(spent), 1), "worst_ms": round(1000 * max(spent), 1)}
        for name, spent in (("first look of the process", firsts), ("the next look", nexts))
    }
    print(f"{STEPS:,} steps, {ROUNDS} rounds, Python {platform.python_version()}\n")
    print(f"{'refresh':34} {'median ms':>10} {'worst ms':>10} {'bytes':>10}")
    for name, row in found.items():
        print(f"{name:34} {row['median_ms']:10.1f} {row['worst_ms']:10.1f} {row['bytes']:10,}")
    reached = found["one new step"]["median_ms"] <= GOAL
    print(f"\ngoal {GOAL:.0f} ms for one new step: {'reached' if reached else 'missed'}")
    print(f"\n{RUNS} finished runs{'':18} {'median ms':>10} {'worst ms':>10}")
    for name, row in lists.items():
        print(f"{name:34} {row['median_ms']:10.1f} {row['worst_ms']:10.1f}")
    listed = lists["first look of the process"]["median_ms"] <= LIST_GOAL
    print(f"\ngoal {LIST_GOAL:.0f} ms for the first look: {'reached' if listed else 'missed'}")
    record = {"steps": STEPS, "goal_ms": GOAL, "refresh": found}
    record |= {"runs": RUNS, "list_goal_ms": LIST_GOAL, "list": lists}
    record |= {"python": platform.python_version(), "machine": platform.machine()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if reached and listed else 1


if __name__ == "__main__":
    sys.exit(main())
