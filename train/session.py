"""What SFT and GRPO do alike with a trainer: arguments, train or resume, watch held-out cases, save, close."""

import time
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import PrinterCallback

from medgrpo.data import load_cases
from medgrpo.engines.weights import Base, load_adapter_weights
from medgrpo.errors import MedGRPOError, RunError
from medgrpo.training.card import write_card
from medgrpo.training.config import RunConfig
from medgrpo.training.recording import record_held_out
from medgrpo.training.run_directory import RunDirectory
from train.answering import answer_held_out
from train.callbacks import RunCallback
from train.launch import Attempt
from train.loading import save_adapter
from train.processes import is_first


def common_arguments(config: RunConfig, run: RunDirectory) -> dict[str, Any]:
    """The part of the trainer's arguments that both stages share."""
    training = config.training
    cuda = torch.cuda.is_available()
    half = "" if config.precision == "fp32" else half_precision()
    return {
        "output_dir": str(run.path),
        "max_steps": training.max_steps,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": training.optim,
        "gradient_checkpointing": training.gradient_checkpointing,
        "logging_steps": training.logging_steps,
        "save_strategy": "steps",
        "save_steps": training.save_steps,
        "save_total_limit": training.save_total_limit,
        "seed": config.seed,
        "bf16": half == "bf16",
        "fp16": half == "fp16",
        "use_cpu": not cuda,
        "ddp_find_unused_parameters": False,  # every matrix of the adapter takes part in every step
        "logging_nan_inf_filter": False,  # it would hide a loss that is not a number behind the mean of the others
        "dataloader_pin_memory": cuda,
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
    }


def half_precision() -> str:
    """`bf16`, or `fp16` on a GPU older than Ampere, such as the T4, which computes bfloat16 in float32."""
    old = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
    return "fp16" if old else "bf16"


def run_trainer(trainer: Any, tokenizer: Any, config: RunConfig, attempt: Attempt, base: Base) -> None:
    """Train or resume, save the adapter, and answer the held-out cases a last time."""
    watched = config.evaluation
    cases = load_cases(watched.source, watched.split, watched.limit, 0) if watched.limit else []

    def evaluate(step: int) -> None:
        if not cases:
            return
        attempt.status.update(phase="evaluating")
        began = time.perf_counter()
        answers = answer_held_out(trainer, tokenizer, cases, watched.max_new_tokens)
        if not is_first():
            return
        summary = record_held_out(attempt.run, step, cases, answers, time.perf_counter() - began)
        attempt.say(
            f"step {step}: {summary['accuracy']:.1%} right, {summary['format_rate']:.1%} well-formed "
            f"of {summary['cases']} held-out cases, {summary['seconds']:.1f} s"
        )

    generates = config.grpo.num_iterations if config.stage == "grpo" else 0
    callback = RunCallback(attempt, evaluate, watched.every, generates)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(callback)
    trainer.create_model_card = lambda *args, **kwargs: None  # the card is ours; a run directory holds nothing else
    if config.precision != "fp32" and half_precision() == "fp16":
        attempt.note("This GPU has no bfloat16: the arithmetic is done in float16, with a scaled loss.")
    attempt.stop.listen()
    attempt.status.update(total=config.training.max_steps)
    attempt.enter("training")
    _train(trainer, config.training.max_steps, attempt.checkpoint)

    attempt.status.update(phase="saving", step=trainer.state.global_step)
    if is_first():
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), attempt.run.adapter, base)
        if base.gguf is not None:
            _convert(attempt, base.gguf)
    stopped = attempt.stop_asked()
    if not stopped:
        evaluate(trainer.state.global_step)
    if is_first():
        write_card(attempt.run, config, base.name, base.licence)
    _check_finite(trainer.state.log_history)
    attempt.status.update(phase="stopped" if stopped else "finished", step=trainer.state.global_step)


def _train(trainer: Any, max_steps: int, checkpoint: Path | None) -> None:
    """Train to the last step. A Trainer resumed at its last step takes one more, so it is not asked to."""
    if trainer.args.device == torch.device("cpu:0"):  # of several processes on a CPU; no checkpoint can be loaded to it
        vars(trainer.args)["_setup_devices"] = torch.device("cpu")
    done = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    if checkpoint is None or done < max_steps:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return
    load_adapter_weights(trainer.model, checkpoint)
    trainer.state.global_step = done


def _convert(attempt: Attempt, base_gguf: Path) -> None:
    """Put `adapter.gguf` beside the adapter, for llama.cpp. The adapter is safe already, so a failure is only noted."""
    from medgrpo.engines.adapters import convert

    try:
        convert(attempt.run.adapter, base_gguf, attempt.run.adapter / "adapter.gguf")
    except (MedGRPOError, OSError, ValueError, KeyError) as error:
        attempt.note(f"The adapter was not converted to GGUF: {error}")


def _check_finite(history: list[dict[str, Any]]) -> None:
    """A run whose loss is not a number must not be called finished."""
    losses = [line["loss"] for line in history if "loss" in line]
    if losses and losses[-1] != losses[-1]:
        raise RunError(
            "The loss is not a number: lower training.learning_rate, or set precision: fp32, and start again."
        )
