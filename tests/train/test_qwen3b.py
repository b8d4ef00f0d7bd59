"""Qwen2.5-3B from each of its configurations to a model that llama.cpp answers with, in miniature and on a CPU.

Only what needs a GPU or the true weights is replaced: the model by one of the same architecture, vLLM by transformers,
Unsloth by TRL, and sizes by small ones. Everything else is the shipped YAML's.
"""

import json
import math
from pathlib import Path

import pytest

from medgrpo.engines import BASE, Sampling
from medgrpo.engines.adapters import check_adapter
from medgrpo.engines.llamacpp import LlamaCppEngine
from medgrpo.prompts import build_messages
from medgrpo.settings import Settings
from medgrpo.training.config import read_config
from medgrpo.training.run_directory import RunDirectory
from train.merge import main

from . import tiny_qwen
from .test_smoke import CONFIGS, finish, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = [
    "precision=fp32", "data.limit=64", "evaluation.limit=2", "evaluation.max_new_tokens=8", "training.max_steps=2",
    "training.per_device_train_batch_size=8", "training.gradient_accumulation_steps=1", "training.logging_steps=1",
]  # fmt: skip
ON_CPU = ["backend=trl", "training.optim=adamw_torch", "grpo.use_vllm=false", "grpo.max_completion_length=12"]
GRPO_CONFIGS = sorted(CONFIGS.glob("qwen2.5_3b_*gb.yaml"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("qwen") / "tiny-qwen.gguf")


@pytest.fixture(scope="session")
def warm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run of qwen2.5_3b_sft.yaml."""
    run = RunDirectory(tmp_path_factory.mktemp("sft") / "run")
    config = CONFIGS / "qwen2.5_3b_sft.yaml"
    finish(start("sft", run.path, "--config", str(config), overrides=[f"model={model}", *SMALL]))
    return run


def check(run: RunDirectory, model: Path) -> None:
    """It ended well, learned something finite, and left an adapter that fits in both forms."""
    status = run.status()
    assert (status.phase, status.error, status.step) == ("finished", "", status.total)
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(1, status.total + 1))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert len(run.evaluation(status.total)["answers"]) == 2
    saved = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"]) == (32, 64)
    check_adapter(run.adapter, model)


def test_the_prompt_follows_the_template_of_qwen(model: Path, tmp_path: Path) -> None:
    from medgrpo.engines.weights import find_base, load_base

    _, tokenizer = load_base(find_base(str(model), tmp_path), "fp32")
    turns = build_messages("Fever.")

    def render(messages: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    assert render(turns).startswith("<|im_start|>system\nYou are a medical education assistant.")
    assert tiny_qwen.DEFAULT not in render(turns)
    assert tiny_qwen.DEFAULT in render([{"role": "user", "content": "Fever."}])
    assert render(turns).endswith("<|im_end|>\n<|im_start|>user\nFever.<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id]


def test_the_warm_start(warm: RunDirectory, model: Path) -> None:
    check(warm, model)


@pytest.mark.parametrize(
    "config",
    [pytest.param(each, id=each.stem, marks=[] if "24gb" in each.stem else pytest.mark.long) for each in GRPO_CONFIGS],
)
def test_grpo_of_each_size_is_trained_and_one_resumed_merged_and_asked(
    config: Path, model: Path, warm: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(tmp_path / "run")
    first = [] if "16gb" in config.name else [f"init_adapter={warm.adapter}"]
    finish(start("grpo", run.path, "--config", str(config), overrides=[f"model={model}", *SMALL, *ON_CPU, *first]))
    check(run, model)
    assert len(run.completions(1)) == 8
    if "24gb" not in config.name:  # the rest doesn't depend on the size
        return
    finish(start("grpo", run.path, "--resume", overrides=["training.max_steps=3"]))
    check(run, model)
    assert read_config(run.config_file).grpo.max_prompt_length == read_config(config).grpo.max_prompt_length
    assert main(["--run-dir", str(run.path), "--to", "gguf", "--base", str(model)]) == 0
    merged = Path(capsys.readouterr().out.strip())
    engine = LlamaCppEngine(Settings(model=str(merged), adapter="", threads=2))
    try:
        assert engine.variants == (BASE,)
        "".join(engine.stream(build_messages("Fever."), Sampling(max_tokens=4, temperature=0.0), BASE))
    finally:
        engine.close()
