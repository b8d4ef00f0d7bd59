"""How fast the default model answers on this machine's CPUs, through our engine and without it.

Run `python -m benchmarks.cpu_inference` on a quiet machine. It asks, in turns so that a slow moment of the machine hits all
alike: our engine with free quotes, as the others have them; a bare `xllamacpp.Server` in a process of its own with the same
threads and environment; the same with llama.cpp's default environment; transformers in float32 and bfloat16. Then it lets
both variants of our engine answer at once and compares the wall time with that of the slower one alone on its share of the
threads. At last the shipped adapter answers cases of the casebook to their end, its quotes held to the case and free. Every
question is new, so that the instructions are cached and the case is not, as on the page. Medians; results go to
`benchmarks/results/cpu_inference.json` and, as a table, to standard output.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medgrpo.data.casebook import vignettes
from medgrpo.engines import BASE, GRPO, Sampling
from medgrpo.engines.gguf_file import read_gguf
from medgrpo.engines.llamacpp import CONTEXT, ENVIRONMENT, LlamaCppEngine, available_cpus
from medgrpo.models import find_gguf
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings

RESULTS = Path(__file__).parent / "results" / "cpu_inference.json"
MODEL = "smollm2-135m"
TARGETS = {
    "engine / bare llama.cpp, same settings": (">=", 0.95),
    "engine / bare llama.cpp, flash attention": (">=", 0.95),
    "engine / transformers": (">=", 5.0),
    "compare / slower alone": ("<=", 1.15),
    "exact quotes / free quotes": (">=", 0.9),
}

Timing = tuple[float, float, float]
"""Seconds to the first token, tokens a second after it, seconds in all."""


def question(number: int) -> str:
    """A case nobody asked before; the number comes early so that only the instructions can be cached."""
    return f"Patient {number} is {20 + number % 60} years old and has had chest pain and shortness of breath for two hours."


def clocked(deltas: Iterator[str]) -> Timing:
    """Timing of one answer."""
    begin = time.perf_counter()
    moments = [time.perf_counter() for _ in deltas]
    if len(moments) < 2:
        raise SystemExit("The model wrote fewer than two tokens: choose another question.")
    rate = (len(moments) - 1) / (moments[-1] - moments[0])
    return moments[0] - begin, rate, moments[-1] - begin


# --- contenders that run in a process of their own: one JSON line {"number", "tokens"} in, one timing out ---------------


def serve(answer: Callable[[int, int], Timing]) -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(answer(order["number"], order["tokens"])), flush=True)


def bare_llamacpp(threads: int, flash_attention: bool) -> None:
    """xllamacpp called directly, in its own default settings but for the threads, the context and flash attention.

    Our engine does without flash attention, because with it a greedy answer depends on what the prompt cache holds.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_gguf(MODEL))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_ctx, params.n_parallel, params.fit_params, params.ui = CONTEXT, 1, False, False
    params.verbosity = 0
    if not flash_attention:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)

    def answer(number: int, tokens: int) -> Timing:
        moments: list[float] = []

        def note(chunk: Any) -> bool:
            chunks = json.loads(chunk) if isinstance(chunk, str | bytes) else chunk
            for part in chunks if isinstance(chunks, list) else [chunks]:
                if part["choices"] and part["choices"][0]["delta"].get("content"):
                    moments.append(time.perf_counter())
            return False

        begin = time.perf_counter()
        messages = build_messages(question(number))
        request = {"messages": messages, "temperature": 0, "max_tokens": tokens, "stream": True}
        server.handle_chat_completions(request, note)
        return moments[0] - begin, (len(moments) - 1) / (moments[-1] - moments[0]), moments[-1] - begin

    serve(answer)


def transformers(threads: int, precision: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    path = find_gguf(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    dtype = getattr(torch, precision)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype).eval()

    def answer(number: int, tokens: int) -> Timing:
        moments: list[float] = []

        def note(ids: Any, scores: Any, **_: Any) -> Any:
            moments.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool)

        begin = time.perf_counter()
        messages = build_messages(question(number))
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            model.generate(
                **prompt,
                max_new_tokens=tokens,
                do_sample=False,
                eos_token_id=stop,
                pad_token_id=stop,
                stopping_criteria=[note],
            )
        return moments[0] - begin, (len(moments) - 1) / (moments[-1] - moments[0]), moments[-1] - begin

    serve(answer)


