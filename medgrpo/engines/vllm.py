"""The engine for GPUs, and for CPUs with vLLM's build for them: one supervised `vllm serve`, both variants in one batch.

The base model has the name "base" there; an adapter is loaded while the server runs, under a name that is never used
twice: vLLM's prefix cache tells adapters apart by their names, and another adapter under an old name would read the old
one's cache. Engines with the same model share one server, so that another adapter takes a second and no second share of
the GPU's memory; the server ends with the last of them. To make room for a training run it is stopped and later started
again: vLLM's sleep mode would keep a CUDA context and its graphs on the GPU, and needs its development endpoints.
"""

import importlib.metadata
import importlib.util
import itertools
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medgrpo.engines.base import BASE, GRPO, Health, Sampling
from medgrpo.engines.endpoint import ChatClient, Unreached, with_retries
from medgrpo.engines.server import LocalServer
from medgrpo.engines.shapes import shape_of
from medgrpo.errors import EngineError, ModelError, SettingsError
from medgrpo.models import PROFILES, find_adapter
from medgrpo.prompts import Message
from medgrpo.settings import Settings

CONTEXT = 4096
"""Most tokens of prompt and answer together, as in the llama.cpp engine."""
RANKS = (64, 128, 256, 320, 512)
"""Values of --max-lora-rank; the first holds every preset's adapter, those chosen later on the page included."""
TOGETHER, KEPT = 2, 4
"""Adapters in one batch (while one takes another's place), and adapters kept in memory."""
SENT_AT_ONCE = 8
"""Tokens in one piece of the stream, after a first piece of one. Hundreds a second are written, and each piece costs both
ends alike; eight are on the page sooner than it is painted anew."""
COUNTED = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
"""Of a request: each piece says how many tokens there are so far."""
PATIENCE = 600.0
"""Seconds a request waits for the server: the first start downloads and compiles."""
PHASES = {
    "Converting": "converting the weights",
    "Starting to load model": "reading the weights",
    "Model loading took": "compiling the model",
    "Available KV cache memory": "recording CUDA graphs",
    "Starting vLLM": "almost ready",
}
"""What a line of vLLM's log means for those who wait."""
_USING = "use MEDGRPO_ENGINE=llamacpp"


def unusable() -> str:
    """Why vLLM cannot run here, as a sentence; "" if nothing speaks against it."""
    if importlib.util.find_spec("vllm") is None:
        return f"The package vllm is not installed: run `pip install -r requirements-gpu.txt`, or {_USING}."
    if built_for_cpus():
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    if hidden or not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()):
        return (
            f"vLLM needs an NVIDIA GPU, and this machine shows none (no nvidia-smi, or CUDA_VISIBLE_DEVICES): {_USING}."
        )
    return ""


