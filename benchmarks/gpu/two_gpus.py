"""Two GPUs of one host against one, for the same GRPO work: Qwen2.5-3B's shape, 256 completions of 512 tokens a step.

Run `python -m benchmarks.gpu.two_gpus --gguf FILE [--arms ...]` on a machine with two GPUs. The arms:

  one    `python -m train.grpo` on one GPU, vLLM inside the process
  two    `accelerate launch` with two processes, each with half of the completions and a vLLM of its own
  split  rollouts from a vLLM server on the second GPU, training on the first

All write and learn from the same number of completions a step. More of them than in `grpo_step`, because a GPU writes 32
answers in nearly the time of 16: work that one GPU does in its sleep isn't worth dividing.

`--read FOLDER` runs nothing and compares arms that ran before, each in `FOLDER/<arm>` as it lies under `--work`.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import common
from benchmarks.gpu.grpo_step import OURS, Arm, options_of, row, timed
from medgrpo.training.config import Grpo
from train.rollout_server import server_command

TITLE = "Two GPUs against one, the same GRPO work"
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ARMS = {
    "one": Arm(OURS, warm=1),
    "two": Arm(
        OURS,
        warm=1,
        launcher=(*ACCELERATE, "--mixed_precision", "no", "--dynamo_backend", "no"),
        gpus="0,1",
        share=2,
    ),
    "split": Arm(OURS, ("grpo.vllm_mode=server",), warm=1),
}


@contextmanager
def rollouts(options: Namespace) -> Iterator[int]:
    """The documented vLLM server on the second GPU; yields its port."""
    if options.dry:
        raise SystemExit("The arm split needs vLLM and two GPUs: leave it out of a dry run.")
    model, _ = common.model_folders(options)
    port = common.free_port()
    words = shlex.split(server_command(str(model), Grpo(vllm_server_port=port)))
    serve = words.index("vllm")
    environment = dict(word.split("=", 1) for word in words[:serve]) | {"CUDA_VISIBLE_DEVICES": common.visible("1")}
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", *words[serve + 1 :]]
    with common.served(command, options.work / "rollouts.log", environment, f"http://127.0.0.1:{port}/health", 240):
        yield port


def main() -> None:
    parser = common.parser("two_gpus", __doc__)
    parser.add_argument("--arms", nargs="+", default=["one", "two"], choices=list(ARMS))
    parser.add_argument("--completions", type=int, default=256, help="of a step, all GPUs together")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="compare arms that ran before, and run nothing")
    options_of(parser, steps=4, batch=16, limit=280)
    options = parser.parse_args()
    if options.dry:
        options.completions, options.batch = 8, 2
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(options.arms):
        arm = ARMS[name]
        if options.read:
            rows.append(row(name, arm, options.read / name))
            continue
        with ExitStack() as servers:
            if name == "split":
                port = servers.enter_context(rollouts(options))
                arm = replace(arm, changes=(*arm.changes, f"grpo.vllm_server_port={port}"))
            rows.append(timed(name, arm, options.completions, options))
        publish(rows, options)  # at once: a later arm may fail
    if options.read:
        publish(rows, options, **common.kept_machine(options, rows[0]["arm"]))


def publish(rows: list[dict[str, Any]], options: Namespace, **more: Any) -> None:
    """The figure of the arms so far; nothing with a single one."""
    if len(rows) < 2:
        return
    first, *others = rows
    ratios = {
        f"step time, {first['arm']} / {each['arm']}": (
            first["step, s"] / each["step, s"],
            ">=",
            1.7 if (first["arm"], each["arm"]) == ("one", "two") else None,
        )
        for each in others
    }
    common.publish("_".join(["gpus", *(each["arm"] for each in rows)]), TITLE, rows, ratios, options, **more)


if __name__ == "__main__":
    main()