class Contender:
    """A contender in its own process."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.cpu_inference", "--contender", *arguments]
        self._process = subprocess.Popen(
            command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
        )

    def answer(self, number: int, tokens: int) -> Timing:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"number": number, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """The next line that is JSON; libraries print other things too."""
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                return json.loads(line)
            except ValueError:
                continue
        raise SystemExit(f"{self.name} ended early: run its contender by hand to see why.")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


# --- measuring ---------------------------------------------------------------------------------------------------------


def race(repetitions: int, tokens: int, slow_tokens: int, threads: int, heavy: bool) -> dict[str, dict[str, Any]]:
    """Medians of every contender, each asked once per round; round 0 warms up and doesn't count."""
    engine = LlamaCppEngine(Settings(model=MODEL, threads=threads * 2, adapter=str(random_adapter()), quotes="free"))
    contenders = [
        Contender("bare llama.cpp, same settings", ["bare", str(threads)], ENVIRONMENT),
        Contender("bare llama.cpp, flash attention", ["bare-flash", str(threads)], ENVIRONMENT),
        Contender("bare llama.cpp, flash attention, default environment", ["bare-flash", str(threads)], {}),
    ]
    if heavy:
        contenders += [Contender(f"transformers {p}", [p, str(threads)], {}) for p in ("float32", "bfloat16")]
    for contender in contenders:
        contender.read()
    timings: dict[str, list[Timing]] = {"engine": []} | {contender.name: [] for contender in contenders}
    sampling = Sampling(max_tokens=tokens)
    try:
        for number in range(repetitions + 1):
            timings["engine"].append(clocked(engine.stream(build_messages(question(number)), sampling, BASE)))
            for contender in contenders:
                count = slow_tokens if contender.name.startswith("transformers") else tokens
                timings[contender.name].append(contender.answer(number, count))
    finally:
        engine.close()
        for contender in contenders:
            contender.close()
    return {name: summary(values[1:]) for name, values in timings.items()}


