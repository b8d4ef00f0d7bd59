"""The engine for ZeroGPU Spaces and Apple silicon, and a second way on any CPU or CUDA machine: transformers with PEFT.

One base model carries the adapter. Switching adapters on and off is global state in PEFT, so nobody switches here: each
row of a batch names its own (`adapter_names`), and base and GRPO are written side by side in the same forward passes.
On a CPU a step of such a pair took 83 ms, the two one after the other 104 ms (SmolLM2, one thread). Questions that
arrive within `GATHER` seconds become one batch; later ones form the next and take turns with it, a token each.

On ZeroGPU a batch is one call, so Compare costs one allocation: `spaces.GPU` runs `_write` in another process which has
the GPU for the seconds that `seconds` computes. What goes in and out of `_write` is therefore plain values.
"""

try:
    import spaces  # before torch, which it prepares on ZeroGPU; without effect elsewhere
except ImportError:
    spaces = None

import gc
import math
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, get_peft_model
from transformers import DynamicCache

from medgrpo.engines.base import BASE, GRPO, Health, Sampling
from medgrpo.engines.control_tokens import without_control_tokens
from medgrpo.engines.llamacpp import CONTEXT, available_cpus
from medgrpo.engines.weights import END_OF_TURN, find_base, load_adapter_weights, load_base, prompt_ids
from medgrpo.errors import EngineError, ModelError, SettingsError
from medgrpo.models import PROFILES, find_adapter
from medgrpo.prompts import Message
from medgrpo.settings import Settings

GATHER = 0.05
"""Seconds in which further questions join a batch. Compare asks its two within a millisecond."""
ROWS = 8
"""Answers in one batch."""
STARTUP, PER_TOKEN = 15.0, 0.06
"""Seconds of a GPU that a call on ZeroGPU asks for: to get the weights there, and for each token. An estimate for 3B
parameters: too few end an answer in the middle, and too many are granted later or not at all."""
ADAPTERS = {BASE: "__base__", GRPO: "default"}
"""PEFT's names: no adapter, and the one that was loaded."""
ENDS = (*END_OF_TURN, "<|endoftext|>")

News = list[tuple[int, str | None]]


@dataclass
class Row:
    """One answer of a batch.

    Attributes:
        ids: the prompt.
        adapter: one of `ADAPTERS`.
        sampling: with `max_tokens` within the context.
        closed: nobody reads this answer any more. Not noticed in another process, which stops when all are closed.
    """

    ids: list[int]
    adapter: str
    sampling: Sampling
    closed: bool = False


@dataclass
class _Request:
    """A question on its way; `context` is that of the asker, from which ZeroGPU knows whose quota it is."""

    messages: Sequence[Message]
    variant: str
    sampling: Sampling
    row: Row | None = None
    closed: bool = False
    news: "queue.SimpleQueue[str | EngineError | None]" = field(default_factory=queue.SimpleQueue)
    context: Context = field(default_factory=copy_context)

    def close(self) -> None:
        self.closed = True
        if self.row:
            self.row.closed = True


def seconds(rows: Sequence[Row]) -> int:
    """How long a batch may take at most on ZeroGPU."""
    return math.ceil(STARTUP + PER_TOKEN * max(row.sampling.max_tokens for row in rows))


def choose(logits: torch.Tensor, sampling: Sampling, draw: torch.Generator) -> int:
    """The next token: temperature first, then the smallest set of tokens with `top_p` of the probability.

    Args:
        logits: of one row, (vocabulary,), on the CPU, so that a seed means the same on every device.
        sampling: see `Sampling`.
        draw: source of chance.
    """
    if sampling.temperature <= 0:
        return int(logits.argmax())
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p >= 1:
        return int(torch.multinomial(chances, 1, generator=draw))
    chances, tokens = chances.sort(descending=True)
    chances = chances.where(chances.cumsum(-1) - chances < sampling.top_p, 0)
    return int(tokens[torch.multinomial(chances, 1, generator=draw)])


class _Pen:
    """Writes one row: chooses its tokens and turns them into text."""

    def __init__(self, number: int, row: Row, tokenizer: Any) -> None:
        self.number, self.row = number, row
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._said = ""
        self._draw = torch.Generator()
        if row.sampling.seed is None:
            self._draw.seed()
        else:
            self._draw.manual_seed(row.sampling.seed)

    def write(self, logits: torch.Tensor, ends: frozenset[int]) -> tuple[int, str, bool]:
        """(token, new text, whether the row ends with it). Half a character waits for its other half."""
        token = choose(logits, self.row.sampling, self._draw)
        if token in ends:
            return token, "", True
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        last = len(self._tokens) >= self.row.sampling.max_tokens
        if text.endswith("\ufffd") and not last:
            return token, "", False
        new, self._said = text[len(self._said) :], text
        return token, new, last


