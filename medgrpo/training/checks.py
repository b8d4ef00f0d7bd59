"""What a configuration cannot say about itself: whether rewards, warm start, data and model are there and fit.

Each check gives `Problem`s, for a form; the training programs raise the same sentences. Nothing here loads a weight.
"""

import difflib
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from medgrpo.cases import Case
from medgrpo.data import load_cases, load_demonstrations
from medgrpo.engines.shapes import shape_of
from medgrpo.errors import MedGRPOError, SettingsError
from medgrpo.models import PROFILES as MODELS
from medgrpo.models import packaged_gguf
from medgrpo.prompts import build_messages
from medgrpo.rewards import PROFILES, REWARDS
from medgrpo.training.config import Lora, Problem, RunConfig
from medgrpo.training.machine import Machine

LOOKED_AT = 64
"""Cases that are loaded to see that a source works, and that the audit attacks."""
CHARACTERS_A_TOKEN = 3.0
"""Fewer than English text has in these vocabularies (about 4), so a length in tokens comes out too high, not too low."""


def reward_weights(config: RunConfig) -> dict[str, float]:
    """The profile's weights with the configuration's own on top; rewards of weight 0 are left out.

    Raises:
        SettingsError: there is no such profile or reward, or nothing is rewarded.
    """
    for problem in reward_problems(config):
        raise SettingsError(str(problem))
    merged = {**PROFILES[config.rewards.profile], **config.rewards.weights}
    return {name: float(weight) for name, weight in merged.items() if weight}


def reward_problems(config: RunConfig) -> list[Problem]:
    """Profile and weights."""
    profile, own = config.rewards.profile, config.rewards.weights
    if profile not in PROFILES:
        near = _nearest(profile, PROFILES)
        return [Problem("rewards.profile", profile, "there is no such profile", ", ".join(PROFILES), near)]
    found = [
        Problem(f"rewards.weights.{name}", weight, _no_such_reward(name), ", ".join(REWARDS))
        for name, weight in own.items()
        if name not in REWARDS
    ]
    if not found and not any({**PROFILES[profile], **own}.values()):
        found.append(Problem("rewards.weights", dict(own), "all weights are 0, so nothing would be learned", "", {}))
    return found


def _no_such_reward(name: str) -> str:
    near = _nearest(name, REWARDS)
    return "there is no such reward" + (f"; did you mean {near}" if near else "")


def _nearest(name: str, known: Mapping[str, object]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, 1)), None)


def warm_start_problems(init_adapter: str, lora: Lora, model: str = "") -> list[Problem]:
    """Whether the adapter to go on from is there and has the shape that the configuration asks for."""
    if not init_adapter:
        return []
    folder = Path(init_adapter).expanduser()
    saved = _adapter_settings(folder)
    if saved is None:
        reason = "there is no readable adapter_config.json"
        allowed = "the adapter/ or checkpoint-N/ folder of a run, or empty to start from the base"
        return [Problem("init_adapter", init_adapter, reason, allowed, _shipped_adapter(model, lora))]
    return [
        Problem(name, value, f"init_adapter {folder} has {saved.get(key)}", str(saved.get(key)), saved.get(key))
        for name, key, value in (("lora.r", "r", lora.r), ("lora.alpha", "lora_alpha", lora.alpha))
        if saved.get(key) != value
    ]


def _adapter_settings(folder: Path) -> dict[str, object] | None:
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return saved if isinstance(saved, dict) else None


def _shipped_adapter(model: str, lora: Lora) -> str:
    """The adapter that came with the model, if it has the shape that is asked for; else "", the base."""
    profile = MODELS.get(model)
    saved = _adapter_settings(profile.assets) if profile else None
    if profile is None or saved is None or (saved.get("r"), saved.get("lora_alpha")) != (lora.r, lora.alpha):
        return ""
    try:
        return str(profile.assets.relative_to(Path.cwd()))
    except ValueError:
        return str(profile.assets)


def model_problems(config: RunConfig) -> list[Problem]:
    """Whether the base model is here, or can be had."""
    model = config.model
    allowed = f"{', '.join(MODELS)}, a folder, a .gguf file or a Hub id that this machine can reach"
    profile = MODELS.get(model)
    if profile is not None and packaged_gguf(profile) is not None:
        return []
    if profile is None:
        path = Path(model).expanduser()
        if model.endswith(".gguf") or path.is_dir():
            there = path.is_file() or (path / "config.json").is_file()
            return [] if there else [Problem("model", model, "there is no model at this place", allowed)]
        if model.count("/") != 1 or model.startswith((".", "/", "~")):
            return [Problem("model", model, "there is no such model", allowed, _nearest(model, MODELS))]
    reason = _unreachable(profile.base if profile else model)
    return [Problem("model", model, reason, allowed)] if reason else []


