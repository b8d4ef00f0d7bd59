"""A server on two GPUs against one on one GPU, as the page asks them: Qwen2.5-3B's shape, through the endpoint engine.

Run `python -m benchmarks.gpu.endpoint --gguf FILE [--arms ...]` on a machine with two GPUs. The arms are the servers of
`docs/engines.md`, with base and adapter, one after the other:

  one     `vllm serve` on one GPU
  data    `vllm serve --data-parallel-size 2`: a whole model on each GPU
  tensor  `vllm serve --tensor-parallel-size 2`: half of each matrix on each GPU

Each is loaded in turns by a client that does nothing but count (aiohttp) and by `Engine.stream` of the endpoint engine, half
of the users on each variant; then one user alone asks the base model. A table, with the two GPUs' gain as a ratio. In a dry
run the server is llama.cpp's.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.gpu import common
from benchmarks.gpu.users import SECRET, Bare, Load, Ours, llamacpp_server
from medgrpo.engines import BASE, GRPO, Engine, Sampling, load_engine
from medgrpo.settings import Settings

ARMS: dict[str, tuple[str, list[str]]] = {
    "one": ("0", []),
    "data": ("0,1", ["--data-parallel-size", "2"]),
    "tensor": ("0,1", ["--tensor-parallel-size", "2"]),
}
"""Arm -> the GPUs it gets and what it adds to the server's command."""


@contextmanager
def server(arm: str, options: argparse.Namespace) -> Iterator[str]:
    """The documented server; yields its address."""
    if options.dry:
        with llamacpp_server(options) as url:
            yield url
        return
    gpus, more = ARMS[arm]
    model, adapter = common.model_folders(options)
    port = common.free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", BASE]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", SECRET, "--max-model-len", "4096"]
    command += ["--generation-config", "vllm", "--enable-lora", "--max-lora-rank", str(common.RANK)]
    command += ["--lora-modules", f"{GRPO}={adapter}", "--stream-interval", "8", *more]
    url, environment = f"http://127.0.0.1:{port}", {"CUDA_VISIBLE_DEVICES": common.visible(gpus)}
    with common.served(command, options.work / f"endpoint-{arm}.log", environment, f"{url}/health", options.limit):
        yield url


def alone(engine: Engine, options: argparse.Namespace) -> tuple[float, float]:
    """(seconds to the first token, tokens a second) of one user, medians of some questions after one that warms up."""
    firsts, rates = [], []
    for number in range(options.alone + 1):
        began, first = time.perf_counter(), 0.0
        for _ in engine.stream(common.question(900_000 + number), Sampling(1.0, 1.0, options.tokens, number), BASE):
            first = first or time.perf_counter() - began
        firsts.append(first)
        rates.append(options.tokens / (time.perf_counter() - began))
    return statistics.median(firsts[1:]), statistics.median(rates[1:])


def measured(url: str, options: argparse.Namespace) -> dict[str, Any]:
    """What many users and what one user got from the server there."""
    engine = load_engine(Settings(engine="endpoint", endpoint=f"{url}/v1", api_key=SECRET, model=BASE, adapter=GRPO))
    contenders = {"bare": Bare(url, (BASE, GRPO)), "ours": Ours(engine, (BASE, GRPO))}
    rounds: dict[str, list[Load]] = {name: [] for name in contenders}
    try:
        for number in range(options.rounds + 1):
            turns = list(enumerate(contenders.items()))
            for place, (name, contender) in reversed(turns) if number % 2 else turns:
                cases = 100_000 * place + 1_000 * number  # nobody's are in the cache
                load = contender.load(options.users, options.questions, options.tokens, cases)
                print(f"round {number}, {name}: {_rate(load, options):.0f} tokens/s", flush=True)
                rounds[name].append(load)
        first, rate = alone(engine, options)
    finally:
        engine.close()
    return {
        "bare client, tokens/s": round(statistics.median(_rate(load, options) for load in rounds["bare"][1:])),
        "endpoint engine, tokens/s": round(statistics.median(_rate(load, options) for load in rounds["ours"][1:])),
        "first token, median, s": statistics.median(first for load in rounds["ours"][1:] for first in load.firsts),
        "one user, tokens/s": round(rate, 1),
        "one user, first token, s": first,
    }


def _rate(load: Load, options: argparse.Namespace) -> float:
    """Tokens a second: the random model writes every answer to its cap, and the endpoint engine isn't told their number."""
    return float(options.users * options.questions * options.tokens / load.seconds)


def main() -> None:
    parser = common.parser("endpoint", __doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--questions", type=int, default=2, help="of each user in a round")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--rounds", type=int, default=4, help="after one that warms up")
    parser.add_argument("--alone", type=int, default=5, help="questions of the single user")
    parser.add_argument("--limit", type=float, default=280, help="seconds that one server may take to start")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for arm in dict.fromkeys(options.arms):
        with server(arm, options) as url:
            rows.append({"server": arm} | measured(url, options))
        first = rows[0]
        ratios = {
            f"{what}, {row['server']} / {first['server']}": (row[what] / first[what], ">=", None)
            for row in rows[1:]
            for what in ("endpoint engine, tokens/s", "one user, tokens/s")
        }
        ratios |= {
            f"endpoint engine / bare client, {row['server']}": (
                row["endpoint engine, tokens/s"] / row["bare client, tokens/s"], ">=", None,
            )
            for row in rows
        }  # fmt: skip
        common.publish(
            "endpoint", "A server on two GPUs against one", rows, ratios, options
        )  # at once: a later may fail


if __name__ == "__main__":
    main()
