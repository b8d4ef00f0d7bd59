"""What the programs of this folder share: a model of Qwen2.5-3B's shape with random weights, processes that are timed and
watched, the engine under load, and results as a table and a JSON file.

Random weights cost what the true ones cost: the same matrices are read and multiplied. A random model doesn't end its
turns either (the end is one of 151,936 about equally likely tokens), so every answer runs to its cap and all contenders
write the same number of tokens. `--cpu` takes SmolLM2-135M's shape for vLLM's build for CPUs. `--dry` takes a tiny model
without vLLM, to find typing errors where neither is.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from medgrpo.engines import Engine, load_engine
from medgrpo.engines.shapes import KNOWN, Shape
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import Message, build_messages
from medgrpo.settings import Settings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
RANK = 64


@dataclass(frozen=True)
class Scale:
    """What a program is run on: a model of this shape with random weights, how results call it, and where they go."""

    name: str
    shape: Shape
    weights: str
    results: Path | None


TINY = Shape(layers=2, hidden=64, feed_forward=128, heads=4, kv_heads=2, vocabulary=0, context=4096)
DRY = Scale("tiny", TINY, "a tiny model on the CPU: a dry run, the times mean nothing", None)
ON_CPU = Scale(
    "smollm2-135m-random",
    KNOWN["HuggingFaceTB/SmolLM2-135M-Instruct"],
    "random, SmolLM2-135M's shape, in vLLM's build for CPUs",
    RESULTS.with_name("vllm_cpu"),
)
FULL = Scale("qwen2.5-3b-random", KNOWN["Qwen/Qwen2.5-3B-Instruct"], "random, Qwen2.5-3B's shape", RESULTS)


def scale_of(options: argparse.Namespace) -> Scale:
    return DRY if options.dry else ON_CPU if options.cpu else FULL


PACKAGES = ("torch", "transformers", "trl", "peft", "vllm", "unsloth", "accelerate", "gradio")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "PYTHONUNBUFFERED": "1",
}


def parser(program: str, description: str | None, cpu: bool = False) -> argparse.ArgumentParser:
    """Arguments that all programs take, and `--cpu` for those that a CPU can run. From here on SIGTERM ends a program as
    an error does, so that servers and runs it started don't stay on the GPU.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.gpu.{program}", description=description)
    made.add_argument("--gguf", type=Path, help="GGUF file of a Qwen2.5 model, for its tokenizer (default: SmolLM2's)")
    made.add_argument("--work", type=Path, default=Path("/tmp/medgrpo-gpu"), help="folder for models, runs and logs")
    made.set_defaults(cpu=False)
    if cpu:
        made.add_argument("--cpu", action="store_true", help="SmolLM2-135M's shape, in vLLM's build for CPUs")
    made.add_argument(
        "--dry", action="store_true", help="a tiny model on the CPU, without vLLM; the times mean nothing"
    )
    return made


# --- the model ---------------------------------------------------------------------------------------------------------


def model_folders(options: argparse.Namespace) -> tuple[Path, Path]:
    """(model, LoRA adapter of rank 64 for it) as folders that transformers and vLLM read; made once in `--work`."""
    scale = scale_of(options)
    folder = options.work / scale.name
    if not (folder / "adapter" / "adapter_config.json").is_file():
        began = time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        work = (scale.shape, options.gguf, folder)
        builder = multiprocessing.get_context("spawn").Process(target=_build, args=work)  # leaves nothing on the GPU
        builder.start()
        builder.join()
        if builder.exitcode:
            raise SystemExit("The random model could not be made; the lines above say why.")
        print(f"random model made in {time.perf_counter() - began:.0f} s: {folder}", flush=True)
    return folder / "model", folder / "adapter"


def _build(shape: Shape, gguf: Path | None, folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from medgrpo.engines.weights import end_turns_properly

    gguf = gguf or packaged_gguf(PROFILES["smollm2-135m"])
    if gguf is None:
        raise SystemExit("There is no tokenizer: give --gguf FILE, a GGUF file of a Qwen2.5 model.")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = Qwen2Config(
        vocab_size=shape.vocabulary or len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
        end_turns_properly(tokenizer, model)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        lora = LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
        )
        model.name_or_path = str(folder / "model")
        get_peft_model(model, lora).save_pretrained(folder / "adapter")


# --- processes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """One process: seconds it took and the most memory in use on each GPU meanwhile, in GiB ([] without a GPU)."""

    seconds: float
    peak: list[float]


def run(command: Sequence[str], log: Path, environment: Mapping[str, str], limit: float) -> Ran:
    """Run to the end, or say the last lines of its log and leave."""
    began = time.perf_counter()
    with log.open("wb") as out, memory_watched() as peak:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **OFFLINE, **environment}, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            _end_group(process)
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        why = f"did not end in {limit:.0f} s" if code == -1 else f"ended with {code}"
        raise SystemExit(f"{' '.join(command)} {why}; the log is {log}:\n{tail}")
    return Ran(time.perf_counter() - began, peak)


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs while the block does, and all that it starts."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **OFFLINE, **environment}, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _end_group(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path, ready: str, limit: float) -> None:
    """Until the address `ready` answers 200, or the last lines of the log and the end."""
    import httpx

    end = time.monotonic() + limit
    while True:
        with suppress(httpx.HTTPError):
            if httpx.get(ready, timeout=2, trust_env=False).status_code == 200:
                return
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise SystemExit(f"{ready} did not answer; the server's log is {log}:\n{tail}")
        time.sleep(0.5)


