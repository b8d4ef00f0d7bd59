"""GRPO: the policy writes a group of completions to each case, rewards score them, the better ones are made likelier.

Reads top to bottom: audit, cases, dataset, model and LoRA, rewards, trainer, train, save, evaluate. The algorithm is
TRL's GRPOTrainer (https://arxiv.org/abs/2402.03300); rollouts come from vLLM inside this process on CUDA, from
transformers on a CPU.
"""

import os
import sys
from typing import Any, cast

from medgrpo.data import load_cases
from medgrpo.errors import RunError, SettingsError
from medgrpo.rewards import REWARDS, Scale
from medgrpo.training.checks import batch_problems, reward_weights
from medgrpo.training.config import RunConfig
from medgrpo.training.dataset import grpo_rows, without_long_prompts
from medgrpo.training.recording import CompletionRecorder
from train.launch import Attempt, launch, scoring
from train.processes import count, is_first, take_port


def train(config: RunConfig, attempt: Attempt) -> None:
    """One GRPO run, from the cases to the saved adapter."""
    weights = reward_weights(config)
    audit_rewards(config, attempt)
    data = config.data
    cases = load_cases(data.source, data.split, data.limit or None, config.seed)

    if config.grpo.use_vllm:
        take_port()
    attempt.enter("loading")
    from train.backend import load_policy  # Unsloth must come before trl and transformers, and only if it is chosen

    model, tokenizer, base = load_policy(config, attempt.cache)

    from datasets import Dataset
    from trl import GRPOTrainer

    from train.loading import count_tokens
    from train.session import run_trainer

    rows, dropped = without_long_prompts(
        grpo_rows(cases), lambda prompt: count_tokens(tokenizer, prompt), config.grpo.max_prompt_length
    )
    if dropped:
        attempt.note(
            f"{dropped} of {len(cases)} prompts have more than {config.grpo.max_prompt_length} tokens and are left out."
        )
    for problem in batch_problems(config, len(rows), count()):
        raise SettingsError(str(problem))
    recorder = CompletionRecorder(
        attempt.run,
        weights,
        config.grpo.num_generations,
        cast(Scale, config.grpo.scale_rewards),
        [tokenizer.eos_token_id],
        config.recording.every,
        config.recording.completions if is_first() else 0,  # groups are whole on each process
    )
    trainer = GRPOTrainer(
        model=model,
        args=trainer_arguments(config, attempt, list(weights.values()), model.config.max_position_embeddings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        reward_funcs=[scoring(attempt, recorder.wrap(name, REWARDS[name])) for name in weights],
    )
    run_trainer(trainer, tokenizer, config, attempt, base)


def audit_rewards(config: RunConfig, attempt: Attempt) -> None:
    """Refuse rewards under which a cheat beats the reference answer.

    Raises:
        RunError: the audit failed; the message names the worst finding.
    """
    if attempt.skip_audit or config.rewards.audit == "skip":
        attempt.note("The reward audit was skipped.")
        return
    from medgrpo.rewards.audit import audit_sources

    cases = load_cases(config.data.source, config.data.split, 64, config.seed)
    for report in audit_sources(cases, reward_weights(config)):
        if not report.passed:
            print(report.render())
            raise RunError(
                f"The rewards failed their audit: {report} "
                "Mend rewards.weights, set rewards.audit: skip for a control arm, or train anyway with --skip-audit."
            )


def trainer_arguments(config: RunConfig, attempt: Attempt, weights: list[float], longest: int) -> Any:
    """Every value of the configuration under TRL's own name; nothing that matters is left to a default.

    Args:
        weights: of the rewards, in their order.
        longest: context of the model.
    """
    from trl import GRPOConfig

    from train.backend import context_length
    from train.session import common_arguments

    grpo = config.grpo
    values: dict[str, Any] = {
        name: getattr(grpo, name)
        for name in (
            "num_generations", "max_completion_length", "temperature", "top_p", "num_iterations", "loss_type", "beta",
            "epsilon", "epsilon_high", "scale_rewards", "mask_truncated_completions", "importance_sampling_level",
            "use_vllm", "vllm_mode", "vllm_server_host", "vllm_server_port",
            "vllm_gpu_memory_utilization", "vllm_importance_sampling_correction",
        )
    }  # fmt: skip
    return GRPOConfig(
        **common_arguments(config, attempt.run),
        **values,
        reward_weights=weights,
        top_k=0,
        min_p=None,
        repetition_penalty=1.0,
        multi_objective_aggregation="sum_then_normalize",
        vllm_max_model_length=context_length(config, longest),
        vllm_importance_sampling_mode="sequence_mask",
        vllm_importance_sampling_clip_max=3.0,
        vllm_importance_sampling_clip_min=None,
        remove_unused_columns=False,
        shuffle_dataset=True,
        log_completions=False,
    )


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(launch("grpo", train))