def built_for_cpus() -> bool:
    """Whether the installed vLLM is a build for CPUs: by vLLM's own rule, one whose version says so ("0.27.1+cpu")."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return "cpu" in importlib.metadata.version("vllm")
    return False


class VLLMEngine:
    """vLLM on this machine's GPU. The server starts in the background; requests wait for it.

    Args:
        settings: `model`, `adapter`, `gpu_memory`; `runs` holds the converted weights of a GGUF model.

    Raises:
        SettingsError: vLLM or a GPU is missing.
        ModelError: the adapter is missing, of a kind that vLLM doesn't apply, or for another model.
    """

    name = "vLLM"

    def __init__(self, settings: Settings) -> None:
        if reason := unusable():
            raise SettingsError(reason)
        profile = PROFILES.get(settings.model)
        self.model = profile.title if profile else Path(settings.model).name
        folder = find_adapter(settings.model, settings.adapter)
        rank = check_adapter(folder, settings.model) if folder else 1
        self.adapter = (settings.adapter or f"medgrpo-{settings.model}") if folder else ""
        self.variants: tuple[str, ...] = (BASE, GRPO) if folder else (BASE,)
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded = ("", "")  # address of the server's start that has the adapter, and its name there
        self._refused = ""
        self._closed = False
        self._server = _join(settings, rank)
        if folder:
            threading.Thread(target=self._prepare, name="load-adapter", daemon=True).start()

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        if variant not in self.variants:
            raise EngineError(
                f"There is no variant {variant!r}, only {', '.join(self.variants)}: "
                "set MEDGRPO_ADAPTER to the folder of a trained adapter."
            )
        yield from with_retries(lambda: self._attempt(messages, sampling, variant))

    def health(self) -> Health:
        """See `Engine.health`."""
        if self._closed:
            return Health("down", "The vLLM server was stopped: start the program again.")
        health = self._server.process.health()
        if health.state == "loading":
            return Health("loading", f"{health.detail} {self._server.progress()}")
        if health.state == "down":
            return health
        if self._refused:
            return Health("down", self._refused)
        if self._folder and not self._loaded[0]:
            return Health("loading", f"The adapter {self.adapter} is being loaded.")
        names = " and ".join(self.variants)
        where = "on the CPU" if built_for_cpus() else f"in {self._server.share:.0%} of the GPU's memory"
        return Health("ready", f"{self.model} is ready in vLLM: {names} {where}.")

    def close(self) -> None:
        """See `Engine.close`."""
        with _guard:
            if self._closed:
                return
            self._closed = True
        address, name = self._loaded
        if name and self._server.users > 1:
            with suppress(EngineError):
                self._server.client(address).command("/unload_lora_adapter", {"lora_name": name})
        _leave(self._server)

    def _attempt(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        if self._closed:
            raise EngineError("The vLLM server was stopped: start the program again.")
        address = self._server.process.address(PATIENCE)
        model = BASE if variant == BASE else self._adapter_at(address)
        return self._server.client(address).stream(messages, sampling, model, COUNTED)

    def _adapter_at(self, address: str) -> str:
        """Name of the adapter on the server's start at this address, where it is loaded once."""
        with self._lock:
            if self._loaded[0] != address and not self._closed:
                name = self._server.new_name()
                try:
                    self._server.client(address).command(
                        "/load_lora_adapter", {"lora_name": name, "lora_path": str(self._folder)}
                    )
                except Unreached:
                    raise
                except EngineError as error:
                    remedy = "Set MEDGRPO_ADAPTER to a PEFT folder of this model."
                    self._refused = f"The adapter {self._folder} cannot be used. {error} {remedy}"
                    raise EngineError(self._refused) from error
                self._loaded, self._refused = (address, name), ""
            return self._loaded[1]

    def _prepare(self) -> None:
        """Load the adapter as soon as the server is up, so that the first question doesn't wait for it."""
        while not self._closed and not self._server.process.ended:
            if self._server.process.health().state == "ready":
                try:
                    self._adapter_at(self._server.process.address(1))
                    return
                except Unreached:
                    pass  # it has just crashed, and is being restarted
                except EngineError:
                    return
            time.sleep(0.2)


class _Server:
    """One `vllm serve` and those who use it.

    Attributes:
        key: what engines must have in common to share it.
        rank: the largest that an adapter may have.
        share: of the GPU's memory.
        users: engines that share it.
    """

    def __init__(self, key: tuple[str, float], runs: Path, rank: int) -> None:
        self.key, self.rank, self.users = key, rank, 0
        model, self.share = key
        self._folder = Path(tempfile.mkdtemp(prefix="medgrpo-"))
        self._secret = secrets.token_urlsafe(24)
        self._clients: dict[str, ChatClient] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        command = [sys.executable, "-m", "medgrpo.engines.vllm_server"]
        command += ["--address-file", str(self._folder / "address")]
        command += ["--model", model, "--cache", str(runs.absolute() / ".cache"), *self._options()]
        self.process = LocalServer("vLLM server", command, self._folder, self._secret)

    def new_name(self) -> str:
        """A name that no adapter had here."""
        return f"{GRPO}-{next(self._numbers)}"

    def client(self, address: str) -> ChatClient:
        """The connection pool to the server; a restarted one has a new address and gets a new one."""
        with self._lock:
            if address not in self._clients:
                self._clients[address] = ChatClient(f"{address}/v1", self._secret, "The vLLM server", True, reuse=True)
            return self._clients[address]

    def progress(self) -> str:
        """What it does while it starts, and since when."""
        words = "starting"
        with suppress(OSError), self.process.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 50_000))
            tail = log.read().decode(errors="replace")
            words = max(("starting", *PHASES), key=tail.rfind)
        seconds = time.monotonic() - self.process.since
        return f"It is {PHASES.get(words, words)}, for {seconds:.0f} s so far; a start takes one to three minutes."

    def close(self) -> None:
        self.process.close()
        for client in self._clients.values():
            client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _options(self) -> list[str]:
        """Options of `vllm serve`. Only temperature, top_p and seed choose tokens, so not the model's own defaults.

        Nobody reads its statistics, which it would note of each token of each answer.
        """
        return [
            "--served-model-name", BASE, "--enable-lora", "--max-lora-rank", str(self.rank),
            "--max-loras", str(TOGETHER), "--max-cpu-loras", str(KEPT), "--enable-prefix-caching",
            "--max-model-len", str(CONTEXT), "--gpu-memory-utilization", str(self.share),
            "--generation-config", "vllm", "--allowed-origins", "[]", "--stream-interval", str(SENT_AT_ONCE),
            "--disable-uvicorn-access-log", "--uvicorn-log-level", "warning", "--disable-log-stats",
        ]  # fmt: skip


