"""The size of a model, read from the head of its files: what memory and time are estimated from."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgrpo.engines.gguf_file import read_gguf
from medgrpo.errors import ModelError
from medgrpo.models import PROFILES, packaged_gguf


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama or Qwen family; sizes as in its config.json."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    tied: bool = True

    @property
    def kv_width(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    @property
    def layer_parameters(self) -> int:
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_width
        return attention + 3 * self.hidden * self.feed_forward

    @property
    def parameters(self) -> int:
        """Norms and biases, less than a thousandth, are left out."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.layers * self.layer_parameters

    def lora_parameters(self, rank: int, modules: str) -> int:
        """Trainable values: r (in + out) for each adapted matrix (Hu et al., arXiv:2106.09685)."""
        wide, narrow, forward = self.hidden, self.kv_width, self.feed_forward
        ends = {
            "q_proj": wide + wide, "k_proj": wide + narrow, "v_proj": wide + narrow, "o_proj": wide + wide,
            "gate_proj": wide + forward, "up_proj": wide + forward, "down_proj": wide + forward,
        }  # fmt: skip
        names = ends if modules == "all-linear" else [name.strip() for name in modules.split(",")]
        return rank * self.layers * sum(ends.get(name, 0) for name in names)


# From the config.json of the Hub's repositories, for models that are not on this machine yet.
KNOWN = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 1536, 9, 3, 49_152, 8192),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": Shape(24, 896, 4864, 14, 2, 151_936, 32_768),
    "Qwen/Qwen2.5-3B-Instruct": Shape(36, 2048, 11_008, 16, 2, 151_936, 32_768),
}


@functools.lru_cache(maxsize=32)
def shape_of(model: str) -> Shape | None:
    """The shape of `model:` of a configuration; None if its files are not here or say nothing."""
    profile = PROFILES.get(model)
    gguf = packaged_gguf(profile) if profile else Path(model).expanduser() if model.endswith(".gguf") else None
    if gguf is not None:
        return _from_gguf(gguf)
    base = profile.base if profile else model
    return _from_config(Path(base).expanduser() / "config.json") or _from_cache(base) or KNOWN.get(base)


def _from_gguf(path: Path) -> Shape | None:
    try:
        head = read_gguf(path)
    except ModelError:
        return None
    heads = head.setting("attention.head_count")
    vocabulary = head.tensors.get("token_embd.weight", (0, 0))[-1]
    if not heads or not vocabulary:
        return None
    return Shape(
        head.setting("block_count"),
        head.setting("embedding_length"),
        head.setting("feed_forward_length"),
        heads,
        head.setting("attention.head_count_kv", heads),
        vocabulary,
        head.setting("context_length"),
        "output.weight" not in head.tensors,
    )


def _from_config(path: Path) -> Shape | None:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        heads = int(found["num_attention_heads"])
        return Shape(
            int(found["num_hidden_layers"]),
            int(found["hidden_size"]),
            int(found["intermediate_size"]),
            heads,
            int(found.get("num_key_value_heads") or heads),
            int(found["vocab_size"]),
            int(found.get("max_position_embeddings", 0)),
            bool(found.get("tie_word_embeddings", False)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_cache(repository: str) -> Shape | None:
    if repository.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, "config.json")
    except HFValidationError:
        return None
    return _from_config(Path(found)) if isinstance(found, str) else None
