"""What one GRPO step costs, Qwen2.5-3B's shape, 32 completions of 512 tokens, LoRA of rank 64, on one GPU.

Run `python -m benchmarks.gpu.grpo_step --gguf FILE [--arms ...]`. Each arm is a process of its own on the same GPU, the
same cases and the same values of the trainer, from the preset of the configuration:

  plain         TRL alone, completions from transformers' generate, weights in bfloat16 (its fastest form)
  bare          TRL + vLLM in a script without anything of ours (`bare_trl.py`)
  ours          `python -m train.grpo`, back end TRL + vLLM, with run directory, recording and callbacks
  unsloth       `python -m train.grpo`, back end Unsloth with its vLLM, 16 bits
  unsloth-4bit  the same with the base in 4 bits

A step is the time between two log lines, so everything around the optimiser counts; the first ones warm up and don't.
Memory is the most that the driver reports in use, vLLM's reserved share included. A figure is written for every pair
whose arms ran: plain / ours, ours / bare, unsloth / ours. `--read FOLDER` runs nothing and compares arms that ran before,
each in `FOLDER/<arm>` as it lies under `--work`; one that the clock ended counts with the steps it has.
"""

import itertools
import json
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import common
from medgrpo.training.config import read_config, write_config
from medgrpo.training.run_directory import read_lines

