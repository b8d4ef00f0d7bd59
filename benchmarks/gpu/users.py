"""Many users at once: tokens a second through our vLLM engine against a bare `vllm serve`, Qwen2.5-3B's shape.

Run `python -m benchmarks.gpu.users --gguf FILE`. Both servers are up at the same time on one GPU with the same share of its
memory, and are loaded in turns, in the opposite order every other round, so that a slow moment of the machine or a
trend hits both. Each user asks one question after the other, the same cases on both sides; the clock runs from when all
users are there to the end of the last answer, and tokens are those that the server says it wrote. The bare server has no
adapters and answers a client that does nothing but count (aiohttp); ours answers through `Engine.stream` in this process,
as the page asks it, once with the base model alone and once with half of the users on the GRPO variant. For the latter
the bare contender is a server started with the same adapter (`--with-lora`). A ratio is the median over the rounds.
"""

import argparse
import asyncio
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import common
from medgrpo.engines import BASE, GRPO, Engine, Sampling
from medgrpo.engines.base import tokens_of
from medgrpo.models import find_gguf

SECRET = "benchmark"


@dataclass
class Load:
    """What one round of all users got."""

    seconds: float = 0.0
    tokens: int = 0
    firsts: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Bare:
    """A server without us; `models` is who answers user 0, 1, 2, ..., in turns."""

    url: str
    models: tuple[str, ...]

    def load(self, users: int, questions: int, tokens: int, seed: int) -> Load:
        return asyncio.run(self._load(users, questions, tokens, seed))

    async def _load(self, users: int, questions: int, tokens: int, seed: int) -> Load:
        import aiohttp

        result = Load()
        connections = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connections, timeout=aiohttp.ClientTimeout(600)) as session:

            async def user(number: int) -> None:
                for turn in range(questions):
                    await self._ask(session, number, seed + turn * users + number, tokens, result)

            began = time.perf_counter()
            await asyncio.gather(*(user(number) for number in range(users)))
            result.seconds = time.perf_counter() - began
        return result

    async def _ask(self, session: Any, user: int, number: int, tokens: int, result: Load) -> None:
        body = {
            "model": self.models[user % len(self.models)], "messages": common.question(number), "stream": True,
            "temperature": 1.0, "top_p": 1.0, "seed": number, "max_tokens": tokens,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        began, first, tail = time.perf_counter(), 0.0, b""
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            response.raise_for_status()
            async for piece in response.content.iter_any():
                if not first and b'"content":"' in piece.replace(b'"content":""', b"").replace(b'": "', b'":"'):
                    first = time.perf_counter() - began
                tail = (tail + piece)[-2_000:]
        result.firsts.append(first)
        result.tokens += _usage(tail)


def _usage(stream: bytes) -> int:
    """Tokens that the server says it wrote, from the last event that has them."""
    for line in reversed(stream.split(b"\n")):
        if line.startswith(b"data: {") and b'"completion_tokens"' in line and (usage := json.loads(line[6:])["usage"]):
            return int(usage["completion_tokens"])
    said = stream.decode(errors="replace")[-500:]
    raise SystemExit(f"The bare server did not say how many tokens it wrote; the end of its answer: {said}")


@dataclass(frozen=True)
class Ours:
    """Our engine; `variants` is who answers user 0, 1, 2, ..., in turns."""

    engine: Engine
    variants: tuple[str, ...]

    def load(self, users: int, questions: int, tokens: int, seed: int) -> Load:
        result, all_there = Load(), threading.Barrier(users)

        def user(number: int) -> int:
            variant, written = self.variants[number % len(self.variants)], 0
            for turn in range(questions):
                case = seed + turn * users + number
                began, first = time.perf_counter(), 0.0
                for piece in self.engine.stream(common.question(case), Sampling(1.0, 1.0, tokens, case), variant):
                    first = first or time.perf_counter() - began
                    written += tokens_of(piece)
                result.firsts.append(first)
            return written

        with ThreadPoolExecutor(users) as pool:
            list(pool.map(lambda _: all_there.wait(), range(users)))  # a page has its threads before anybody asks
            began = time.perf_counter()
            result.tokens = sum(pool.map(user, range(users)))
            result.seconds = time.perf_counter() - began
        return result


@contextmanager
def llamacpp_server(folder: Path) -> Iterator[str]:
    """The server of a dry run, with SmolLM2; its log goes to the folder. Yields its address."""
    from medgrpo.engines.server import LocalServer

    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "medgrpo.engines.llamacpp_server", "--model", str(find_gguf("smollm2-135m"))]
    command += ["--threads", "1", "--context", "4096", "--slots", "2"]
    command += ["--address-file", str(folder / "address")]
    server = LocalServer("bare server", command, folder, SECRET)
    try:
        yield server.address(60)
    finally:
        server.close()


