"""Two GPUs of one host against one, for the same GRPO work: Qwen2.5-3B's shape, 256 completions of 512 tokens a step.

Run `python -m benchmarks.gpu.two_gpus --gguf FILE [--arms ...]` on a machine with two GPUs. The arms:

  one    `python -m train.grpo` on one GPU, vLLM inside the process
  two    `accelerate launch` with two processes, each with half of the completions and a vLLM of its own
  split  rollouts from a vLLM server on the second GPU, training on the first

All write and learn from the same number of completions a step. More of them than in `grpo_step`, because a GPU writes 32
answers in nearly the time of 16: work that one GPU does in its sleep isn't worth dividing.
"""

import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from benchmarks.gpu import common
from benchmarks.gpu.grpo_step import OURS, Arm, options_of, timed
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
    options_of(parser, steps=4, batch=16, limit=280)
    options = parser.parse_args()
    if options.dry:
        options.completions, options.batch = 8, 2
    rows = []
    for name in dict.fromkeys(options.arms):
        arm = ARMS[name]
        with ExitStack() as servers:
            if name == "split":
                port = servers.enter_context(rollouts(options))
                arm = replace(arm, changes=(*arm.changes, f"grpo.vllm_server_port={port}"))
            rows.append(timed(name, arm, options.completions, options))
    first, *others = rows
    ratios = {
        f"step time, {first['arm']} / {row['arm']}": (
            first["step, s"] / row["step, s"],
            ">=",
            1.7 if (first["arm"], row["arm"]) == ("one", "two") else None,
        )
        for row in others
    }
    common.publish("_".join(["gpus", *(row["arm"] for row in rows)]), TITLE, rows, ratios, options)


if __name__ == "__main__":
    main()
