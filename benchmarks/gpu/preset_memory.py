"""Do the presets for small cards fit? Qwen2.5-3B's shape, a few GRPO steps of each preset with only its card's memory free.

Run `python -m benchmarks.gpu.preset_memory --gguf FILE [--presets 16 24 80]` on one GPU that is at least as large. A second
process holds the rest of the GPU's memory, so that a preset that doesn't fit runs out of memory here as it would there.
vLLM's share is that of the preset: Unsloth takes it of the memory that is free, TRL of the whole GPU, where it is scaled
down to the card's. Memory is the most that the driver reports in use less what the second process holds; the preset's own
batch, lengths and LoRA are kept.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.gpu import common
from medgrpo.training.config import RunConfig, read_config, write_config
from medgrpo.training.run_directory import read_lines

CARDS = {16: "qwen2.5_3b_16gb.yaml", 24: "qwen2.5_3b_24gb.yaml", 80: "qwen2.5_3b_80gb.yaml"}
"""Memory of a card in GiB -> its preset."""
CONTEXT = 0.6
"""GiB that CUDA takes for a process beside what the process asks for; the second process leaves that much more free."""
KEPT = ["init_adapter=", "data.limit=256", "evaluation.limit=0", "training.save_steps=1000000", "rewards.audit=skip"]


def preset(card: int, total: float, model: str, steps: int) -> RunConfig:
    """The preset of a card of `card` GiB for a GPU of `total` GiB, with the model's folder."""
    path = common.ROOT / "train" / "configs" / CARDS[card]
    shipped = read_config(path, [], "grpo")
    share = shipped.grpo.vllm_gpu_memory_utilization
    if shipped.backend != "unsloth":
        share *= card / total
    changes = [f"model={model}", f"training.max_steps={steps}", f"grpo.vllm_gpu_memory_utilization={share:.4f}", *KEPT]
    return read_config(path, changes, "grpo")


def _hold(gib: float, pipe: Connection) -> None:
    import torch

    held = torch.empty(int(gib * 2**30), dtype=torch.uint8, device="cuda")
    pipe.send(held.numel())
    pipe.recv()


@contextlib.contextmanager
def held(gib: float) -> Iterator[float]:
    """Another process has that much of the GPU's memory while the block runs; yields what the driver says of it, in GiB."""
    ours, its = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(gib, its), daemon=True)
    before = common.used_memory()[0]
    holder.start()
    try:
        if not ours.poll(120):
            raise SystemExit(f"{gib:.0f} GiB of the GPU could not be held. Is another program using it?")
        ours.recv()
        yield common.used_memory()[0] - before
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        holder.join(20)


def fits(card: int, options: argparse.Namespace) -> dict[str, Any]:
    """One preset: its peak memory and seconds of a step."""
    model, _ = common.model_folders(options)
    total = common.total_memory()[0]
    folder = options.work / "presets" / f"{time.strftime('%H%M%S')}-{card}"
    folder.mkdir(parents=True)
    config = preset(card, total, str(model), options.steps)
    write_config(config, folder / "config.yaml")
    command = [sys.executable, "-m", "train.grpo", "--config", str(folder / "config.yaml")]
    command += ["--run-dir", str(folder / "run")]
    environment = {"MEDGRPO_RUNS": str(folder), "CUDA_VISIBLE_DEVICES": common.visible("0")}
    print(f"{card} GiB: {options.steps} steps ...", flush=True)
    with held(max(0.0, total - card - CONTEXT)) as elsewhere:
        ran = common.run(command, folder / "log.txt", environment, options.limit)
    times = [float(line["time"]) for line in read_lines(folder / "run" / "metrics.jsonl")]
    if len(times) != options.steps:
        raise SystemExit(f"The preset for {card} GiB logged {len(times)} of {options.steps} steps: look at {folder}.")
    return {
        "card, GiB": card,
        "preset": CARDS[card],
        "peak memory, GiB": round(max(ran.peak) - elsewhere, 1),
        "step, s": round(min(later - earlier for earlier, later in itertools.pairwise(times)), 1),
        "in all, s": round(ran.seconds),
        "precision": config.precision,
    }


def main() -> None:
    parser = common.parser("preset_memory", __doc__)
    parser.add_argument("--presets", type=int, nargs="+", default=list(CARDS), choices=list(CARDS))
    parser.add_argument("--steps", type=int, default=3, help="of each preset (default 3)")
    parser.add_argument("--limit", type=float, default=420, help="seconds that one preset may take")
    options = parser.parse_args()
    if options.dry:
        raise SystemExit("Memory of a GPU can't be tried without one: leave --dry out.")
    rows: list[dict[str, Any]] = []
    failed = []
    for card in dict.fromkeys(options.presets):
        try:
            rows.append(fits(card, options))
        except SystemExit as error:
            print(error, flush=True)
            failed.append(str(card))
            continue
        ratios = {
            f"peak memory / card, {row['card, GiB']} GiB": (row["peak memory, GiB"] / row["card, GiB"], "<=", 1.0)
            for row in rows
        }
        common.publish(
            "preset_memory", "Presets on their cards", rows, ratios, options
        )  # at once: a later one may fail
    if failed:
        sys.exit(f"No figure for: {', '.join(failed)} GiB.")


if __name__ == "__main__":
    main()
