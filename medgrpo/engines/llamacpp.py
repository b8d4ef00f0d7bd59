"""The engine for CPUs and the default: llama.cpp in one child process per variant.

One process with an adapter loaded doesn't batch plain and adapted requests (measured: the second waits for the first),
so each variant has its own. Both map the same file, so the weights are in memory once. The CPU threads are divided
between them and never oversubscribed: on two cores, two processes of two threads are four to five times slower than two
of one. The base process never sees the adapter.
"""

import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medgrpo.engines.adapters import check_adapter, convert, find_converted
from medgrpo.engines.base import BASE, GRPO, Health, Sampling
from medgrpo.engines.endpoint import ChatClient, with_retries
from medgrpo.engines.gguf_file import GGUFFile, read_gguf
from medgrpo.engines.quotes import quote_grammar
from medgrpo.engines.server import LocalServer
from medgrpo.errors import EngineError
from medgrpo.models import PROFILES, find_adapter, find_gguf
from medgrpo.prompts import Message
from medgrpo.settings import Settings

CONTEXT = 4096
"""Most tokens of prompt and answer together."""
SLOTS = 2
"""Answers one process writes at the same time; further ones wait. Each has a context of its own: in a shared
one, two long cases that exceed it together end both answers (measured)."""
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"}
"""OpenMP threads wait for each other by spinning for long. When something else runs on this machine too, the one waited
for gets no CPU: 2 threads on 2 busy cores wrote 3.5 tokens/s, and 21 when they sleep after a short spin (measured)."""
PATIENCE = 120.0
"""Seconds a request waits for the model to be loaded."""
REMEMBERED = 10_000
"""Prompts remembered as asked; far more than the servers can have cached."""
TITLES = {BASE: "base model", GRPO: "GRPO model"}


class LlamaCppEngine:
    """llama.cpp on this machine. The processes start in the background; requests wait for them.

    Args:
        settings: `model`, `adapter`, `threads`, `quotes`.
        slots: answers that each variant writes at the same time.
        context: most tokens of prompt and answer together.
        variants: those to start, between which the threads are divided; empty for all there are.
        cache: reuse the beginning that a prompt shares with the one before. Off, no answer depends on what was asked before.

    Raises:
        ModelError: a file is missing, damaged, or the adapter belongs to another base.
    """

    name = "llama.cpp"

    def __init__(
        self,
        settings: Settings,
        slots: int = SLOTS,
        context: int = CONTEXT,
        variants: Sequence[str] = (),
        cache: bool = True,
    ) -> None:
        path = find_gguf(settings.model)
        base = read_gguf(path)
        profile = PROFILES.get(settings.model)
        self.model = profile.title if profile else path.stem
        self._folder = Path(tempfile.mkdtemp(prefix="medgrpo-"))
        self._closed = False
        try:
            tuned = not variants or GRPO in variants
            source = find_adapter(settings.model, settings.adapter) if tuned else None
            adapter = _as_gguf(source, base, self._folder) if source else None
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.adapter = (settings.adapter or f"medgrpo-{settings.model}") if adapter else ""
        adapters: dict[str, Path | None] = {BASE: None} | ({GRPO: adapter} if adapter else {})
        if adapter and variants and BASE not in variants:
            del adapters[BASE]
        self.variants = tuple(adapters)
        self.threads = max(1, (settings.threads or available_cpus()) // len(adapters))
        self._cache = cache
        self.quotes = settings.quotes
        self._control_tokens = base.control_tokens()
        self._secret = secrets.token_urlsafe(24)
        self._clients: dict[str, ChatClient] = {}
        self._asked: dict[int, None] = {}
        self._lock = threading.Lock()
        context = min(context, base.setting("context_length") or context)
        self.servers = {variant: self._serve(variant, path, file, slots, context) for variant, file in adapters.items()}

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        if variant not in self.servers:
            raise EngineError(
                f"There is no variant {variant!r}, only {', '.join(self.variants)}: "
                "set MEDGRPO_ADAPTER to the folder of a trained adapter."
            )
        server = self.servers[variant]
        extra: dict[str, Any] = {"cache_prompt": self._cache and self._is_new(messages, variant)}
        if self.quotes == "exact" and (grammar := quote_grammar(messages)):
            extra["grammar"] = grammar
        # A restarted server has another address, so each attempt asks for it, and waits until it is loaded.
        yield from with_retries(
            lambda: self._client(server.address(PATIENCE), variant).stream(messages, sampling, variant, extra)
        )

    def health(self) -> Health:
        """See `Engine.health`."""
        states = [server.health() for server in self.servers.values()]
        for state in ("down", "loading"):
            details = [health.detail for health in states if health.state == state]
            if details:
                return Health(state, " ".join(details))
        share = f"{self.threads} CPU thread{'s' if self.threads > 1 else ''}"
        return Health("ready", f"{self.model} is ready in llama.cpp, {share} for each of {len(states)} variant(s).")

    def close(self) -> None:
        """See `Engine.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for server in self.servers.values():
            server.begin_close()
        for server in self.servers.values():
            server.close()
        for client in self._clients.values():
            client.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self, variant: str, model: Path, adapter: Path | None, slots: int, context: int) -> LocalServer:
        folder = self._folder / variant
        folder.mkdir()
        command = [sys.executable, "-m", "medgrpo.engines.llamacpp_server", "--model", str(model.resolve())]
        command += ["--adapter", str(adapter.resolve())] if adapter else []
        command += ["--threads", str(self.threads), "--context", str(context * slots), "--slots", str(slots)]
        command += ["--address-file", str(folder / "address")]
        return LocalServer(TITLES[variant], command, folder, self._secret, ENVIRONMENT)

    def _is_new(self, messages: Sequence[Message], variant: str) -> bool:
        """False if this process was asked exactly this before.

        Of a prompt that is cached as a whole llama.cpp evaluates the last token alone, in other arithmetic than the
        first time: 9 to 20 of 24 greedy answers came out differently. Evaluated anew, they are the same to the letter.
        Prompts that share only a beginning with an earlier one are not affected (0 of 24), and keep the gain.
        """
        asked = hash((variant, *((message["role"], message["content"]) for message in messages)))
        with self._lock:
            new = asked not in self._asked
            self._asked[asked] = None
            if len(self._asked) > REMEMBERED:
                del self._asked[next(iter(self._asked))]
        return new

    def _client(self, address: str, variant: str) -> ChatClient:
        """The connection pool to a server; a restarted server has a new address and gets a new one."""
        with self._lock:
            if address not in self._clients:
                self._clients[address] = ChatClient(
                    f"{address}/v1", self._secret, f"The {TITLES[variant]}", True, self._control_tokens
                )
            return self._clients[address]


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and the quota of its container."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        allowed, period = quota.read_text().split()
        if allowed.isdecimal():
            cpus = min(cpus, max(1, int(allowed) // int(period)))
    return cpus


def _as_gguf(source: Path, base: GGUFFile, folder: Path) -> Path:
    adapter = find_converted(source) or convert(source, base.path, folder / "adapter.gguf")
    check_adapter(adapter, base.path)
    return adapter