def _unreachable(repository: str) -> str:
    """Why a Hub id cannot be loaded; "" if its files are in the cache or the Hub has them."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(repository, "config.json"), str):
            return ""
        HfApi().model_info(repository, timeout=5)
    except GatedRepoError:
        return f"the Hub asks for an agreement to its terms: open https://huggingface.co/{repository} and set HF_TOKEN"
    except RepositoryNotFoundError:
        return "the Hub has no such model, or it is private and HF_TOKEN is not set"
    except HFValidationError:
        return "this is no Hub id"
    except Exception as error:  # whatever the network does: it is not here and cannot be had now
        return f"it is not on this machine and the Hub cannot be asked ({type(error).__name__})"
    return ""


def machine_problems(config: RunConfig, machine: Machine) -> list[Problem]:
    """What needs a GPU where there is none."""
    if machine.gpus:
        return []
    found = []
    if config.precision == "4bit":
        found.append(Problem("precision", "4bit", "it needs a CUDA device", "fp32, bf16-mixed, bf16", "fp32"))
    if config.stage == "grpo" and config.grpo.use_vllm:
        found.append(Problem("grpo.use_vllm", True, "this machine has no CUDA device", "false", False))
    if config.backend == "unsloth":
        found.append(Problem("backend", "unsloth", "Unsloth needs a CUDA device, and there is none", "trl", "trl"))
    if "8bit" in config.training.optim:
        allowed = "adamw_torch, adamw_torch_fused"
        found.append(Problem("training.optim", config.training.optim, "it needs a CUDA device", allowed, "adamw_torch"))
    return found


def process_problems(config: RunConfig, processes: int) -> list[Problem]:
    """What one process can do and several cannot, as `accelerate launch` starts them."""
    if processes == 1:
        return []
    found = []
    if config.backend == "unsloth":
        found.append(
            Problem("backend", "unsloth", f"it trains in one process, and there are {processes}", "trl", "trl")
        )
    if config.stage == "grpo" and config.grpo.scale_rewards == "batch":
        reason = f"each of {processes} processes records its own completions and does not know the spread of all"
        found.append(Problem("grpo.scale_rewards", "batch", reason, "group, none", "group"))
    return found


def batch_problems(config: RunConfig, prompts: int, processes: int = 1) -> list[Problem]:
    """Whether there are enough prompts for one step: TRL leaves an incomplete batch out, and would have none."""
    training = config.training
    completions = training.per_device_train_batch_size * training.gradient_accumulation_steps * processes
    groups = completions // config.grpo.num_generations
    if prompts >= groups:
        return []
    reason = (
        f"a step takes {completions} completions ({processes} process{'es' * (processes > 1)}), so {groups} different "
        f"prompts, and there are {prompts}"
    )
    return [Problem("training.gradient_accumulation_steps", training.gradient_accumulation_steps, reason, "fewer")]


def length_problems(config: RunConfig, prompts: list[int]) -> list[Problem]:
    """Lengths against the model's context, and prompts against their limit.

    Args:
        prompts: estimated lengths of the prompts in tokens, from above.
    """
    found: list[Problem] = []
    grpo, shape = config.grpo, shape_of(config.model)
    if config.stage != "grpo":
        return found
    if shape and shape.context and grpo.max_prompt_length + grpo.max_completion_length > shape.context:
        room = shape.context - grpo.max_prompt_length
        name, value = "grpo.max_completion_length", grpo.max_completion_length
        reason = f"with grpo.max_prompt_length={grpo.max_prompt_length} it exceeds the model's {shape.context} tokens"
        if room >= 1:
            found.append(Problem(name, value, reason, f"1 to {room}", room))
        else:
            reason = f"it leaves no room for an answer in the model's {shape.context} tokens"
            half = shape.context // 2
            found.append(Problem("grpo.max_prompt_length", grpo.max_prompt_length, reason, f"1 to {half}", half))
    # at six characters a token a text is surely longer than this
    if prompts and min(prompts) * CHARACTERS_A_TOKEN / 6 > grpo.max_prompt_length:
        reason = f"every prompt is longer (the longest has up to {max(prompts)} tokens), so none would be left"
        found.append(Problem("grpo.max_prompt_length", grpo.max_prompt_length, reason, "", max(prompts)))
    return found


def load_some(config: RunConfig) -> tuple[list[Case], list[tuple[Case, str]] | None, list[Problem]]:
    """(some cases, their demonstrations if there are any, problems) of the data and the watched cases."""
    data, watched = config.data, config.evaluation
    found = []
    cases: list[Case] = []
    pairs = None
    limit = min(data.limit or LOOKED_AT, LOOKED_AT)
    try:
        if config.stage == "sft":
            pairs = list(_demonstrations(data.source, data.split, limit, config.seed, _trace(data.source)))
            cases = [case for case, _ in pairs]
        else:
            cases = list(_cases(data.source, data.split, limit, config.seed, _trace(data.source)))
        if not cases:
            found.append(Problem("data.source", data.source, f"it has no usable row in split {data.split!r}"))
    except MedGRPOError as error:
        found.append(_of_data("data", data.source, data.split, error))
    if watched.limit:
        try:
            _cases(watched.source, watched.split, min(watched.limit, LOOKED_AT), 0, _trace(watched.source))
        except MedGRPOError as error:
            found.append(_of_data("evaluation", watched.source, watched.split, error))
    return cases, pairs, found


def _of_data(section: str, source: str, split: str, error: MedGRPOError) -> Problem:
    says = " ".join(str(error).split())
    if says.startswith("there is no split"):
        return Problem(f"{section}.split", split, says.rstrip("."))
    return Problem(f"{section}.source", source, says.rstrip("."))


def prompt_lengths(cases: list[Case]) -> list[int]:
    """Length of each prompt in tokens, estimated from above by its characters."""
    texts = ("".join(message["content"] for message in build_messages(case.question)) for case in cases)
    return [int(len(text) / CHARACTERS_A_TOKEN) + 16 for text in texts]


def _trace(source: str) -> tuple[tuple[str, int, int], ...]:
    """What tells a changed file of a source from the one that was loaded."""
    found = []
    for name in source.split("+"):
        try:
            stat = Path(name.strip()).expanduser().stat()
        except OSError:
            continue
        found.append((name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


@functools.lru_cache(maxsize=32)
def _cases(source: str, split: str, limit: int, seed: int, trace: object) -> tuple[Case, ...]:
    return tuple(load_cases(source, split, limit, seed))


@functools.lru_cache(maxsize=8)
def _demonstrations(source: str, split: str, limit: int, seed: int, trace: object) -> tuple[tuple[Case, str], ...]:
    return tuple(load_demonstrations(source, split, limit, seed))