_running: dict[tuple[str, float], _Server] = {}
_guard = threading.Lock()


def _join(settings: Settings, rank: int) -> _Server:
    """The server with this model, started if there is none."""
    path = Path(settings.model).expanduser()
    key = (str(path.resolve()) if path.exists() else settings.model, settings.gpu_memory)
    with _guard:
        server = _running.get(key)
        if server is None or server.process.ended:
            server = _running[key] = _Server(key, settings.runs, next(most for most in RANKS if most >= rank))
        if rank > server.rank:
            raise ModelError(
                f"The adapter {settings.adapter} has rank {rank} and the running vLLM server takes up to {server.rank}: "
                f"start the program again with MEDGRPO_ADAPTER={settings.adapter}."
            )
        server.users += 1
        return server


def _leave(server: _Server) -> None:
    with _guard:
        server.users -= 1
        if server.users:
            return
        if _running.get(server.key) is server:
            del _running[server.key]
    server.close()


def check_adapter(folder: Path, model: str) -> int:
    """The rank of a PEFT folder that vLLM can apply to this model.

    vLLM itself copies a matrix that is too small into a larger place without a word, so sizes are compared here.

    Raises:
        ModelError: the folder lacks its files, the adapter is no plain LoRA, or it was made for another model.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        rank, shapes = int(config["r"]), _shapes(folder / "adapter_model.safetensors")
        config["target_modules"]  # vLLM asks for it
        made_for = str(config.get("base_model_name_or_path"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The adapter {folder} cannot be used in vLLM ({type(error).__name__}): it takes a folder with "
            "adapter_config.json and adapter_model.safetensors, as PEFT saves it. Set MEDGRPO_ADAPTER to one."
        ) from error
    kinds = ("rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "layer_replication")
    if special := [name for name in kinds if config.get(name)]:
        raise ModelError(
            f"The adapter {folder} has {', '.join(special)}, which vLLM does not apply: train a plain LoRA."
        )
    if not 0 < rank <= RANKS[-1]:
        raise ModelError(f"The adapter {folder} has rank {rank} and vLLM takes up to {RANKS[-1]}: train a smaller one.")
    base = shape_of(model)
    if base is None:
        return rank
    narrow = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), base.hidden)
    inputs = narrow | {"down_proj": base.feed_forward}
    for name, shape in shapes.items():
        parts = name.split(".")
        layer = int(parts[parts.index("layers") + 1]) if "layers" in parts else 0
        wanted = next((inputs[part] for part in parts if part in inputs), 0)
        wrong = parts[-2] == "lora_A" and wanted and shape[-1] != wanted
        if wrong or layer >= base.layers:
            raise ModelError(
                f"The adapter {folder} does not fit the model {model}: it was trained on {made_for}. "
                "Set MEDGRPO_ADAPTER to an adapter of this model, or MEDGRPO_MODEL to the adapter's model."
            )
    return rank


def _shapes(file: Path) -> dict[str, list[int]]:
    """Tensor names and shapes from the head of a safetensors file."""
    with file.open("rb") as data:
        head: dict[str, Any] = json.loads(data.read(int.from_bytes(data.read(8), "little")))
    return {name: entry["shape"] for name, entry in head.items() if name != "__metadata__"}
