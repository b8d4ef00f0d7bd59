"""A server on two GPUs against one on one GPU, asked through the endpoint engine: Qwen2.5-3B's shape.

Run `python -m benchmarks.gpu.endpoint --gguf FILE [--arms ...]` on a machine with two GPUs. The arms are the servers of
`docs/engines.md`, with base and adapter:

  one     `vllm serve` on the first GPU
  data    `vllm serve --data-parallel-size 2`: a whole model on each GPU
  tensor  `vllm serve --tensor-parallel-size 2`: half of each matrix on each GPU

All are up at the same time and are loaded in turns, in the opposite order every other round: by a client that does nothing
but count (aiohttp) and by `Engine.stream` of the endpoint engine, half of the users on each variant. Before that one user
alone asks the base model. The file is written anew after each round; a server that does not start is said and left out.

With `--cpu` (vLLM's build for CPUs) `one` has a core, and `data` and `tensor` have two; all ask the base model, since the LoRA
kernels are slow there. In a dry run the servers are llama.cpp's.
"""

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks.gpu import common
from benchmarks.gpu.users import SECRET, Bare, Load, Ours, llamacpp_server
from medgrpo.engines import BASE, GRPO, Engine, Sampling, load_engine
from medgrpo.settings import Settings

ARMS: dict[str, list[str]] = {
    "one": [],
    "data": ["--data-parallel-size", "2"],
    "tensor": ["--tensor-parallel-size", "2"],
}
"""Arm -> what it adds to the server's command."""
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
    started = {}
    for arm in arms:
        port = common.free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", BASE]
        command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", SECRET, "--max-model-len", "4096"]
        command += ["--generation-config", "vllm", "--stream-interval", "8", *ARMS[arm]]
        if options.cpu:
            environment = {"VLLM_CPU_OMP_THREADS_BIND": "0|1" if ARMS[arm] else "0"}
        else:
            command += ["--enable-lora", "--max-lora-rank", str(common.RANK), "--lora-modules", f"{GRPO}={adapter}"]
            command += ["--kv-cache-memory-bytes", str(CACHE), "--gpu-memory-utilization", str(SHARE)]
            environment = {"CUDA_VISIBLE_DEVICES": common.visible("0,1" if ARMS[arm] else "0")}
        log = options.work / f"endpoint-{arm}.log"
        process = stack.enter_context(common.started(command, log, environment))
        started[arm] = (process, log, f"http://127.0.0.1:{port}")
    urls, end = {}, time.monotonic() + options.limit
    for arm, (process, log, url) in started.items():
        try:
            common.wait_until_ready(process, log, f"{url}/health", end - time.monotonic())
            urls[arm] = url
        except SystemExit as error:
            print(f"Left out: {arm}. {error}", flush=True)
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


def measured(urls: dict[str, str], options: argparse.Namespace) -> None:
    """Load all servers in turns and write the figure after each round.

    Tokens are not counted, since the endpoint engine isn't told their number: the random model writes to the cap.
    """
    whole = options.users * options.questions * options.tokens
    variants = (BASE,) if options.cpu else (BASE, GRPO)
    settings = Settings(engine="endpoint", api_key=SECRET, model=BASE, adapter=GRPO)
    with ExitStack() as stack:
        engines = {arm: load_engine(replace(settings, endpoint=f"{url}/v1")) for arm, url in urls.items()}
        for engine in engines.values():
            stack.callback(engine.close)
        single = {arm: alone(engine, options) for arm, engine in engines.items()}
        contenders: dict[tuple[str, str], Bare | Ours] = {}
        for arm, url in urls.items():
            contenders[arm, "bare"], contenders[arm, "ours"] = Bare(url, variants), Ours(engines[arm], variants)
        loads: dict[tuple[str, str], list[Load]] = {each: [] for each in contenders}
        for number in range(options.rounds + 1):
            turns = list(enumerate(contenders.items()))
            for place, ((arm, who), contender) in reversed(turns) if number % 2 else turns:
                cases = 100_000 * (place % 2) + 1_000 * number  # nobody's are in a server's cache
                load = contender.load(options.users, options.questions, options.tokens, cases)
                load.tokens = whole
                print(f"round {number}, {arm}, {who}: {load.rate:.0f} tokens/s", flush=True)
                loads[arm, who].append(load)
            if number:
                publish(
                    [row(arm, loads[arm, "ours"][1:], loads[arm, "bare"][1:], single[arm]) for arm in urls], options
                )


def row(arm: str, ours: list[Load], bare: list[Load], single: tuple[float, float]) -> dict[str, Any]:
    """Of the table."""
    return {
        "server": arm,
        "endpoint engine, tokens/s": round(statistics.median(load.rate for load in ours)),
        "first token, median, s": statistics.median(first for load in ours for first in load.firsts),
        "bare client, tokens/s": round(statistics.median(load.rate for load in bare)),
        "one user, tokens/s": round(single[1], 1),
        "one user, first token, s": single[0],
    }


def publish(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The figure of the rounds so far."""
    first, *others = rows
    ratios: dict[str, tuple[float, str, float | None]] = {
        f"{what}, {each['server']} / {first['server']}": (each[what] / first[what], ">=", None)
        for each in others
        for what in ("endpoint engine, tokens/s", "one user, tokens/s")
    }
    for each in rows:
        ratio = each["endpoint engine, tokens/s"] / each["bare client, tokens/s"]
        ratios[f"endpoint engine / bare client, {each['server']}"] = (ratio, ">=", None)
    common.publish("endpoint", "A server on two GPUs against one, through the endpoint engine", rows, ratios, options)


def main() -> None:
    parser = common.parser("endpoint", __doc__, cpu=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--questions", type=int, default=2, help="of each user in a round")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--rounds", type=int, default=4, help="after one that warms up")
    parser.add_argument("--alone", type=int, default=5, help="questions of the single user")
    parser.add_argument("--limit", type=float, default=280, help="seconds that the servers may take to start")
    options = parser.parse_args()
    with ExitStack() as stack:
        urls = servers(options, stack)
        if not urls:
            raise SystemExit("No server started; the lines above say why.")
        measured(urls, options)


if __name__ == "__main__":
    main()
