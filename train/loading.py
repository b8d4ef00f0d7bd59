"""The base model, its tokenizer and its LoRA, ready to be trained.

Weights come from a profile of `medgrpo.models`, a Hub id, a folder or a GGUF file. A GGUF is dequantised once into a
plain folder of safetensors, because that loads ten times faster and because vLLM takes a path. Two traps of GGUF
conversion are
mended and asserted here: the tokenizer's end-of-turn token, without which generation never stops, and the quantiser
mark, which makes saving fail.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from medgrpo.errors import ModelError
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import Message
from medgrpo.training.config import Lora, RunConfig

disable_progress_bar()

END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


@dataclass(frozen=True)
class Base:
    """Where the weights are (`location`, for transformers and vLLM) and what the world calls them (`name`)."""

    location: str
    name: str
    licence: str = ""
    gguf: Path | None = None


def find_base(model: str, cache: Path) -> Base:
    """Resolve `model:` of a configuration. A profile whose GGUF is installed uses that file: it is what the page runs.

    Raises:
        ModelError: a GGUF file is missing or cannot be read.
    """
    profile = PROFILES.get(model)
    gguf = packaged_gguf(profile) if profile else Path(model).expanduser() if model.endswith(".gguf") else None
    if profile is None and gguf is not None:
        profile = next((each for each in PROFILES.values() if each.gguf[1].lower() == gguf.name.lower()), None)
    name, licence = (profile.base, profile.licence) if profile else (model, "")
    if gguf is not None:
        return Base(str(dequantise(gguf, cache)), name, licence, gguf)
    return Base(profile.base if profile else model, name, licence)


def dequantise(gguf: Path, cache: Path) -> Path:
    """The GGUF as a folder of float32 safetensors with config and tokenizer, made once per file content.

    Raises:
        ModelError: the file is missing, cut off, or of an architecture that transformers cannot convert.
    """
    if not gguf.is_file():
        raise ModelError(
            f"There is no GGUF file at {gguf}: set model: to an existing file, a profile name or a Hub id."
        )
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    folder = cache / f"{gguf.stem}-{digest}"
    if (folder / "config.json").is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        end_turns_properly(tokenizer, model)
        _forget_quantisation(model)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError, IndexError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ModelError(
            f"{gguf} cannot be converted ({type(error).__name__}: {' '.join(str(error).split())[:200]}): "
            "fetch the file again, or set model: to a Hub id or folder of the full-precision weights."
        ) from error
    if not folder.exists():
        partial.rename(folder)
    return folder


def _forget_quantisation(model: Any) -> None:
    """The weights are plain numbers now; without this `save_pretrained` refuses."""
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def load_base(base: Base, precision: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """Model on its device and tokenizer, checked to end its turns.

    Raises:
        ModelError: there is no such model, or its chat template cannot be trained on.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.location, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(base.location, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model {base.location!r} cannot be loaded ({' '.join(str(error).split())[:200]}): "
            "set model: to a profile name, a folder, a .gguf file or a Hub id that this machine can reach."
        ) from error
    end_turns_properly(tokenizer, model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def end_turns_properly(tokenizer: Any, model: Any) -> None:
    """Make the token that ends a chat turn the end-of-sequence of tokenizer, model and generation, and assert it.

    Raises:
        ModelError: the chat template is missing, or its turns end in no known token.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "The model has no chat template: take an instruction-tuned model (its name often ends in -Instruct)."
        )
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rendered = str(tokenizer.apply_chat_template(turn, tokenize=False)).rstrip()
    candidates = (*END_OF_TURN, str(tokenizer.eos_token))
    token = next((each for each in candidates if rendered.endswith(each)), None)
    identity = tokenizer.convert_tokens_to_ids(token) if token else None
    if identity is None or identity == tokenizer.unk_token_id:
        raise ModelError(f"The chat template ends an answer with {rendered[-20:]!r}, none of {', '.join(END_OF_TURN)}.")
    tokenizer.eos_token = token
    tokenizer.clean_up_tokenization_spaces = False  # it would eat spaces before punctuation when decoding
    if tokenizer.pad_token is None:
        tokenizer.pad_token = token
    for config in (model.config, model.generation_config):
        config.eos_token_id = identity
        config.pad_token_id = tokenizer.pad_token_id
    assert tokenizer.eos_token_id == identity == tokenizer(token, add_special_tokens=False)["input_ids"][0]


def add_adapter(model: Any, config: RunConfig) -> PeftModel:
    """The model with the LoRA that will be trained: a new one, or that of `init_adapter`, loaded to be trained further.

    Raises:
        ModelError: it belongs to another base model.
    """
    torch.manual_seed(config.seed)
    if not config.init_adapter:
        return get_peft_model(model, lora_config(config.lora))
    folder = Path(config.init_adapter).expanduser()
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(
            f"The adapter {folder} does not fit {config.model} ({' '.join(str(error).split())[:200]}): "
            "give the adapter of a run with the same model."
        ) from error


def lora_config(lora: Lora) -> LoraConfig:
    names = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names if names == "all-linear" else [name.strip() for name in names.split(",")],
        bias="none",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: Any, folder: Path, base: Base) -> None:
    """Write the LoRA under the base's real name, in float16: half the size, finer than bfloat16 at small values."""
    partial = folder.with_name(".adapter.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(str(partial), selected_adapters=["default"])
    weights = partial / "adapter_model.safetensors"
    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    settings = partial / "adapter_config.json"
    saved = json.loads(settings.read_text(encoding="utf-8"))
    saved.update(base_model_name_or_path=base.name, inference_mode=True)
    settings.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def count_tokens(tokenizer: Any, messages: Sequence[Message]) -> int:
    """Length of a prompt as the model sees it."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def load_adapter_weights(model: Any, folder: Path) -> None:
    """Put saved LoRA weights into the LoRA that the model has.

    Raises:
        ModelError: they belong to a LoRA of another form.
    """
    outcome = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    if outcome.unexpected_keys:
        raise ModelError(
            f"The adapter {folder} does not fit the model: it has weights for {outcome.unexpected_keys[0]}."
        )
