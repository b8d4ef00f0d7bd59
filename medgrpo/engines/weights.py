"""Full-precision weights and tokenizer of a base model, as transformers, PEFT and vLLM take them.

Weights come from a profile of `medgrpo.models`, a Hub id, a folder or a GGUF file. A GGUF is dequantised once into a
plain folder of safetensors, because that loads ten times faster and because vLLM takes a path. Two traps of GGUF
conversion are mended and asserted here: the tokenizer's end-of-turn token, without which generation never stops, and
the quantiser mark, which makes saving fail.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from medgrpo.errors import ModelError
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import Message

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
    """Resolve a profile name, path or Hub id. A profile whose GGUF is installed uses that file: it is what the page runs.

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
            f"There is no GGUF file at {gguf}: set the model to an existing file, a profile name or a Hub id."
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
            "fetch the file again, or set the model to a Hub id or folder of the full-precision weights."
        ) from error
    try:
        partial.rename(folder)
    except OSError:  # another process was as far at the same time: what it made is the same
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():
            raise
    return folder


def _forget_quantisation(model: Any) -> None:
    """The weights are plain numbers now; without this `save_pretrained` refuses."""
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def load_base(base: Base, precision: str, device: str = "") -> tuple[Any, PreTrainedTokenizerBase]:
    """Model and tokenizer, checked to end its turns.

    Args:
        base: see `find_base`.
        precision: "bf16" or "fp32".
        device: to put the model on; "" takes CUDA where there is one, else the CPU.

    Raises:
        ModelError: there is no such model, or it cannot be talked to in turns.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.location, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(base.location, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model {base.location!r} cannot be loaded ({' '.join(str(error).split())[:200]}): "
            "set the model to a profile name, a folder, a .gguf file or a Hub id that this machine can reach."
        ) from error
    end_turns_properly(tokenizer, model)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), tokenizer


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


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The tokens of a prompt as the model sees them, up to where its answer begins."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def load_adapter_weights(model: Any, folder: Path) -> None:
    """Put saved LoRA weights into the LoRA that the model has.

    Raises:
        ModelError: they are missing, damaged, or belong to a LoRA of another form.
    """
    try:
        outcome = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The adapter {folder} does not fit the model, or is damaged ({' '.join(str(error).split())[:200]}): "
            "give the adapter of a run with this model."
        ) from error
    strange = [*outcome.unexpected_keys, *(name for name in outcome.missing_keys if ".lora_" in name)]
    if strange:
        raise ModelError(
            f"The adapter {folder} does not fit the model: only one of the two has {strange[0]}. "
            "Give the adapter of a run with this model."
        )