@contextmanager
def bare_server(options: argparse.Namespace) -> Iterator[str]:
    """`vllm serve` with its own defaults but for memory and context; llama.cpp's server in a dry run."""
    if options.dry:
        with llamacpp_server(options.work) as url:
            yield url
        return
    port = common.free_port()
    url = f"http://127.0.0.1:{port}"
    model, adapter = common.model_folders(options)
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", BASE]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", SECRET, "--max-model-len", "4096"]
    command += ["--gpu-memory-utilization", str(options.share)]
    if options.with_lora:
        command += ["--enable-lora", "--max-lora-rank", str(common.RANK), "--lora-modules", f"{GRPO}={adapter}"]
    with common.served(command, options.work / "bare.log", {}, f"{url}/health", 240):
        yield url


def measured(contenders: Mapping[str, Bare | Ours], options: argparse.Namespace) -> dict[str, list[Load]]:
    """Every contender's rounds; the first one warmed up and isn't among them.

    The bare server and the first of ours get the same cases; a second one on our server has others, since what it was
    asked before it has in its cache.
    """
    rounds: dict[str, list[Load]] = {name: [] for name in contenders}
    for number in range(options.rounds + 1):
        turns = list(enumerate(contenders.items()))
        for place, (name, contender) in reversed(turns) if number % 2 else turns:
            seed = 100_000 * max(place, 1) + 1_000 * number
            load = contender.load(options.users, options.questions, options.tokens, seed)
            print(f"round {number}, {name}: {load.rate:.0f} tokens/s in {load.seconds:.2f} s", flush=True)
            rounds[name].append(load)
    return {name: loads[1:] for name, loads in rounds.items()}


def row(name: str, loads: list[Load]) -> dict[str, Any]:
    """Of the table."""
    firsts = [first for load in loads for first in load.firsts]
    return {
        "who": name,
        "tokens/s": round(statistics.median(load.rate for load in loads)),
        "each round": ", ".join(f"{load.rate:.0f}" for load in loads),
        "first token, median, s": statistics.median(firsts),
        "first token, worst, s": max(firsts),
    }


def main() -> None:
    parser = common.parser("users", __doc__, cpu=True)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--questions", type=int, default=6, help="of each user in a round")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--rounds", type=int, default=6, help="an even number has as many in each order")
    parser.add_argument("--share", type=float, default=0.4, help="of the GPU's memory, for each of the two servers")
    parser.add_argument("--with-lora", action="store_true", help="both variants on both sides")
    options = parser.parse_args()
    variants = (BASE, GRPO) if options.with_lora else (BASE,)
    with bare_server(options) as url, common.our_engine(options, options.share) as engine:
        contenders: dict[str, Bare | Ours] = {
            f"bare server, {' and '.join(variants)}": Bare(url, variants),
            f"our engine, {' and '.join(variants)}": Ours(engine, variants),
        }
        if not options.with_lora:
            contenders["our engine, base and grpo"] = Ours(engine, (BASE, GRPO))
        rounds = measured(contenders, options)
    bare, *ours = rounds
    whole = options.users * options.questions * options.tokens
    if not options.dry and any(load.tokens < 0.98 * whole for loads in rounds.values() for load in loads):
        raise SystemExit("The random model ended answers before their cap, so the contenders did not do the same work.")
    each = {
        f"{name} / {bare}": [mine.rate / its.rate for mine, its in zip(rounds[name], rounds[bare], strict=True)]
        for name in ours
    }
    ratios = {name: (statistics.median(each[name]), ">=", None if place else 0.95) for place, name in enumerate(each)}
    title = f"{options.users} users at once: our {engine.name} engine against a bare server"
    rows = [row(name, loads) for name, loads in rounds.items()]
    rounded = {name: [round(value, 4) for value in values] for name, values in each.items()}
    figure = "users_lora" if options.with_lora else "users"
    common.publish(figure, title, rows, ratios, options, each_round=rounded)
    for name, values in rounded.items():
        print(f"{name}, each round: {', '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()
