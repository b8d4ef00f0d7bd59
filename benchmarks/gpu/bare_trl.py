"""A GRPO script as a person would write it with TRL alone: the contender of our own in `grpo_step`.

It takes the model, the cases, the rewards and every value of the trainer from the same configuration, and has no run
directory, no recording of completions, no status, no held-out cases and no callback but the clock that times it.
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOTrainer

from medgrpo.data import load_cases
from medgrpo.rewards import REWARDS
from medgrpo.training.checks import reward_weights
from medgrpo.training.config import read_config
from medgrpo.training.dataset import grpo_rows
from medgrpo.training.run_directory import RunDirectory
from train.grpo import trainer_arguments
from train.loading import lora_config


class Clock(TrainerCallback):  # type: ignore[misc]
    """One line a step: when it was logged."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "train_runtime" not in (logs or {}):
            print(json.dumps({"step": state.global_step, "time": time.time(), **logs}), file=self._file, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    options = parser.parse_args()
    config = read_config(options.config)
    run = RunDirectory(options.run_dir)
    run.path.mkdir(parents=True, exist_ok=True)

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(config.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(config.model, dtype=dtype)
    if torch.cuda.is_available():
        model.to("cuda")
    weights = reward_weights(config)
    data = config.data
    trainer = GRPOTrainer(
        model=model,
        args=trainer_arguments(
            config, SimpleNamespace(run=run), list(weights.values()), model.config.max_position_embeddings
        ),
        train_dataset=Dataset.from_list(
            grpo_rows(load_cases(data.source, data.split, data.limit or None, config.seed))
        ),
        processing_class=tokenizer,
        reward_funcs=[REWARDS[name] for name in weights],
        peft_config=lora_config(config.lora),
        callbacks=[Clock(run.metrics_file)],
    )
    trainer.train()
    trainer.save_model(str(run.adapter))


if __name__ == "__main__":
    main()
