"""Qwen2.5-3B shrunk: its architecture and proportions with random weights, as the GGUF file that a run starts from.

The tokenizer and the chat template are the real ones of Qwen2.5 where `.models/qwen05.gguf` is there (the Coder and the
3B share them), else a byte-level vocabulary without merges and a template with the same rules.
"""

from pathlib import Path
from typing import Any

from medgrpo.engines.gguf_file import read_gguf

from ..tiny_gguf import write_gguf

REAL = Path(__file__).parents[2] / ".models" / "qwen05.gguf"
DEFAULT = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
RULES = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + DEFAULT + "<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer() -> dict[str, Any]:
    """Tokenizer keys of a GGUF file."""
    if REAL.is_file():
        return {key: value for key, value in read_gguf(REAL).metadata.items() if key.startswith("tokenizer.")}
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [*letters, "th", "er", *special],
        "tokenizer.ggml.token_type": [1] * (len(letters) + 2) + [3] * len(special),
        "tokenizer.ggml.merges": ["t h", "e r"],
        "tokenizer.ggml.eos_token_id": len(letters) + 4,
        "tokenizer.ggml.bos_token_id": len(letters) + 2,
        "tokenizer.ggml.padding_token_id": len(letters) + 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": RULES,
    }


def write(path: Path) -> Path:
    """Write the model; its shape is the 3B's (36 layers, 2048, 11008, 16 heads over 2) by 2 layers and a 32nd."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    known = tokenizer()
    config = Qwen2Config(
        vocab_size=len(known["tokenizer.ggml.tokens"]),
        hidden_size=64,
        intermediate_size=344,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=1,
        max_position_embeddings=32_768,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return write_gguf(path, Qwen2ForCausalLM(config), "qwen2", "Qwen2.5 3B shrunk", known, rope_base=1_000_000.0)
