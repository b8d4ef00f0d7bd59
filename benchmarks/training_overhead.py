"""What the run directory costs: time in our recording, callbacks and status, as a share of the step of bare TRL.

Run `python benchmarks/training_overhead.py`. Part one trains the smoke run (real GRPO steps of SmolLM2-135M on this CPU) in
a process of its own and adds up the time inside every piece of ours that a bare TRL script does not have; the rewards
themselves, which such a script calls too, and the held-out cases do not count. A step without that time is the bare
step, so both come from the same run and noise of the machine cannot hide or invent a difference. Part two writes 256
completions a step, as the GPU presets do, against the median step of the recorded GPU run. Prints a table and writes
`benchmarks/results/training_overhead.json`.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from medgrpo.data import load_cases
from medgrpo.rewards import PROFILES, REWARDS, case_columns
from medgrpo.training.recording import CompletionRecorder, append_metrics
from medgrpo.training.run_directory import RunDirectory, StatusWriter, read_lines

ROOT = Path(__file__).parent.parent
GOAL = 0.02
RESULT = ROOT / "benchmarks" / "results" / "training_overhead.json"
RECORDED = ROOT / "medgrpo" / "assets" / "smollm2-135m" / "runs" / "grpo"


class Clock:
    """Adds up the time inside the functions it watches, inner ones of its own once and paused ones not at all."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = threading.local()
        self._lock = threading.Lock()

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._counted(function, 1.0)

    def pause(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._counted(function, -1.0)

    def _counted(self, function: Callable[..., Any], sign: float) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            before = getattr(self._depth, "sign", 0.0)
            if before == sign or (sign < 0 and before == 0.0):
                return function(*args, **kwargs)
            self._depth.sign = sign
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds += sign * (time.perf_counter() - began)
                self._depth.sign = before

        return counted


def train_watched(folder: Path, steps: int) -> None:
    """Train in this process with every piece of ours watched; writes (ours, step) of each step to `watched.json`."""
    from train import callbacks, grpo, session
    from train.launch import Attempt, launch

    clock, lines = Clock(), []
    for holder, names in (
        (callbacks.RunCallback, ("on_step_begin", "on_step_end", "on_log")),
        (StatusWriter, ("update",)),
        (Attempt, ("say",)),
    ):
        for name in names:
            setattr(holder, name, clock.watch(getattr(holder, name)))
    wrap = CompletionRecorder.wrap
    CompletionRecorder.wrap = lambda self, name, reward: clock.watch(wrap(self, name, clock.pause(reward)))  # type: ignore[method-assign]

    class Steps(session.RunCallback):  # the last piece of ours in a step: its end closes the line
        def on_log(self, *args: Any, **kwargs: Any) -> None:
            super().on_log(*args, **kwargs)
            if "train_runtime" not in (kwargs.get("logs") or {}):  # the Trainer's closing summary is not a step
                lines.append((clock.seconds, time.perf_counter()))

    session.RunCallback = Steps  # type: ignore[misc]
    overrides = [
        f"--set={each}" for each in ("evaluation.limit=0", f"training.max_steps={steps}", "rewards.audit=skip")
    ]
    overrides += ["--set=training.save_steps=1000", "--set=data.limit=16"]
    arguments = ["--config", str(ROOT / "train" / "configs" / "smoke_cpu.yaml"), "--run-dir", str(folder), *overrides]
    code = launch("grpo", grpo.train, arguments)
    pairs = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(lines)]
    (folder / "watched.json").write_text(json.dumps(pairs))
    sys.exit(code)


def cpu_run(steps: int) -> dict[str, Any]:
    """Part one: seconds of ours and of the bare step, means over the steps after the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, __file__, "--watched", str(run), "--steps", str(steps)]
        environment = {"MEDGRPO_RUNS": str(ROOT / "runs"), **os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the training run failed:\n{done.stdout}{done.stderr}")
        pairs = json.loads((run / "watched.json").read_text())
    ours = [pair[0] for pair in pairs]
    bare = [pair[1] - pair[0] for pair in pairs]
    return {
        "steps": len(pairs),
        "ours_ms": round(1000 * statistics.mean(ours), 3),
        "bare_step_s": round(statistics.mean(bare), 3),
        "share": sum(ours) / sum(bare),
    }


def gpu_sized(steps: int = 60, completions: int = 256, group: int = 8, tokens: int = 160) -> dict[str, Any]:
    """Part two: recording of 256 completions a step, the status and the metrics, against the recorded GPU step."""
    profile = PROFILES["medgrpo"]
    cases = load_cases("casebook", "validation", completions // group)
    rows = [case_columns(case) for case in cases for _ in range(group)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    text = (
        "<reasoning>\n"
        + "The findings fit together and point to one answer. " * 12
        + "</reasoning>\n<answer>\n{}\n</answer>"
    )
    written = [[{"role": "assistant", "content": text.format(case.answer)}] for case in cases for _ in range(group)]
    ids = [list(range(tokens)) for _ in rows]
    logs = dict(list(read_lines(RECORDED / "metrics.jsonl"))[-1])
    step_seconds = statistics.median(line["step_time"] for line in read_lines(RECORDED / "metrics.jsonl"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        run.create()
        status = StatusWriter(run, "grpo")
        recorder = CompletionRecorder(run, profile, group, "group", [0], 1, completions)
        rewards = [clock.watch(recorder.wrap(name, clock.pause(REWARDS[name]))) for name in profile]
        update, metrics = clock.watch(status.update), clock.watch(append_metrics)
        times = []
        for step in range(1, steps + 1):
            before = clock.seconds
            update(phase="generating")
            state = type("State", (), {"global_step": step - 1})()
            prompts = [[{"role": "user", "content": case.question}] for case in cases for _ in range(group)]
            for reward in rewards:
                reward(prompts=prompts, completions=written, completion_ids=ids, trainer_state=state, **columns)
            update(phase="training", step=step)
            metrics(run, step, logs)
            times.append(clock.seconds - before)
        status.close()
    ours = statistics.median(times)
    return {
        "completions": completions,
        "ours_ms": round(1000 * ours, 3),
        "bare_step_s": round(step_seconds, 3),
        "share": ours / step_seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="steps of the CPU run (default 5)")
    parser.add_argument("--watched", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watched:
        train_watched(options.watched, options.steps)
    parts = {"smoke run on this CPU": cpu_run(options.steps), "256 completions a step, recorded GPU run": gpu_sized()}
    for name, part in parts.items():
        print(f"{name:42} ours {part['ours_ms']:8.2f} ms, bare step {part['bare_step_s']:7.2f} s, {part['share']:.3%}")
    met = all(part["share"] <= GOAL for part in parts.values())
    print(f"goal {GOAL:.0%}: {'met' if met else 'missed'}")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {"goal": GOAL, "met": met, "machine": machine, "parts": parts}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
