"""What one run does, as a frozen value read from one YAML file.

Every value that changes what is learned stands here and under the trainer's own name, because the same script takes
other defaults with another TRL or with Unsloth. A value that cannot be used becomes a `Problem` naming field, value,
reason and allowed range; a form can show the list, `read_config` raises it as one error. Nothing here loads torch or
starts anything.
"""

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from medgrpo.errors import SettingsError
from medgrpo.training.run_directory import write_atomically

Stage = Literal["sft", "grpo"]


def _number(default: Any, low: float, high: float, why: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "why": why})


def _choice(default: str, *options: str) -> Any:
    return field(default=default, metadata={"options": options})


@dataclass(frozen=True)
class Problem:
    """One value that cannot be used; `mend` is a value that could, or None."""

    field: str
    value: object
    reason: str
    allowed: str = ""
    mend: object = None

    def __str__(self) -> str:
        allowed = f" Allowed: {self.allowed}." if self.allowed else ""
        mend = f" Try {self.field}: {'(empty)' if self.mend == '' else self.mend}." if self.mend is not None else ""
        return f"{self.field} is {self.value!r}: {self.reason}.{allowed}{mend}"


@dataclass(frozen=True)
class Data:
    """Which cases are learned; `limit: 0` takes all. Sources may be joined: `casebook+out_of_scope`."""

    source: str = "casebook"
    split: str = "train"
    limit: int = _number(0, 0, 10_000_000, "how many cases are taken, 0 for all")


@dataclass(frozen=True)
class Evaluation:
    """Held-out cases answered greedily at step 0, every `every` steps (0: never in between) and at the end."""

    source: str = "casebook"
    split: str = "validation"
    limit: int = _number(64, 0, 100_000, "how many held-out cases are watched, 0 for none")
    every: int = _number(50, 0, 1_000_000, "steps between two evaluations, 0 for first and last only")
    max_new_tokens: int = _number(256, 1, 32_768, "longest answer in tokens")


@dataclass(frozen=True)
class Lora:
    """Shape of the adapter. `target_modules` is `all-linear` or names joined by commas."""

    r: int = _number(16, 1, 1024, "rank of the adapter")
    alpha: int = _number(32, 1, 4096, "the update is scaled by alpha / r")
    dropout: float = _number(0.0, 0.0, 0.9, "share of the adapter's input dropped in training")
    target_modules: str = "all-linear"