def compare(repetitions: int, tokens: int, cpus: int) -> dict[str, Any]:
    """Both variants at once against each alone; the engine has all CPUs, so each variant its share."""
    engine = LlamaCppEngine(Settings(model=MODEL, threads=cpus, adapter=str(random_adapter())))
    sampling = Sampling(max_tokens=tokens)
    alone: dict[str, list[float]] = {BASE: [], GRPO: []}
    both, ratios = [], []

    def ask(number: int, variant: str) -> float:
        return clocked(engine.stream(build_messages(question(number)), sampling, variant))[2]

    try:
        for variant in engine.variants:
            ask(10_000, variant)
        for number in range(repetitions):
            single = [ask(20_000 + number, variant) for variant in engine.variants]
            begin = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(ask, [30_000 + number] * 2, engine.variants))
            both.append(time.perf_counter() - begin)
            ratios.append(both[-1] / max(single))
            for variant, seconds in zip(engine.variants, single, strict=True):
                alone[variant].append(seconds)
    finally:
        engine.close()
    return {
        "threads for each": engine.threads,
        "alone, seconds": {variant: round(statistics.median(values), 3) for variant, values in alone.items()},
        "both at once, seconds": round(statistics.median(both), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }


def quoting(repetitions: int, threads: int) -> dict[str, dict[str, Any]]:
    """The shipped adapter with exact and with free quotes, asked the same cases in turns."""
    engines = {
        f"GRPO, {quotes} quotes": LlamaCppEngine(Settings(model=MODEL, threads=threads * 2, quotes=quotes))
        for quotes in ("exact", "free")
    }
    timings: dict[str, list[Timing]] = {name: [] for name in engines}
    try:
        for vignette in vignettes("test")[: repetitions + 1]:
            for name, engine in engines.items():
                messages = build_messages(vignette.case.question)
                timings[name].append(clocked(engine.stream(messages, Sampling(), GRPO)))
    finally:
        for engine in engines.values():
            engine.close()
    return {name: summary(values[1:]) for name, values in timings.items()}


def summary(timings: list[Timing]) -> dict[str, Any]:
    firsts, rates, _ = zip(*timings, strict=True)
    return {
        "first token, seconds": round(statistics.median(firsts), 4),
        "tokens/s": round(statistics.median(rates), 2),
        "tokens/s of each round": [round(rate, 2) for rate in rates],
    }


def random_adapter() -> Path:
    """A LoRA of rank 16 on all linear layers, as GGUF: its speed doesn't depend on its values."""
    import gguf
    import numpy as np

    path = Path(tempfile.gettempdir()) / f"medgrpo-benchmark-{os.getpid()}.gguf"
    if path.is_file():
        return path
    base = read_gguf(find_gguf(MODEL))
    writer = gguf.GGUFWriter(path, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 16.0)
    for name, shape in base.tensors.items():
        if name.startswith("blk.") and len(shape) == 2:
            writer.add_tensor(f"{name}.lora_a", np.full((16, shape[0]), 1e-4, np.float16))
            writer.add_tensor(f"{name}.lora_b", np.full((shape[1], 16), 1e-4, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def report(result: dict[str, Any]) -> str:
    """The Markdown table."""
    lines = ["| who | first token | tokens/s |", "|---|---|---|"]
    for name, row in result["race"].items():
        lines.append(f"| {name} | {row['first token, seconds']:.3f} s | {row['tokens/s']:.1f} |")
    both = result["compare"]
    alone = " and ".join(f"{seconds:.2f} s" for seconds in both["alone, seconds"].values())
    lines += ["", f"Compare: base and GRPO alone {alone}, both at once {both['both at once, seconds']:.2f} s.", ""]
    lines += ["| ratio | measured | target |", "|---|---|---|"]
    for name, value in result["ratios"].items():
        sign, target = TARGETS[name]
        lines.append(f"| {name} | {value:.2f} | {sign} {target} |")
    return "\n".join(lines)


def ratios(rows: dict[str, dict[str, Any]], both: dict[str, Any]) -> dict[str, float]:
    """Medians of the ratios within each round, so that a slow moment of the machine cancels out."""

    def ratio(other: str, name: str = "engine") -> float:
        rounds = zip(rows[name]["tokens/s of each round"], rows[other]["tokens/s of each round"], strict=True)
        return round(statistics.median(ours / theirs for ours, theirs in rounds), 3)

    found = {
        f"engine / {name}": ratio(name) for name in ("bare llama.cpp, same settings", "bare llama.cpp, flash attention")
    }
    heavy = [ratio(name) for name in rows if name.startswith("transformers")]
    if heavy:
        found["engine / transformers"] = min(heavy)
    found["exact quotes / free quotes"] = ratio("GRPO, free quotes", "GRPO, exact quotes")
    return found | {"compare / slower alone": both["ratio"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_inference", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--slow-tokens", type=int, default=32, help="for transformers, which is much slower")
    parser.add_argument("--threads", type=int, default=available_cpus(), help="of each contender")
    parser.add_argument("--without-transformers", action="store_true")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        kind, threads = options.contender[0], int(options.contender[1])
        if kind.startswith("bare"):
            return bare_llamacpp(threads, kind == "bare-flash")
        return transformers(threads, kind)
    try:
        heavy = not options.without_transformers
        rows = race(options.repetitions, options.tokens, options.slow_tokens, options.threads, heavy)
        both = compare(options.repetitions, options.tokens, options.threads)
        rows |= quoting(4 * options.repetitions, options.threads)
    finally:
        random_adapter().unlink()
    machine = {"cpus": available_cpus(), "processor": platform.processor() or platform.machine()}
    machine |= {"load before": [round(load, 2) for load in os.getloadavg()], "python": platform.python_version()}
    options_used = {name: value for name, value in vars(options).items() if name != "contender"}
    result = {"machine": machine, "options": options_used, "race": rows, "compare": both, "ratios": ratios(rows, both)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(report(result))
    return None


if __name__ == "__main__":
    main()