class TransformersEngine:
    """A model in this process, or on ZeroGPU in the one that has the GPU. Loads before it returns.

    Args:
        settings: `model`, `adapter`, `threads` (on a CPU), `zero_gpu`, `runs` (where a GGUF is kept dequantised).

    Raises:
        ModelError: weights are missing or damaged, or the adapter belongs to another base.
        SettingsError: this is ZeroGPU and the package `spaces` is missing.
    """

    name = "transformers"

    def __init__(self, settings: Settings) -> None:
        if settings.zero_gpu and spaces is None:
            raise SettingsError("This Space runs on ZeroGPU, which needs a line `spaces` in its requirements.txt.")
        profile = PROFILES.get(settings.model)
        self._zero = settings.zero_gpu
        self._device = "cuda" if self._zero else best_device()
        if self._device == "cpu":
            torch.set_num_threads(settings.threads or available_cpus())
        base = find_base(settings.model, settings.runs / ".cache")
        model, self._tokenizer = load_base(base, "fp32" if self._device == "cpu" else "bf16", "cpu")
        adapter = find_adapter(settings.model, settings.adapter)
        if adapter:
            model = _with_adapter(model, adapter)
        # ZeroGPU keeps a model ready that the main thread puts on the GPU it pretends to have before the page opens.
        # Another thread can't; then `_write` moves it.
        if not self._zero or threading.current_thread() is threading.main_thread():
            model = model.to(self._device)
        self._model: Any = model.eval()
        self.model = profile.title if profile else Path(settings.model).name
        self.adapter = (settings.adapter or f"medgrpo-{settings.model}") if adapter else ""
        self.variants: tuple[str, ...] = (BASE, GRPO) if adapter else (BASE,)
        self._context = min(CONTEXT, getattr(model.config, "max_position_embeddings", None) or CONTEXT)
        vocabulary = self._tokenizer.get_vocab()
        self._ends = frozenset({vocabulary[end] for end in ENDS if end in vocabulary} | {self._tokenizer.eos_token_id})
        self._control_tokens = [str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        self._generate = spaces.GPU(duration=seconds)(self._write) if self._zero else self._write
        self._turn = threading.Lock()
        self._closed = False
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._at_work: list[threading.Thread] = []
        threading.Thread(target=self._gather, name="transformers", daemon=True).start()

    def stream(self, messages: Sequence[Message], sampling: Sampling, variant: str) -> Iterator[str]:
        """See `Engine.stream`."""
        if variant not in self.variants:
            raise EngineError(
                f"There is no variant {variant!r}, only {', '.join(self.variants)}: "
                "set MEDGRPO_ADAPTER to the folder of a trained adapter."
            )
        if self._closed:
            raise EngineError(f"{self.model} was closed: load the engine again.")
        request = _Request(without_control_tokens(messages, self._control_tokens), variant, sampling)
        self._waiting.put(request)
        try:
            while (news := self._next(request)) is not None:
                yield news
        finally:
            request.close()

    def health(self) -> Health:
        """See `Engine.health`."""
        if self._closed:
            return Health("down", f"{self.model} was closed: load the engine again.")
        where = {"cpu": "on the CPU", "mps": "on Apple silicon", "cuda": "on CUDA"}[self._device]
        where = "on ZeroGPU, which lends a GPU for each answer" if self._zero else where
        return Health("ready", f"{self.model} is ready in transformers {where}.")

    def close(self) -> None:
        """See `Engine.close`. Gives the memory back."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        for thread in self._at_work:
            thread.join(10)
        self._model = None
        gc.collect()
        if self._device == "cuda" and not self._zero:
            torch.cuda.empty_cache()

    def _next(self, request: _Request) -> str | None:
        while True:
            try:
                news = request.news.get(timeout=1)
            except queue.Empty:
                if self._closed:  # it came too late for anybody to answer it
                    raise EngineError(f"{self.model} was closed: load the engine again.") from None
                continue
            if isinstance(news, EngineError):
                raise news
            return news

    def _gather(self) -> None:
        """Make batches of the questions that arrive together, each answered in a thread of its own."""
        while (first := self._waiting.get()) is not None:
            batch: list[_Request] = [first]
            try:
                while len(batch) < ROWS and (further := self._waiting.get(timeout=GATHER)):
                    batch.append(further)
            except queue.Empty:
                pass
            self._at_work = [thread for thread in self._at_work if thread.is_alive()]
            thread = threading.Thread(target=first.context.run, args=(self._answer, batch), daemon=True)
            self._at_work.append(thread)
            thread.start()
            if self._closed:
                return

    def _answer(self, batch: list[_Request]) -> None:
        """Hand the rows' news to those who asked; whatever goes wrong reaches them as a sentence."""
        end: EngineError | None = None
        try:
            batch = [request for request in batch if self._prepare(request)]
            rows = [request.row for request in batch if request.row]
            if rows:
                with closing(self._generate(rows)) as news:
                    for each in news:
                        for number, text in each:
                            batch[number].news.put(text)
                        if self._closed or all(request.closed for request in batch):
                            break
        except Exception as error:
            end = EngineError(self._sentence(error))
            end.__cause__ = error
        if self._closed:
            end = EngineError(f"{self.model} was closed in the middle of an answer: ask again.")
        for request in batch:
            request.news.put(end)  # those that have ended don't read it

    def _prepare(self, request: _Request) -> bool:
        """Whether there is something to write; if not, the request has been told why."""
        ids = prompt_ids(self._tokenizer, request.messages)
        room = self._context - len(ids)
        if room <= 0:
            request.news.put(
                EngineError(
                    f"The case is too long for {self.model}: with the instructions it has {len(ids)} tokens and "
                    f"{self._context} is the limit: shorten it."
                )
            )
            return False
        sampling = replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room))
        request.row = Row(ids, ADAPTERS[request.variant], sampling)
        return not request.closed

    def _write(self, rows: list[Row]) -> Generator[News]:
        """What the rows say, a token of each at a time: (place of the row, new text), and None where it ends."""
        model = self._model.to(self._device)
        cache = DynamicCache(config=model.config)
        width = max(len(row.ids) for row in rows)
        ids = torch.tensor([[self._tokenizer.pad_token_id] * (width - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows])
        pens = [_Pen(number, row, self._tokenizer) for number, row in enumerate(rows)]
        while pens:
            with self._turn:
                logits = self._forward(model, ids, mask, cache, [pen.row.adapter for pen in pens])
            news: News = []
            going: dict[int, int] = {}
            for place, pen in enumerate(pens):
                token, text, ended = pen.write(logits[place], self._ends)
                news += [(pen.number, text)] if text else []
                news += [(pen.number, None)] if ended else []
                if not ended and not pen.row.closed:
                    going[place] = token
            yield news
            kept = list(going)
            if len(kept) < len(pens):
                pens, mask = [pens[place] for place in kept], mask[kept]
                cache.batch_select_indices(torch.tensor(kept, dtype=torch.long))
            ids = torch.tensor(list(going.values()), dtype=torch.long)[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], 1)

    def _forward(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache, adapters: list[str]
    ) -> torch.Tensor:
        """Logits (rows, vocabulary) of the next token, on the CPU. Rows are padded on the left."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        named = {"adapter_names": adapters} if self.adapter else {}
        with torch.inference_mode():
            output = model(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                position_ids=positions.to(self._device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **named,
            )
        return output.logits[:, -1].float().cpu()

    def _sentence(self, error: Exception) -> str:
        said = " ".join(str(getattr(error, "message", error)).split())[:200].rstrip(".")
        if "out of memory" in said or "OutOfMemory" in said:
            return f"{self.model} ran out of memory: ask for fewer tokens, or set MEDGRPO_MODEL to a smaller model."
        if type(error).__module__.startswith(("gradio", "spaces")):  # how ZeroGPU refuses
            return f"ZeroGPU gave no answer ({said}): sign in to the Hub for a larger quota, or ask again later."
        return f"{self.model} stopped in the middle of an answer ({type(error).__name__}: {said}): ask again."


def best_device() -> str:
    """Where transformers is fastest on this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _with_adapter(model: Any, folder: Path) -> Any:
    """The model with an adapter that each row of a batch may take or leave."""
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is for llama.cpp: set MEDGRPO_ADAPTER to the folder with adapter_model.safetensors."
        )
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{folder} holds no adapter that PEFT can read ({' '.join(str(error).split())[:200]}): "
            "set MEDGRPO_ADAPTER to the `adapter` folder of a run."
        ) from error
    if config.peft_type != PeftType.LORA or config.use_dora:
        raise ModelError(f"{folder} is not a plain LoRA, so base and tuned model can't share a batch: train a LoRA.")
    config.base_model_name_or_path = None  # PEFT warns where the base is loaded from elsewhere than it was trained on
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(
            f"The adapter {folder} does not fit the model ({' '.join(str(error).split())[:200]}): "
            "give the adapter of a run with this model."
        ) from error
    load_adapter_weights(model, folder)
    return model
