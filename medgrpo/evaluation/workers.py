"""The engine of an evaluation from the command line: as many answers at the same time as there are CPU cores.

The page's engine keeps both variants loaded and divides the cores between them. An evaluation asks one variant, so
here that variant has every core, in processes of one thread and one answer each, which
`benchmarks/evaluation_workers.py` compares with the other ways. Several answers in one process (llama.cpp's batching)
change the arithmetic and with it greedy texts. Nor is the beginning of a prompt reused, but for `REUSING`, because an
answer may then depend on the case before. So an answer is the same to the letter for any number of workers, in any
order.
"""

import hashlib
import queue
from collections.abc import Iterator, Sequence
from dataclasses import replace

from medgrpo.engines import AT_ONCE, Engine, Health, Sampling, choose, load_engine
from medgrpo.errors import SettingsError
from medgrpo.models import find_adapter
from medgrpo.prompts import Message
from medgrpo.settings import Settings

MOST = 16
"""Processes started without being asked for; each has a context in memory."""
REUSING = ("smollm2-135m",)
"""Profiles whose answers are the same whether or not the instructions are read anew for each case (0 of 16 differ, and 0 of
12 in reversed order), so that their evaluation saves that time, an eighth to a fifth."""
ELSEWHERE = 2
"""Requests at the same time to an engine that isn't on this machine's CPU."""
ON_DISK = ("llamacpp", "vllm", "transformers")
"""Engines that read the adapter from a folder of this machine."""


class Workers:
    """Several engines of one variant as one `Engine`: a request takes a free one, and waits if there is none.

    Args:
        engines: of the same model, adapter and variants; closed with this one.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)
        first = self.engines[0]
        self.name, self.model, self.adapter, self.variants = first.name, first.model, first.adapter, first.variants
        self.quotes: str = getattr(first, "quotes", "free")
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in self.engines:
            self._free.put(engine)

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        engine = self._free.get()
        try:
            yield from engine.stream(messages, sampling, variant)
        finally:
            self._free.put(engine)

    def health(self) -> Health:
        """The first that isn't ready, or the first."""
        states = [engine.health() for engine in self.engines]
        return next((health for health in states if health.state != "ready"), states[0])

    def close(self) -> None:
        """See `Engine.close`."""
        for engine in self.engines:
            engine.close()


def is_local(settings: Settings) -> bool:
    """Whether the models run in llama.cpp on this machine."""
    return choose(settings) == "llamacpp"


def open_engine(settings: Settings, variant: str, workers: int = 0) -> tuple[Engine, int]:
    """The engine to evaluate `variant` with, and how many answers to ask of it at the same time.

    Args:
        settings: as for `load_engine`.
        variant: the only one that is loaded, where the engine is llama.cpp.
        workers: answers at the same time; 0 takes one a core (at most `MOST`), what fills vLLM, or `ELSEWHERE`.

    Raises:
        SettingsError: `workers` is negative, or there is no such engine.
        ModelError: a model or adapter file is missing, damaged or unfit.
    """
    if workers < 0:
        raise SettingsError(f"--workers {workers} is out of range: use 0 (one a core), or a whole number.")
    if not is_local(settings):
        return load_engine(settings), workers or (AT_ONCE["vllm"] if choose(settings) == "vllm" else ELSEWHERE)
    from medgrpo.engines.llamacpp import LlamaCppEngine, available_cpus

    cores = settings.threads or available_cpus()
    workers = workers or min(cores, MOST)
    each = replace(settings, threads=max(1, cores // workers))
    engines: list[Engine] = []
    try:
        for _ in range(workers):
            engines.append(LlamaCppEngine(each, slots=1, variants=(variant,), cache=settings.model in REUSING))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return Workers(engines), workers


def fingerprint(settings: Settings) -> str:
    """The first 16 digits of the SHA-256 of the adapter's weights; "" where there is none on this machine.

    Raises:
        ModelError: an adapter was named and is not there.
    """
    folder = find_adapter(settings.model, settings.adapter) if choose(settings) in ON_DISK else None
    if folder is None:
        return ""
    names = ("adapter_model.safetensors", "adapter.gguf") if folder.is_dir() else ("",)
    file = next((path for name in names if (path := folder / name).is_file()), None)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file else ""
