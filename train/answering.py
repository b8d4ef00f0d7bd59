"""Greedy answers to the held-out cases: from the trainer's vLLM if it has one, else from its model in batches.

Several processes share the cases out.
"""

from collections.abc import Sequence
from typing import Any

import torch

from medgrpo.cases import Case
from medgrpo.prompts import build_messages
from train.processes import shared_out


def answer_held_out(trainer: Any, tokenizer: Any, cases: Sequence[Case], max_new_tokens: int) -> list[tuple[str, bool]]:
    """(text, truncated) of each case, in order.

    vLLM gets the current weights first. The trainer would push the same weights for its next rollouts, so it is told
    that they are there, and watching costs no extra sync.
    """
    prompts = [_prompt_ids(tokenizer, case) for case in cases]
    generation = getattr(trainer, "vllm_generation", None)
    if generation is None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        ids = shared_out(prompts, lambda mine: _generate(model, tokenizer, mine, max_new_tokens))
    else:
        if trainer._last_loaded_step != trainer.state.global_step:
            generation.sync_weights()
            trainer._last_loaded_step = trainer.state.global_step
        ids = shared_out(prompts, lambda mine: _generate_with_vllm(generation, mine, max_new_tokens))
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [(text, not each or each[-1] != tokenizer.eos_token_id) for text, each in zip(texts, ids, strict=True)]


def _prompt_ids(tokenizer: Any, case: Case) -> list[int]:
    text = tokenizer.apply_chat_template(build_messages(case.question), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _generate_with_vllm(generation: Any, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """One greedy pass through TRL's own vLLM handle; its sampling values are put back afterwards."""
    usual = {name: getattr(generation, name) for name in ("temperature", "top_p", "max_completion_length")}
    greedy = {"temperature": 0.0, "top_p": 1.0, "max_completion_length": max_new_tokens}
    try:
        for name, value in greedy.items():
            setattr(generation, name, value)
        _, ids, _, _ = generation.generate(prompts=prompts, images=None, num_generations=1)
    finally:
        for name, value in usual.items():
            setattr(generation, name, value)
    return [list(each) for each in ids]


@torch.no_grad()
def _generate(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Batches of prompts of similar length, padded on the left."""
    batch_size = 128 if model.device.type == "cuda" else 8
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, list[int]] = {}
    was_training = model.training
    model.eval()
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda"):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            inputs = tokenizer.pad(
                {"input_ids": [prompts[i] for i in chosen]}, padding_side="left", return_tensors="pt"
            )
            written = model.generate(
                **inputs.to(model.device),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                use_cache=True,
                top_p=None,
                temperature=None,
            )
            for index, row in zip(chosen, written[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                answers[index] = _until_end(row, tokenizer.eos_token_id)
    model.train(was_training)
    return [answers[index] for index in range(len(prompts))]


def _until_end(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row