@contextmanager
def served(
    command: Sequence[str], log: Path, environment: Mapping[str, str], ready: str, limit: float
) -> Iterator[None]:
    """A server that runs while the block does, entered when the address `ready` answers 200."""
    with started(command, log, environment) as process:
        wait_until_ready(process, log, ready, limit)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all it started; they're a group of their own."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if process.poll() is not None and not _alive(process.pid):
            return
        time.sleep(0.5)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def memory_watched(every: float = 0.5) -> Iterator[list[float]]:
    """A list that holds the most memory in use on each GPU so far, in GiB."""
    peak: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every):
            now = used_memory()
            peak[:] = [max(pair) for pair in zip(now, peak or now, strict=True)]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def used_memory() -> list[float]:
    """Memory in use on each GPU that this process may see, in GiB."""
    return [float(line) / 1024 for line in _nvidia("memory.used")]


def total_memory() -> list[float]:
    """Memory of each GPU that this process may see, in GiB."""
    return [float(line) / 1024 for line in _nvidia("memory.total")]


def visible(places: str) -> str:
    """CUDA_VISIBLE_DEVICES for a process that gets these of the GPUs that this one may see: "0,1" -> "2,3"."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return places if allowed == [""] else ",".join(allowed[int(place)] for place in places.split(","))


def _nvidia(query: str) -> list[str]:
    """One line for each GPU that this process may see."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    if allowed := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", allowed]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


# --- the engine --------------------------------------------------------------------------------------------------------


@contextmanager
def our_engine(options: argparse.Namespace, share: float) -> Iterator[Engine]:
    """Our vLLM engine with both variants, ready to answer; the llama.cpp engine with SmolLM2 in a dry run."""
    settings = Settings(engine="llamacpp")
    if not options.dry:
        model, adapter = model_folders(options)
        settings = replace(settings, engine="vllm", model=str(model), adapter=str(adapter), gpu_memory=share)
    os.environ.update(OFFLINE)
    began = time.perf_counter()
    engine = load_engine(settings)
    try:
        while (health := engine.health()).state == "loading":
            time.sleep(0.1)
        if health.state != "ready":
            raise SystemExit(f"The engine did not start: {health.detail}")
        print(f"engine ready after {time.perf_counter() - began:.0f} s", flush=True)
        yield engine
    finally:
        engine.close()


def question(number: int) -> list[Message]:
    """A case nobody asked before; the number comes early, so that only the instructions can be cached."""
    return build_messages(f"Patient {number} is {20 + number % 60} years old and has had chest pain for two hours.")


# --- results -----------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were measured on; no name of a host."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    gpus, driver = _nvidia("name,memory.total"), _nvidia("driver_version")[:1]
    return {"gpus": gpus, "driver": "".join(driver), "cpus": os.cpu_count(), "python": platform.python_version()} | {
        "versions": versions
    }


def publish(
    figure: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    ratios: Mapping[str, tuple[float, str, float | None]],
    options: argparse.Namespace,
    **more: Any,
) -> None:
    """Print the table and write `results/gpu/<figure>.json`; a dry run writes into `--work` instead.

    Args:
        rows: of the table; all have the same keys.
        ratios: what is compared -> (value, ">=" or "<=", the value to reach or None).
        more: further fields of the file; `machine` if it was another one.
    """
    heads = list(rows[0])
    lines = [f"\n## {title}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_cell(row[head]) for head in heads)} |" for row in rows]
    judged: dict[str, Any] = {}
    for name, (value, sign, goal) in ratios.items():
        met = None if goal is None else (value >= goal if sign == ">=" else value <= goal)
        judged[name] = {"value": round(value, 4), "goal": goal and f"{sign} {goal:g}", "met": met}
        lines.append(f"{name}: {value:.3f}" + ("" if goal is None else f" (goal {sign} {goal:g}: {_verdict(met)})"))
    print("\n".join(lines), flush=True)
    scale = scale_of(options)
    chosen = {name: value.name if isinstance(value, Path) else value for name, value in vars(options).items()}
    result = {"figure": title, "weights": scale.weights, "rows": rows, "ratios": judged}
    result |= {"options": chosen, "machine": machine(), "command": _command()} | more
    path = (scale.results or options.work / "results") / f"{figure}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")


def kept_machine(options: argparse.Namespace, arm: str) -> dict[str, Any]:
    """The field `machine` of a figure that is read with `--read`: the one on which the arm ran."""
    if not options.read:
        return {}
    return {"machine": json.loads((options.read / arm / "machine.json").read_text(encoding="utf-8"))}


def _command() -> str:
    """The command line without folders of this machine."""
    words = [f"benchmarks.gpu.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    return " ".join(["python", "-m", *(Path(word).name if word.startswith("/") else word for word in words)])


def _verdict(met: bool | None) -> str:
    return "met" if met else "missed"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
