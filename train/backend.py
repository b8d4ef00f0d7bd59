"""The policy to train, from plain transformers and PEFT or from Unsloth, as the configuration says."""

import os
from pathlib import Path
from typing import Any

from medgrpo.errors import SettingsError
from medgrpo.training.checks import warm_start_problems
from medgrpo.training.config import Lora, RunConfig


def load_policy(config: RunConfig, cache: Path) -> tuple[Any, Any, Any]:
    """(model with a trainable LoRA, tokenizer, base).

    Raises:
        SettingsError: the configuration needs a GPU or a package that is not here.
        ModelError: the model or the adapter cannot be loaded.
    """
    check_init_adapter(config.init_adapter, config.lora)
    if config.backend == "unsloth":
        return _load_with_unsloth(config, cache)
    import torch

    from train.loading import add_adapter, find_base, load_base

    wants_cuda = "grpo.use_vllm is true" if config.stage == "grpo" and config.grpo.use_vllm else ""
    if wants_cuda and not torch.cuda.is_available():
        raise SettingsError(
            f"{wants_cuda} and this machine has no CUDA device: set grpo.use_vllm: false, or use a GPU machine."
        )
    base = find_base(config.model, cache)
    model, tokenizer = load_base(base, config.precision)
    return add_adapter(model, config), tokenizer, base


def check_init_adapter(init_adapter: str, lora: Lora) -> None:
    """Whether a warm start has the shape that the configuration asks for; needs no weights.

    Raises:
        SettingsError: it is not there, or has another rank or alpha.
    """
    for problem in warm_start_problems(init_adapter, lora):
        raise SettingsError(str(problem))


def _load_with_unsloth(config: RunConfig, cache: Path) -> tuple[Any, Any, Any]:
    """Unsloth's patched model; it must be imported before trl, transformers and peft, hence the late imports."""
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("UNSLOTH_COMPILE_DISABLE", "1")  # its compilation did not end in 5 minutes on an H100
    try:
        from unsloth import FastLanguageModel
    except (ImportError, NotImplementedError) as error:
        raise SettingsError(
            f"backend is 'unsloth', and Unsloth cannot be used here ({' '.join(str(error).split())[:160]}): "
            "install requirements-gpu.txt on a CUDA machine, or set backend: trl."
        ) from None
    from train.loading import end_turns_properly, find_base, load_adapter_weights

    base = find_base(config.model, cache)
    length = config.grpo.max_prompt_length + max(config.grpo.max_completion_length, config.evaluation.max_new_tokens)
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=base.location,
        max_seq_length=length,
        load_in_4bit=False,
        fast_inference=config.stage == "grpo" and config.grpo.use_vllm,
        max_lora_rank=config.lora.r,
        gpu_memory_utilization=config.grpo.vllm_gpu_memory_utilization,
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    chosen = config.lora.target_modules
    model = FastLanguageModel.get_peft_model(
        model,
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=names if chosen == "all-linear" else [name.strip() for name in chosen.split(",")],
        use_gradient_checkpointing="unsloth" if config.training.gradient_checkpointing else False,
        random_state=config.seed,
    )
    end_turns_properly(tokenizer, model)
    if config.init_adapter:
        load_adapter_weights(model, Path(config.init_adapter).expanduser())
    return model, tokenizer, base
