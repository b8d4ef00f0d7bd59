"""Supervised fine-tuning: the warm start. The model imitates demonstrations until it keeps the form and knows the
words.

GRPO can only reinforce what the policy already writes now and then; a 135M model never writes the form unasked. The
trainer is TRL's SFTTrainer with the loss on the completion alone.
"""

import os
import sys
from typing import Any

from medgrpo.data import load_demonstrations
from medgrpo.errors import DataError
from medgrpo.training.config import RunConfig
from medgrpo.training.dataset import sft_rows
from train.launch import Attempt, launch


def train(config: RunConfig, attempt: Attempt) -> None:
    """One SFT run, from the demonstrations to the saved adapter."""
    data = config.data
    demonstrations = load_demonstrations(data.source, data.split, data.limit or None, config.seed)
    if not demonstrations:
        raise DataError(
            f"{data.source} has no demonstration in split {data.split!r}: choose another data.source or data.split."
        )

    attempt.enter("loading")
    from train.backend import load_policy

    model, tokenizer, base = load_policy(config, attempt.cache)

    from datasets import Dataset
    from trl import SFTTrainer

    from train.session import run_trainer

    trainer = SFTTrainer(
        model=model,
        args=trainer_arguments(config, attempt),
        train_dataset=Dataset.from_list(sft_rows(demonstrations)),
        processing_class=tokenizer,
    )
    run_trainer(trainer, tokenizer, config, attempt, base)


def trainer_arguments(config: RunConfig, attempt: Attempt) -> Any:
    """The configuration under TRL's names. No demonstration is cut: half an answer would teach to stop anywhere."""
    from trl import SFTConfig

    from train.session import common_arguments

    return SFTConfig(
        **common_arguments(config, attempt.run),
        completion_only_loss=True,
        packing=False,
        max_length=None,
        loss_type="nll",
        train_sampling_strategy="random",  # by length, one batch of Qwen2.5's had a gradient that is not a number
    )


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(launch("sft", train))
