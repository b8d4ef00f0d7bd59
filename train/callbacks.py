"""The one callback: it keeps status, metrics and held-out answers of the run, and stops it when asked."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medgrpo.errors import RunError
from medgrpo.training.recording import append_metrics
from train.launch import Attempt
from train.processes import is_first

LOST = 5
"""Steps in a row whose gradient is not a number before the run ends."""
SHOWN = {"reward": "reward", "rewards/correctness/mean": "correct", "rewards/format/mean": "format", "loss": "loss"}


class RunCallback(TrainerCallback):
    """Writes what happens to the run directory.

    Args:
        attempt: of this run.
        evaluate: answers the held-out cases at a step and records them.
        every: steps between two evaluations, 0 for none in between.
        generates: steps that learn from one batch of completions; 0 if there are none, as in SFT.
    """

    def __init__(self, attempt: Attempt, evaluate: Callable[[int], None], every: int, generates: int = 0) -> None:
        self._attempt = attempt
        self._generates = generates
        self._first = True
        self._evaluate = evaluate
        self._every = every
        self._step_began = 0.0
        self._step_time = 0.0
        self._lost = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._attempt.status.update(total=state.max_steps, step=state.global_step)
        if state.global_step == 0:
            self._evaluate(0)
        self._attempt.status.update(phase="training")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_began = time.perf_counter()
        if self._generates and (self._first or state.global_step % self._generates == 0):
            self._attempt.status.update(phase="generating")  # until a reward is called
        self._first = False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out a step whose gradient is not a number: one such step makes every weight not a number for good."""
        if args.fp16:  # its scaler leaves such steps out itself, and meets some while it looks for its scale
            return
        gradients = [each.grad for each in kwargs["model"].parameters() if each.grad is not None]
        if not gradients or torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self._lost = 0
            return
        self._lost += 1
        if self._lost == LOST:
            raise RunError(
                f"The gradient was not a number in {LOST} steps in a row: lower training.learning_rate, or set precision: "
                "fp32, and start again."
            )
        for each in kwargs["model"].parameters():
            each.grad = None
        self._attempt.note(f"Step {state.global_step + 1} was left out, because its gradient is not a number.")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._step_time = time.perf_counter() - self._step_began
        if self._attempt.stop_asked():
            control.should_save = True
            control.should_training_stop = True
        elif self._every and state.global_step % self._every == 0 and state.global_step < state.max_steps:
            self._evaluate(state.global_step)
        self._attempt.status.update(phase="training", step=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not is_first() or not logs or "train_runtime" in logs:  # the Trainer's closing summary is not a step
            return
        logs = {"step_time": round(self._step_time, 4), **logs}
        append_metrics(self._attempt.run, state.global_step, logs)
        values = [f"{word} {logs[key]:.4g}" for key, word in SHOWN.items() if isinstance(logs.get(key), int | float)]
        self._attempt.say(f"step {state.global_step}/{state.max_steps}: {', '.join(values)}, {logs['step_time']:.2f} s")
