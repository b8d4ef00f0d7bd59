"""Models for the engine tests: SmolLM2, random adapters for it, and tiny random models of two architectures."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgrpo.engines.gguf_file import GGUFFile, read_gguf
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.models import find_gguf
from medgrpo.settings import Settings

from ..tiny_gguf import write_gguf

LLAMA_MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return find_gguf("smollm2-135m", allow_download=False)


@pytest.fixture(scope="session")
def save_adapter() -> Callable[..., Path]:
    """Writes a random PEFT LoRA folder for a model of the llama layout, with numpy alone."""
    from safetensors.numpy import save_file

    def save(folder: Path, base: GGUFFile, rank: int = 4, strength: float = 0.05, **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(0)
        tensors = {}
        for layer in range(base.setting("block_count")):
            for module, name in LLAMA_MODULES.items():
                inputs, outputs = base.tensors[f"blk.{layer}.{name}.weight"]
                key = f"base_model.model.model.layers.{layer}.{module}"
                a = draw.normal(0, inputs**-0.5, (rank, inputs))
                b = draw.normal(0, strength, (outputs, rank))
                tensors[f"{key}.lora_A.weight"] = a.astype(np.float16).astype(np.float32)
                tensors[f"{key}.lora_B.weight"] = b.astype(np.float16).astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": "random/test"}
        config["target_modules"] = sorted(module.rpartition(".")[2] for module in LLAMA_MODULES)
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        return folder

    return save


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, smollm2: Path, save_adapter: Callable[..., Path]) -> Path:
    """A random adapter that visibly changes what SmolLM2 writes."""
    return save_adapter(tmp_path_factory.mktemp("adapter") / "random-lora", read_gguf(smollm2))


@pytest.fixture(scope="module")
def engine(adapter: Path) -> Iterator[LlamaCppEngine]:
    """SmolLM2 with that adapter, two threads in all."""
    engine = LlamaCppEngine(Settings(adapter=str(adapter), threads=2))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def post() -> Callable[..., Any]:
    """Asks a variant's own server something beside the chat."""

    def send(engine: LlamaCppEngine, variant: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            engine.servers[variant].address(60) + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {engine._secret}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    return send


@pytest.fixture(scope="session")
def full_precision(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes (once) the same GGUF model with every tensor dequantised."""
    import gguf
    from gguf.quants import dequantize

    folder = tmp_path_factory.mktemp("exact")

    def make(source: Path) -> Path:
        target = folder / source.name
        if target.is_file():
            return target
        reader = gguf.GGUFReader(source)
        writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
        for key, field in reader.fields.items():
            if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
                inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], inner)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype("float32"))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return target

    return make


@dataclass
class Tiny:
    """A tiny random transformers model and the same weights as a GGUF file with SmolLM2's tokenizer."""

    model: Any
    gguf: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Callable[[str], Tiny]:
    """Makes (once) the tiny model of an architecture."""
    made: dict[str, Tiny] = {}

    def make(architecture: str) -> Tiny:
        if architecture not in made:
            model = _tiny_model(architecture)
            path = tmp_path_factory.mktemp("tiny") / f"{architecture}.gguf"
            write_gguf(path, model, architecture, f"tiny {architecture}", tokenizer_of(read_gguf(smollm2)))
            made[architecture] = Tiny(model, path)
        return made[architecture]

    return make


def _tiny_model(architecture: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config, model = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[architecture]
    torch.manual_seed(0)
    tiny = model(
        config(
            vocab_size=49152,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            initializer_range=0.15,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()
    with torch.no_grad():
        for name, weight in tiny.named_parameters():
            if name.endswith(".bias"):
                weight.normal_(0, 0.1)
    return tiny


def tokenizer_of(file: GGUFFile) -> dict[str, Any]:
    """The fields of its tokenizer that the tiny models take over."""
    names = ("ggml.model", "ggml.pre", "ggml.tokens", "ggml.token_type", "ggml.merges", "chat_template")
    taken = {f"tokenizer.{name}": file.metadata[f"tokenizer.{name}"] for name in names}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "add_bos_token": False}
    return taken | {f"tokenizer.ggml.{name}": value for name, value in ends.items()}
