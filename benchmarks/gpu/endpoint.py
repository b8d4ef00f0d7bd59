"""A server on two GPUs against one on one GPU, asked through the endpoint engine: Qwen2.5-3B's shape.

Run `python -m benchmarks.gpu.endpoint --gguf FILE [--arms ...]` on a machine with two GPUs. The arms are the servers of
`docs/engines.md`, with base and adapter:

  one     `vllm serve` on the first GPU
  data    `vllm serve --data-parallel-size 2`: a whole model on each GPU
  tensor  `vllm serve --tensor-parallel-size 2`: half of each matrix on each GPU

All are up at the same time and are loaded in turns, in the opposite order every other round: by a client that does nothing
but count (aiohttp) and by `Engine.stream` of the endpoint engine, half of the users on each variant. Then one user alone asks
the base model. In a dry run the servers are llama.cpp's.
"""

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks.gpu import common
from benchmarks.gpu.users import SECRET, Bare, Ours, llamacpp_server
from medgrpo.engines import BASE, GRPO, Engine, Sampling, load_engine
from medgrpo.settings import Settings

ARMS: dict[str, tuple[str, list[str]]] = {
    "one": ("0", []),
    "data": ("0,1", ["--data-parallel-size", "2"]),
    "tensor": ("0,1", ["--tensor-parallel-size", "2"]),
}
"""Arm -> the GPUs it gets and what it adds to the server's command."""
CACHE = 8 * 2**30
"""Bytes of each GPU for the keys and values of each server: said, because servers that start together can't measure it."""
SHARE = 0.28
"""Of a GPU's memory that a server wants to find free."""


def servers(options: argparse.Namespace, stack: ExitStack) -> dict[str, str]:
    """Arm -> address; they start at the same time and end with the stack."""
    options.work.mkdir(parents=True, exist_ok=True)
    arms = dict.fromkeys(options.arms)
    if options.dry:
        return {arm: stack.enter_context(llamacpp_server(options.work / arm)) for arm in arms}
    model, adapter = common.model_folders(options)
    urls, started = {}, {}
    for arm in arms:
        gpus, more = ARMS[arm]
        port = common.free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", BASE]
        command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", SECRET, "--max-model-len", "4096"]
        command += ["--generation-config", "vllm", "--enable-lora", "--max-lora-rank", str(common.RANK)]
        command += ["--lora-modules", f"{GRPO}={adapter}", "--stream-interval", "8"]
        command += ["--kv-cache-memory-bytes", str(CACHE), "--gpu-memory-utilization", str(SHARE), *more]
        environment = {"CUDA_VISIBLE_DEVICES": common.visible(gpus)}
        log = options.work / f"endpoint-{arm}.log"
        urls[arm] = f"http://127.0.0.1:{port}"
        started[arm] = (stack.enter_context(common.started(command, log, environment)), log)
    for arm, (process, log) in started.items():
        common.wait_until_ready(process, log, f"{urls[arm]}/health", options.limit)
    return urls


def alone(engine: Engine, options: argparse.Namespace) -> tuple[float, float]:
    """(seconds to the first token, tokens a second) of one user: medians, after a question that warms up."""
    firsts, rates = [], []
    for number in range(options.alone + 1):
        began, first = time.perf_counter(), 0.0
        for _ in engine.stream(common.question(900_000 + number), Sampling(1.0, 1.0, options.tokens, number), BASE):
            first = first or time.perf_counter() - began
        firsts.append(first)
        rates.append(options.tokens / (time.perf_counter() - began))
    return statistics.median(firsts[1:]), statistics.median(rates[1:])


def measured(urls: dict[str, str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each server: what many users and what one user got from it.

    Tokens are not counted, since the endpoint engine isn't told their number: the random model writes to the cap.
    """
    whole = options.users * options.questions * options.tokens
    settings = Settings(engine="endpoint", api_key=SECRET, model=BASE, adapter=GRPO)
    rows = []
    with ExitStack() as stack:
        engines = {arm: load_engine(replace(settings, endpoint=f"{url}/v1")) for arm, url in urls.items()}
        for engine in engines.values():
            stack.callback(engine.close)
        contenders: dict[tuple[str, str], Bare | Ours] = {}
        for arm, url in urls.items():
            contenders[arm, "bare"] = Bare(url, (BASE, GRPO))
            contenders[arm, "ours"] = Ours(engines[arm], (BASE, GRPO))
        rates: dict[tuple[str, str], list[float]] = {each: [] for each in contenders}
        firsts: dict[str, list[float]] = {arm: [] for arm in urls}
        for number in range(options.rounds + 1):
            turns = list(enumerate(contenders.items()))
            for place, ((arm, who), contender) in reversed(turns) if number % 2 else turns:
                cases = 100_000 * (place % 2) + 1_000 * number  # nobody's are in a server's cache
                load = contender.load(options.users, options.questions, options.tokens, cases)
                print(f"round {number}, {arm}, {who}: {whole / load.seconds:.0f} tokens/s", flush=True)
                if number:
                    rates[arm, who].append(whole / load.seconds)
                    firsts[arm] += load.firsts if who == "ours" else []
        for arm, engine in engines.items():
            first, rate = alone(engine, options)
            rows.append({
                "server": arm,
                "endpoint engine, tokens/s": round(statistics.median(rates[arm, "ours"])),
                "first token, median, s": statistics.median(firsts[arm]),
                "bare client, tokens/s": round(statistics.median(rates[arm, "bare"])),
                "one user, tokens/s": round(rate, 1),
                "one user, first token, s": first,
            })  # fmt: skip
    return rows


def main() -> None:
    parser = common.parser("endpoint", __doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--questions", type=int, default=2, help="of each user in a round")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--rounds", type=int, default=4, help="after one that warms up")
    parser.add_argument("--alone", type=int, default=5, help="questions of the single user")
    parser.add_argument("--limit", type=float, default=280, help="seconds that the servers may take to start")
    options = parser.parse_args()
    with ExitStack() as stack:
        rows = measured(servers(options, stack), options)
    first, *others = rows
    ratios: dict[str, tuple[float, str, float | None]] = {
        f"{what}, {row['server']} / {first['server']}": (row[what] / first[what], ">=", None)
        for row in others
        for what in ("endpoint engine, tokens/s", "one user, tokens/s")
    }
    for row in rows:
        ratio = row["endpoint engine, tokens/s"] / row["bare client, tokens/s"]
        ratios[f"endpoint engine / bare client, {row['server']}"] = (ratio, ">=", None)
    common.publish("endpoint", "A server on two GPUs against one, through the endpoint engine", rows, ratios, options)


if __name__ == "__main__":
    main()
