"""Every value that cannot be used is named with its reason; every shipped configuration is complete."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from medgrpo.errors import SettingsError
from medgrpo.training.config import RunConfig, parse_config, problems, read_config, write_config

CONFIGS = sorted((Path(__file__).parents[2] / "train" / "configs").glob("*.yaml"))

WRONG: list[tuple[str, str, list[str]]] = [
    ("unknown key", "training: {lerning_rate: 1e-5}", ["training.lerning_rate", "training.learning_rate"]),
    ("key of another section", "temperature: 0.9", ["temperature", "grpo.temperature"]),
    ("unknown top key", "modell: x", ["modell", "did you mean model"]),
    ("nothing near", "xyzzy: 1", ["xyzzy", "no such key", "stage"]),
    ("negative steps", "training: {max_steps: -5}", ["training.max_steps", "-5", "1 to"]),
    ("not a whole number", "training: {max_steps: 2.5}", ["training.max_steps", "whole number"]),
    ("a word for a number", "training: {learning_rate: fast}", ["training.learning_rate", "'fast'", "a number"]),
    ("not a number", "training: {learning_rate: .nan}", ["training.learning_rate", "nan"]),
    ("infinite", "data: {limit: .inf}", ["data.limit", "inf"]),
    ("a switch for a number", "seed: true", ["seed", "whole number"]),
    ("a number for a switch", "grpo: {use_vllm: 1}", ["grpo.use_vllm", "true or false"]),
    ("unknown choice", "grpo: {loss_type: dap}", ["grpo.loss_type", "dr_grpo", "Try grpo.loss_type: dapo"]),
    ("unknown stage", "stage: ppo", ["stage", "'ppo'", "sft, grpo"]),
    ("one completion in a group", "grpo: {num_generations: 1}", ["grpo.num_generations", "2 to"]),
    ("no temperature", "grpo: {temperature: 0}", ["grpo.temperature", "0.01 to 10"]),
    ("a value for a section", "training: 3", ["training", "max_steps"]),
    ("a word for weights", "rewards: {weights: {format: much}}", ["rewards.weights", "name: number"]),
    (
        "groups do not fit",
        "training: {per_device_train_batch_size: 4, gradient_accumulation_steps: 3}\ngrpo: {num_generations: 8}",
        ["training.per_device_train_batch_size", "12 completions", "num_generations=8", "Try"],
    ),
    ("clip upside down", "grpo: {epsilon: 0.3, epsilon_high: 0.2}", ["grpo.epsilon_high", "below epsilon"]),
    (
        "a base that drifts",
        "precision: bf16\ngrpo: {use_vllm: true}",
        ["precision", "drifts", "Try precision: bf16-mixed"],
    ),
    ("4 bits without Unsloth", "precision: 4bit", ["backend is 'trl'", "Try backend: unsloth"]),
    ("Unsloth in 32 bits", "backend: unsloth\nprecision: bf16-mixed", ["precision", "Try precision: bf16"]),
    ("Unsloth in 32 bits in SFT", "stage: sft\nbackend: unsloth\nprecision: fp32", ["precision", "bf16, 4bit"]),
    (
        "Unsloth with a server",
        "backend: unsloth\nprecision: bf16\ngrpo: {use_vllm: true, vllm_mode: server}",
        ["grpo.vllm_mode", "in its own process"],
    ),
    (
        "another starting point of the KL term",
        "backend: unsloth\nprecision: bf16\ninit_adapter: runs/x/adapter\ngrpo: {beta: 0.02}",
        ["grpo.beta", "from the base"],
    ),
    ("an unknown mode", "grpo: {vllm_mode: servre}", ["grpo.vllm_mode", "Try grpo.vllm_mode: server"]),
    ("rewards in SFT", "stage: sft\nrewards: {profile: medgrpo}", ["rewards", "no such section"]),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_value_that_cannot_be_used_is_named_with_its_reason(text: str, expected: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_config(yaml.safe_load(text))
    for part in expected:
        assert part in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    found = problems({"seed": -1, "training": {"max_steps": 0, "optim": "sgdd"}})
    assert [problem.field for problem in found] == ["seed", "training.max_steps", "training.optim"]


def test_the_mend_of_a_bad_batch_size_works() -> None:
    raw: dict[str, Any] = {"training": {"per_device_train_batch_size": 12}, "grpo": {"num_generations": 8}}
    (problem,) = problems(raw)
    raw["training"]["per_device_train_batch_size"] = problem.mend
    assert problems(raw) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: [", "not YAML"), ("- 1\n- 2", "holds list"), ("", "holds NoneType"), ("\x00", "not YAML")],
)
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(SettingsError, match=part) as caught:
        read_config(tmp_path / "bad.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_overrides_reach_every_level(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("stage: grpo\nmodel: smollm2-135m\n")
    overrides = [
        "rewards.profile=legacy",
        "seed=7",
        "training.learning_rate=2e-5",
        "init_adapter=",
        "rewards.weights.format=1",
    ]
    config = read_config(tmp_path / "run.yaml", overrides, "grpo")
    assert (config.rewards.profile, config.seed, config.training.learning_rate) == ("legacy", 7, 2e-5)
    assert config.rewards.weights == {"format": 1.0}
    with pytest.raises(SettingsError, match="key=value"):
        read_config(tmp_path / "run.yaml", ["seed"])
    with pytest.raises(SettingsError, match="has no keys"):
        read_config(tmp_path / "run.yaml", ["model.name=x"])


def test_the_wrong_program_says_which_one_is_right(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("stage: sft\n")
    with pytest.raises(SettingsError, match=r"python -m train\.sft"):
        read_config(tmp_path / "run.yaml", (), "grpo")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_writes_out_every_value_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = read_config(path)
    assert _missing(RunConfig, yaml.safe_load(path.read_text()), config.stage, "") == []
    write_config(config, tmp_path / "config.yaml", "a comment")
    assert read_config(tmp_path / "config.yaml") == config


WHERE = {"vllm_mode", "vllm_server_host", "vllm_server_port"}
"""Where the completions are written changes nothing that is learned, and only the files for several GPUs need say it."""


def _missing(cls: Any, raw: dict[str, Any], stage: str, prefix: str) -> list[str]:
    missing = []
    for each in fields(cls):
        if stage == "sft" and each.name in RunConfig.GRPO_ONLY:
            continue
        if each.name not in raw and each.name not in WHERE:
            missing.append(prefix + each.name)
        elif is_dataclass(each.default):
            missing += _missing(type(each.default), raw[each.name], stage, f"{prefix}{each.name}.")
    return missing
