"""The policy to train, from plain transformers and PEFT or from Unsloth, as the configuration says."""

import os
from pathlib import Path
from typing import Any

from medgrpo.errors import SettingsError
from medgrpo.training.checks import process_problems, warm_start_problems
from medgrpo.training.config import Lora, RunConfig
from train.processes import count, is_first, told_by_first
from train.rollout_server import await_server


def load_policy(config: RunConfig, cache: Path) -> tuple[Any, Any, Any]:
    """(model with a trainable LoRA, tokenizer, base).

    Raises:
        SettingsError: the configuration needs a GPU or a package that is not here.
        ModelError: the model or the adapter cannot be loaded.
    """
    check_init_adapter(config.init_adapter, config.lora)
    for problem in process_problems(config, count()):
        raise SettingsError(str(problem))
    if config.backend == "unsloth":
        return _load_with_unsloth(config, cache)
    import torch

    from medgrpo.engines.weights import find_base, load_base
    from train.loading import add_adapter

    wants_cuda = "grpo.use_vllm is true" if config.stage == "grpo" and config.grpo.use_vllm else ""
    if wants_cuda and not torch.cuda.is_available():
        raise SettingsError(
            f"{wants_cuda} and this machine has no CUDA device: set grpo.use_vllm: false, or use a GPU machine."
        )
    base = told_by_first(find_base(config.model, cache) if is_first() else None)  # which converts a GGUF, once
    if wants_cuda and config.grpo.vllm_mode == "server" and is_first():
        await_server(config.grpo, base.location)
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
    from medgrpo.engines.weights import end_turns_properly, find_base, load_adapter_weights

    base = find_base(config.model, cache)
    checkpointing = "unsloth" if config.training.gradient_checkpointing else False
    in_4bit = config.precision == "4bit"
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=base.location,
        max_seq_length=context_length(config),
        dtype=None,  # bfloat16 where the GPU has it, else float16
        load_in_4bit=in_4bit,
        load_in_16bit=not in_4bit,
        use_exact_model_name=not in_4bit,  # for 4 bits it may take its own, already quantised copy of the same model
        full_finetuning=False,
        use_gradient_checkpointing=checkpointing,
        fast_inference=config.stage == "grpo" and config.grpo.use_vllm,
        max_lora_rank=config.lora.r,
        gpu_memory_utilization=config.grpo.vllm_gpu_memory_utilization,
        float8_kv_cache=False,
        random_state=config.seed,
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    chosen = config.lora.target_modules
    model = FastLanguageModel.get_peft_model(
        model,
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=names if chosen == "all-linear" else [name.strip() for name in chosen.split(",")],
        bias="none",
        use_gradient_checkpointing=checkpointing,
        use_rslora=False,
        init_lora_weights=True,
        random_state=config.seed,
    )
    end_turns_properly(tokenizer, model)
    if config.init_adapter:
        load_adapter_weights(model, Path(config.init_adapter).expanduser())
    return model, tokenizer, base


def context_length(config: RunConfig, longest: int = 2**31) -> int:
    """Tokens that vLLM has room for in one sequence: 4,096 at least, since held-out prompts are not filtered.

    Args:
        longest: context of the model.
    """
    written = max(config.grpo.max_completion_length, config.evaluation.max_new_tokens)
    return min(longest, max(4096, config.grpo.max_prompt_length + written))
