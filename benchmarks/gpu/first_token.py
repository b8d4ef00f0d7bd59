"""Time to the first words at the page, with one user and with many, Qwen2.5-3B's shape.

Run `python -m benchmarks.gpu.first_token --gguf FILE`. Starts the page as a person does (`python app.py`, with
MEDGRPO_ENGINE=vllm) and visits it as a browser does: each user has a session of its own, opened before (a browser opens it
with the page), presses Send on the tab of the GRPO model through Gradio's queue, and reads the stream of updates. Timed is
from pressing Send until an update shows the first words of the answer, and until the last update. One user asks several
questions one after the other; then all users ask at once.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from typing import Any

import httpx
from gradio_client.utils import apply_diff

from benchmarks.gpu import common

TAB = "grpo"
SHOWN = "<footer>"  # of a panel with text; before the first words it is hidden


def events(url: str) -> tuple[int, int]:
    """Numbers of an event that a browser sends when it opens the page, and of the one behind the tab's Send button."""
    config = httpx.get(f"{url}/config", trust_env=False).json()
    button = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == f"send-{TAB}")
    dependencies = config["dependencies"]
    opens = (
        each["id"] for each in dependencies if not each["inputs"] and any(what == "load" for _, what in each["targets"])
    )
    return int(next(opens)), int(next(each["id"] for each in dependencies if [button, "click"] in each["targets"]))


async def arrive(client: Any, url: str, event: int) -> str:
    """Open the page; the name of the new session. Gradio describes all of the page to itself for each."""
    session = uuid.uuid4().hex
    body = {"data": [], "fn_index": event, "session_hash": session}
    (await client.post(f"{url}/gradio_api/run/predict", json=body)).raise_for_status()
    return session


async def visit(client: Any, url: str, event: int, session: str, number: int, tokens: int) -> tuple[float, float]:
    """Seconds until the first words and until the end, for one question."""
    question = common.question(number)[-1]["content"]
    body = {"data": [question, 1.0, 1.0, tokens, number, None], "fn_index": event, "session_hash": session}
    began, first, talk = time.perf_counter(), 0.0, ""
    (await client.post(f"{url}/gradio_api/queue/join", json=body)).raise_for_status()
    async with client.stream("GET", f"{url}/gradio_api/queue/data", params={"session_hash": session}) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or (first and '"process_completed"' not in line):
                continue
            message = json.loads(line[6:])
            if message["msg"] == "process_generating" and not first:
                update = message["output"]["data"][0]
                talk = apply_diff(talk, update) if isinstance(update, list) else update
                if SHOWN in talk:
                    first = time.perf_counter() - began
            if message["msg"] == "process_completed":
                if not message["success"] or not first:
                    raise SystemExit(f"A visitor got no answer: {message['output'] or talk}")
                return first, time.perf_counter() - began
    raise SystemExit("The page closed the stream of a visitor.")


async def measure(url: str, users: int, alone: int, tokens: int) -> dict[str, list[tuple[float, float]]]:
    """(first words, end) of every question; the very first one warms up and doesn't count."""
    opens, sends = events(url)
    limits = httpx.Limits(max_connections=None)
    single, many = [], []
    async with httpx.AsyncClient(timeout=300, limits=limits, trust_env=False) as client:
        for n in range(alone + 1):
            session = await arrive(client, url, opens)
            single.append(await visit(client, url, sends, session, 1000 + n, tokens))
        for turn in range(2):
            sessions = await asyncio.gather(*(arrive(client, url, opens) for _ in range(users)))
            asked = (visit(client, url, sends, each, 2000 + 1000 * turn + n, tokens) for n, each in enumerate(sessions))
            many.append(await asyncio.gather(*asked))
    return {"1 user": single[1:], f"{users} users at once": many[1]}


def main() -> None:
    parser = common.parser("first_token", __doc__, cpu=True)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--alone", type=int, default=8, help="questions of the single user")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--share", type=float, default=0.5, help="of the GPU's memory")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    port = common.free_port()
    url = f"http://127.0.0.1:{port}"
    with common.served(
        [sys.executable, "app.py"], options.work / "page.log", environment(options, port), f"{url}/config", 60
    ):
        began = time.perf_counter()
        _wait(url, 280)
        print(f"page and model ready after {time.perf_counter() - began:.0f} s", flush=True)
        found = asyncio.run(measure(url, options.users, options.alone, options.tokens))

    rows = []
    for who, timings in found.items():
        firsts, ends = sorted(first for first, _ in timings), [end for _, end in timings]
        rows.append({
            "who": who, "first words, median, s": statistics.median(firsts),
            "90th percentile, s": firsts[min(len(firsts) - 1, round(0.9 * len(firsts)))], "worst, s": firsts[-1],
            "whole answer, median, s": statistics.median(ends), "answers": len(ends),
        })  # fmt: skip
    one, many = (statistics.median(first for first, _ in timings) for timings in found.values())
    ratios = {f"first words, {options.users} users / 1 user": (many / one, "<=", None)}
    common.publish("first_token", "Time to the first words at the page", rows, ratios, options)


def environment(options: argparse.Namespace, port: int) -> dict[str, str]:
    """Settings of the page."""
    values = {"GRADIO_SERVER_PORT": str(port), "MEDGRPO_RUNS": str(options.work / "runs")}
    if not options.dry:
        model, adapter = common.model_folders(options)
        values |= {"MEDGRPO_ENGINE": "vllm", "MEDGRPO_MODEL": str(model), "MEDGRPO_ADAPTER": str(adapter)}
        values |= {"MEDGRPO_GPU_MEMORY": str(options.share)}
    return values


def _wait(url: str, patience: float) -> None:
    """Until the page has answered a question: its public function waits until the model is loaded."""
    with httpx.Client(timeout=patience, trust_env=False) as client:
        body = {"data": ["A patient has a red, hot, swollen big toe. What is it?", TAB, 0.0, 1.0, 8, 0]}
        event = client.post(f"{url}/gradio_api/call/ask", json=body).json()["event_id"]
        said = client.get(f"{url}/gradio_api/call/ask/{event}").text
    if "event: complete" not in said:
        raise SystemExit(f"The page's model did not start: {said[-500:]}")


if __name__ == "__main__":
    main()