PRESET = common.ROOT / "train" / "configs" / "qwen2.5_3b_80gb.yaml"
WORK = [
    "init_adapter=", "data.source=casebook", "data.split=train", "data.limit=256", "evaluation.limit=0",
    f"lora.r={common.RANK}", f"lora.alpha={common.RANK}", "training.save_steps=1000000", "training.logging_steps=1",
    "rewards.audit=skip", "grpo.num_generations=8", "grpo.max_completion_length=512", "grpo.num_iterations=1",
]  # fmt: skip
DRY = [
    "precision=fp32", "grpo.num_generations=4", "grpo.max_completion_length=8", "grpo.use_vllm=false", "data.limit=16",
    "lora.r=8", "training.optim=adamw_torch",
]  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One contender.

    Attributes:
        program: module that trains.
        changes: values that differ from the preset's.
        steps: optimiser steps; 0 for as many as the command line says.
        warm: steps that don't count.
        launcher: words before `-m program`, after the interpreter.
        gpus: places among the GPUs that this program may see.
        share: processes that divide a step between them.
    """

    program: str
    changes: tuple[str, ...] = ()
    steps: int = 0
    warm: int = 2
    launcher: tuple[str, ...] = ()
    gpus: str = "0"
    share: int = 1


OURS, BARE = "train.grpo", "benchmarks.gpu.bare_trl"
ARMS = {
    "bare": Arm(BARE),
    "ours": Arm(OURS),
    "plain": Arm(BARE, ("grpo.use_vllm=false", "precision=bf16"), steps=3, warm=1),
    "unsloth": Arm(OURS, ("backend=unsloth", "precision=bf16"), warm=3),
    "unsloth-4bit": Arm(OURS, ("backend=unsloth", "precision=4bit"), warm=3),
}

FIGURES: dict[str, tuple[str, str, str, str, float | None]] = {
    "grpo_bare": ("GRPO step: ours against a bare TRL + vLLM script", "ours", "bare", "<=", 1.02),
    "grpo_plain": ("GRPO step: plain TRL + transformers against ours", "plain", "ours", ">=", 6.0),
    "grpo_unsloth": ("GRPO step: Unsloth against TRL + vLLM", "unsloth", "ours", "<=", None),
    "grpo_unsloth_4bit": ("GRPO step: Unsloth in 4 bits against TRL + vLLM", "unsloth-4bit", "ours", "<=", None),
}
"""File -> title, the arm above and the arm below the line, and what their ratio should reach."""


def options_of(parser: ArgumentParser, steps: int, batch: int, limit: float) -> None:
    """Arguments that every training benchmark takes."""
    parser.add_argument("--config", type=Path, default=PRESET, help="preset that the other values come from")
    parser.add_argument("--steps", type=int, default=steps, help=f"of each arm (default {steps})")
    parser.add_argument("--batch", type=int, default=batch, help=f"completions of one pass (default {batch})")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further values of all arms")
    parser.add_argument("--limit", type=float, default=limit, help="seconds that one arm may take")


def timed(name: str, arm: Arm, completions: int, options: Namespace) -> dict[str, Any]:
    """One arm: seconds of each step, seconds until the first one was over, peak memory."""
    model, _ = common.model_folders(options)
    steps = arm.steps or options.steps
    folder = options.work / "arms" / f"{time.strftime('%H%M%S')}-{name}"
    folder.mkdir(parents=True)
    passes = completions // options.batch // arm.share
    overrides = [f"model={model}", f"training.max_steps={steps}", *WORK]
    overrides += [f"training.per_device_train_batch_size={options.batch}"]
    overrides += [f"training.gradient_accumulation_steps={passes}", *arm.changes, *(DRY if options.dry else [])]
    config = read_config(options.config, [*overrides, *options.set], "grpo")
    write_config(config, folder / "config.yaml")
    (folder / "machine.json").write_text(json.dumps(common.machine()), encoding="utf-8")
    command = [sys.executable, *arm.launcher, "-m", arm.program]
    command += ["--config", str(folder / "config.yaml"), "--run-dir", str(folder / "run")]
    environment = {"MEDGRPO_RUNS": str(folder), "CUDA_VISIBLE_DEVICES": common.visible(arm.gpus)}
    if options.dry:
        environment["OMP_NUM_THREADS"] = "1"  # with more, a busy machine makes a step ten times longer
    print(f"{name}: {steps} steps ...", flush=True)
    began = time.time()
    ran = common.run(command, folder / "log.txt", environment, options.limit)
    return row(name, arm, folder, began, ran)


def row(name: str, arm: Arm, folder: Path, began: float | None = None, ran: common.Ran | None = None) -> dict[str, Any]:
    """What the folder of an arm says of it: `config.yaml` and `run/metrics.jsonl`; the rest if it ran just now."""
    config = read_config(folder / "config.yaml", [], "grpo")
    steps = config.training.max_steps
    times = [float(line["time"]) for line in read_lines(folder / "run" / "metrics.jsonl")]
    if len(times) < (steps if ran else arm.warm + 2):
        raise SystemExit(f"{name} logged {len(times)} of {steps} steps: look at {folder}.")
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)]
    counted = seconds[arm.warm - 1 :] or seconds[-1:]
    training = config.training
    return {
        "arm": name,
        "step, s": round(statistics.median(counted), 3),
        "least": round(min(counted), 3),
        "most": round(max(counted), 3),
        "steps counted": len(counted),
        "until the first step was done, s": round(times[0] - began, 1) if began else None,
        "in all, s": round(ran.seconds, 1) if ran else None,
        "peak memory of a GPU, GiB": round(max(ran.peak), 1) if ran and ran.peak else None,
        "completions": f"{training.per_device_train_batch_size} x {training.gradient_accumulation_steps} x {arm.share}",
        "precision": config.precision,
    }


def main() -> None:
    parser = common.parser("grpo_step", __doc__)
    parser.add_argument("--arms", nargs="+", default=["bare", "ours", "plain"], choices=list(ARMS))
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="compare arms that ran before, and run nothing")
    options_of(parser, steps=20, batch=16, limit=400)
    options = parser.parse_args()
    completions = 32
    if options.dry:
        completions = options.batch = 4
    rows: dict[str, dict[str, Any]] = {}
    failed = []
    for name in dict.fromkeys(options.arms):
        try:
            arm, kept = ARMS[name], options.read and options.read / name
            rows[name] = row(name, arm, kept) if kept else timed(name, arm, completions, options)
        except SystemExit as error:
            print(error, flush=True)
            failed.append(name)
            continue
        for file, (title, over, under, sign, goal) in FIGURES.items():  # at once: a later arm may fail
            if name in (over, under) and {over, under} <= rows.keys():
                publish(file, title, rows[over], rows[under], sign, goal, options, **common.kept_machine(options, over))
    if failed:
        sys.exit(f"No figure with: {', '.join(failed)}.")


def publish(
    file: str,
    title: str,
    over: dict[str, Any],
    under: dict[str, Any],
    sign: str,
    goal: float | None,
    options: Namespace,
    **more: Any,
) -> None:
    """One figure of two arms."""
    name = f"{over['arm']} / {under['arm']}"
    ratios = {f"step time, {name}": (over["step, s"] / under["step, s"], sign, goal)}
    memory = [row["peak memory of a GPU, GiB"] for row in (over, under)]
    if all(memory):
        ratios[f"peak memory, {name}"] = (memory[0] / memory[1], sign, None)
    common.publish(file, title, [over, under], ratios, options, **more)


if __name__ == "__main__":
    main()
