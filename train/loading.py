"""The base model's LoRA: made, loaded to be trained further, and saved. The base itself comes from `engines.weights`."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from medgrpo.engines.weights import Base, prompt_ids
from medgrpo.errors import ModelError
from medgrpo.prompts import Message
from medgrpo.training.config import Lora, RunConfig


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
    write_weights({name: tensor.to(torch.float16) for name, tensor in load_file(weights).items()}, weights)
    settings = partial / "adapter_config.json"
    saved = json.loads(settings.read_text(encoding="utf-8"))
    saved.update(base_model_name_or_path=base.name, inference_mode=True)
    settings.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def write_weights(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write matrices as PEFT does, for everybody to read."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    file.chmod(0o644)


def count_tokens(tokenizer: Any, messages: Sequence[Message]) -> int:
    """Length of a prompt as the model sees it."""
    return len(prompt_ids(tokenizer, messages))