@dataclass(frozen=True)
class Training:
    """Optimisation. `per_device_train_batch_size` counts completions in GRPO and demonstrations in SFT."""

    max_steps: int = _number(300, 1, 10_000_000, "optimiser steps")
    per_device_train_batch_size: int = _number(8, 1, 65_536, "completions that pass through the model at once")
    gradient_accumulation_steps: int = _number(1, 1, 65_536, "passes before one optimiser step")
    learning_rate: float = _number(1e-5, 0.0, 0.1, "peak step size; 1e-5 to 2e-4 is usual for LoRA")
    lr_scheduler_type: str = _choice("cosine", "constant", "constant_with_warmup", "linear", "cosine")
    warmup_steps: int = _number(0, 0, 1_000_000, "steps until the learning rate is at its peak")
    weight_decay: float = _number(0.0, 0.0, 1.0, "pull of the weights towards 0")
    max_grad_norm: float = _number(1.0, 0.0, 1000.0, "gradients are cut to this length")
    optim: str = _choice("adamw_torch", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")
    gradient_checkpointing: bool = False
    logging_steps: int = _number(1, 1, 10_000, "steps between two lines of metrics.jsonl")
    save_steps: int = _number(100, 1, 1_000_000, "steps between two checkpoints")
    save_total_limit: int = _number(4, 1, 1000, "checkpoints kept")


@dataclass(frozen=True)
class Rewards:
    """Which rewards with which weights. `audit: skip` is for the control arms, which no audit should pass."""

    profile: str = "medgrpo"
    weights: Mapping[str, float] = field(default_factory=dict)
    audit: str = _choice("run", "run", "skip")


@dataclass(frozen=True)
class Grpo:
    """The algorithm; names and meanings are those of TRL's GRPOConfig. `max_prompt_length` drops longer prompts.

    vLLM writes the completions on the training GPU itself (`vllm_mode: colocate`), or in a server of its own on another
    one (`server`), to which the weights are sent; that changes nothing that is learned.
    """

    num_generations: int = _number(8, 2, 1024, "completions of one prompt that are compared; one alone teaches nothing")
    max_prompt_length: int = _number(512, 1, 131_072, "longer prompts are left out, and counted")
    max_completion_length: int = _number(256, 1, 32_768, "longest completion in tokens")
    temperature: float = _number(1.0, 0.01, 10.0, "0 would make all completions of a group equal")
    top_p: float = _number(1.0, 0.01, 1.0, "share of the probability that is sampled from")
    num_iterations: int = _number(1, 1, 100, "optimiser steps on one batch of completions")
    loss_type: str = _choice("dapo", "grpo", "dapo", "dr_grpo", "bnpo", "cispo")
    beta: float = _number(0.0, 0.0, 10.0, "weight of the KL term towards the starting point")
    epsilon: float = _number(0.2, 0.0, 1.0, "lower clip of the probability ratio")
    epsilon_high: float = _number(0.28, 0.0, 10.0, "upper clip of the probability ratio")
    scale_rewards: str = _choice("group", "group", "batch", "none")
    mask_truncated_completions: bool = False
    importance_sampling_level: str = _choice("token", "token", "sequence")
    use_vllm: bool = False
    vllm_mode: str = _choice("colocate", "colocate", "server")
    vllm_server_host: str = "127.0.0.1"
    vllm_server_port: int = _number(8000, 1, 65_535, "port of the vLLM server")
    vllm_gpu_memory_utilization: float = _number(0.3, 0.05, 0.95, "share of the GPU's memory that vLLM takes")
    vllm_importance_sampling_correction: bool = True


@dataclass(frozen=True)
class Recording:
    """How much of what the policy wrote is kept: `completions` of every `every`-th step, whole groups first."""

    every: int = _number(1, 1, 1_000_000, "steps between two recorded ones")
    completions: int = _number(64, 0, 100_000, "completions kept of a recorded step, 0 for none")


@dataclass(frozen=True)
class RunConfig:
    """One run. `init_adapter` is the adapter that training goes on from (a warm start); "" starts from the base.

    `precision`: `fp32`; `bf16-mixed` (weights in float32, arithmetic in bfloat16); `bf16` (both in bfloat16, half the
    memory); `4bit` (the base's linear layers in NF4, arithmetic in bfloat16; Unsloth only). `bf16` is refused together
    with TRL's vLLM: after 400 simulated steps its in-place merging had moved the base by more than half of what the
    adapter itself had learned; in float32 by a hundred-thousandth.
    """

    stage: Stage = "grpo"
    model: str = "smollm2-135m"
    init_adapter: str = ""
    backend: str = _choice("trl", "trl", "unsloth")
    precision: str = _choice("fp32", "fp32", "bf16-mixed", "bf16", "4bit")
    seed: int = _number(0, 0, 2**31 - 1, "seed of the order of cases, of sampling and of the adapter's start")
    data: Data = Data()
    evaluation: Evaluation = Evaluation()
    lora: Lora = Lora()
    training: Training = Training()
    rewards: Rewards = Rewards()
    grpo: Grpo = Grpo()
    recording: Recording = Recording()

    GRPO_ONLY: ClassVar[tuple[str, ...]] = ("rewards", "grpo", "recording")

    def as_mapping(self) -> dict[str, Any]:
        """Plain nested dictionaries, every value written out; sections that the stage does not read are left out."""
        resolved = dataclasses.asdict(self)
        return {key: value for key, value in resolved.items() if self.stage == "grpo" or key not in self.GRPO_ONLY}


def read_config(path: Path, overrides: Sequence[str] = (), stage: Stage | None = None) -> RunConfig:
    """The run that a YAML file and `section.key=value` overrides describe.

    Raises:
        SettingsError: the file cannot be read, or values cannot be used; one sentence each.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"The configuration {path} cannot be read ({error.strerror}): give --config an existing YAML file."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}. Mend that line.") from None
    if not isinstance(raw, dict):
        raise SettingsError(
            f"{path} holds {type(raw).__name__} and not `key: value` lines: start from a file of train/configs."
        )
    for override in overrides:
        _override(raw, override)
    if stage and raw.setdefault("stage", stage) != stage:
        raise SettingsError(
            f"{path} has stage: {raw['stage']}, and train.{stage} was started: run python -m train.{raw['stage']}."
        )
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> RunConfig:
    """The run described by nested mappings. Raises SettingsError with all problems, one a line."""
    found = problems(raw)
    if found:
        raise SettingsError("\n".join(str(problem) for problem in found))
    return typing.cast(RunConfig, _build(RunConfig, raw))


def problems(raw: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with a configuration; empty if it can be run."""
    found = list(_check(RunConfig, raw, ""))
    return found or list(_check_together(typing.cast(RunConfig, _build(RunConfig, raw)), raw))


def _override(raw: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    *sections, key = name.strip().split(".")
    if not equals or not key:
        raise SettingsError(f"--set {override!r} is not of the form section.key=value, such as rewards.profile=legacy.")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise SettingsError(f"--set {override!r}: {section} is a value and has no keys.")
    try:
        raw[key] = yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError:
        raw[key] = text


def _check(cls: type[Any], raw: Mapping[Any, Any], prefix: str) -> Iterator[Problem]:
    known = {each.name: each for each in fields(cls)}
    hints = typing.get_type_hints(cls)
    for key, value in raw.items():
        name = f"{prefix}{key}"
        if key not in known:
            yield _unknown(str(key), name, value, prefix)
        elif is_dataclass(hints[key]):
            if isinstance(value, Mapping):
                yield from _check(typing.cast(type[Any], hints[key]), value, f"{name}.")
            else:
                yield Problem(name, value, "a section holds `key: value` lines", ", ".join(_keys(hints[key])))
        else:
            yield from _check_value(name, value, hints[key], known[key].metadata)


def _unknown(key: str, name: str, value: object, prefix: str) -> Problem:
    """Names the nearest key there is; one of the same section wins a tie."""
    here = [path for path in _paths(RunConfig, "") if path.rpartition(".")[0] == prefix.rstrip(".")]

    def likeness(path: str) -> float:
        return difflib.SequenceMatcher(None, key, path.rpartition(".")[2]).ratio() + (0.1 if path in here else 0.0)

    nearest = max(_paths(RunConfig, ""), key=likeness)
    if likeness(nearest) >= 0.65:
        return Problem(name, value, f"there is no such key; did you mean {nearest}")
    return Problem(name, value, "there is no such key", ", ".join(path.rpartition(".")[2] for path in here))


def _paths(cls: type[Any], prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    for name in _keys(cls):
        yield prefix + name
        if is_dataclass(hint := hints[name]):
            yield from _paths(typing.cast(type[Any], hint), f"{prefix}{name}.")


def _keys(cls: Any) -> list[str]:
    return [each.name for each in fields(cls)]


def _check_value(name: str, value: object, hint: Any, metadata: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        value = _coerce(value, hint)
    except (TypeError, ValueError, OverflowError):
        expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
            hint, "name: number lines"
        )
        options = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        yield Problem(
            name, value, f"it must be {expected if not options else 'one of these'}", ", ".join(map(str, options))
        )
        return
    if "options" in metadata and value not in metadata["options"]:
        near = difflib.get_close_matches(str(value), metadata["options"], 1)
        yield Problem(name, value, "there is no such choice", ", ".join(metadata["options"]), near[0] if near else None)
    elif "low" in metadata and not metadata["low"] <= typing.cast(float, value) <= metadata["high"]:
        low, high = metadata["low"], metadata["high"]
        yield Problem(name, value, f"it is out of range ({metadata['why']})", f"{low:g} to {high:g}")


def _coerce(value: object, hint: Any) -> object:
    """`value` as the field's type. YAML reads 1e-5 as text, so numbers written as text count."""
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError
        return value
    if typing.get_origin(hint) is not None and issubclass(typing.get_origin(hint), Mapping):
        if not isinstance(value, Mapping):
            raise TypeError
        return {str(key): typing.cast(float, _coerce(each, float)) for key, each in value.items()}
    if hint is bool or isinstance(value, bool):
        if hint is not bool or not isinstance(value, bool):
            raise TypeError
        return value
    if hint is str:
        if value is None:
            return ""
        if not isinstance(value, (str, int, float)):
            raise TypeError
        return str(value)
    number = float(typing.cast(Any, value))
    if number != number or (hint is int and number != int(number)):
        raise ValueError
    return int(number) if hint is int else number


def _build(cls: type[Any], raw: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        hint = hints[key]
        values[key] = _build(typing.cast(type[Any], hint), value) if is_dataclass(hint) else _coerce(value, hint)
    return cls(**values)


def _check_together(config: RunConfig, raw: Mapping[str, Any]) -> Iterator[Problem]:
    """What no field shows alone."""
    training, grpo = config.training, config.grpo
    if config.backend == "unsloth" and config.precision not in ("bf16", "4bit"):
        yield Problem("precision", config.precision, "Unsloth keeps the weights in 16 or 4 bits", "bf16, 4bit", "bf16")
    if config.precision == "4bit" and config.backend != "unsloth":
        yield Problem("backend", config.backend, "weights in 4 bits are trained by Unsloth", "unsloth", "unsloth")
    if config.stage == "sft":
        for section in config.GRPO_ONLY:
            if section in raw:
                yield Problem(section, raw[section], "supervised fine-tuning has no such section", "leave it out")
        return
    together = training.per_device_train_batch_size * training.gradient_accumulation_steps
    if together % grpo.num_generations:
        yield Problem(
            "training.per_device_train_batch_size",
            training.per_device_train_batch_size,
            f"times gradient_accumulation_steps it makes {together} completions a step, which does not divide into "
            f"groups of num_generations={grpo.num_generations}",
            f"a product that is a multiple of {grpo.num_generations}",
            grpo.num_generations * max(1, round(training.per_device_train_batch_size / grpo.num_generations)),
        )
    if grpo.epsilon_high < grpo.epsilon:
        yield Problem(
            "grpo.epsilon_high", grpo.epsilon_high, "it lies below epsilon", f"{grpo.epsilon:g} or more", grpo.epsilon
        )
    if config.precision == "bf16" and grpo.use_vllm and config.backend == "trl":
        reason = "each weight sync adds and subtracts the adapter in place, and in bfloat16 the base drifts away"
        yield Problem("precision", "bf16", f"with grpo.use_vllm {reason}", "fp32, bf16-mixed", "bf16-mixed")
    if config.backend == "unsloth" and grpo.beta and config.init_adapter:
        reason = "Unsloth measures the KL term from the base, and TRL from init_adapter"
        yield Problem("grpo.beta", grpo.beta, reason, "0, or an empty init_adapter", 0.0)
    if config.backend == "unsloth" and grpo.use_vllm and grpo.vllm_mode == "server":
        reason = "Unsloth shares its weights with a vLLM in its own process"
        yield Problem("grpo.vllm_mode", "server", reason, "colocate", "colocate")


def write_config(config: RunConfig, path: Path, head: str = "") -> None:
    """Write the resolved configuration; `head` becomes comment lines above it."""
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    write_atomically(path, comment + yaml.safe_dump(config.as_mapping(), sort_keys=False, allow_unicode=True))
