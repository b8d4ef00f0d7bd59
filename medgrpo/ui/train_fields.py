"""The start form as values: its fields are a view of some keys of the YAML text, and the YAML text is what is started.

No Gradio here. A value that cannot be used is written into the YAML as it was typed, so that one check of the
configuration names it, whoever typed it and where.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

import yaml

from medgrpo.rewards import PROFILES
from medgrpo.training.config import RunConfig

Raw = dict[str, Any]
KEYS = {
    "model": "model",
    "source": "data.source",
    "profile": "rewards.profile",
    "weights": "rewards.weights",
    "steps": "training.max_steps",
    "group": "grpo.num_generations",
    "length": "grpo.max_completion_length",
    "rate": "training.learning_rate",
    "rank": "lora.r",
    "held_out": "evaluation.limit",
}
"""Field of the form -> key of the configuration, in the order of the form. Preset and name complete the twelve."""
GRPO_ONLY = ("profile", "weights", "group", "length")
BESIDE = {
    "model": ("model", "backend", "precision", "init_adapter", "stage"),
    "source": ("data",),
    "profile": ("rewards.profile", "rewards.audit"),
    "weights": ("rewards",),
    "steps": ("training.max_steps",),
    "group": ("grpo.num_generations", "training.per_device_train_batch_size", "training.gradient_accumulation_steps"),
    "length": ("grpo.max_completion_length", "grpo.max_prompt_length"),
    "rate": ("training.learning_rate",),
    "rank": ("lora",),
    "held_out": ("evaluation",),
}
"""Field of the form -> keys whose problems are shown beside it."""
_WEIGHT = re.compile(r"([A-Za-z_]\w*)\s*[:=\s]\s*(-?[\d.]+(?:[eE]-?\d+)?)")


def to_yaml(raw: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True)


def values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What each field shows; None where it does not apply or the YAML holds something that no field can show."""
    stage = raw.get("stage", "grpo")
    default = RunConfig().as_mapping()
    shown: dict[str, Any] = {}
    for field, key in KEYS.items():
        value = _get(raw, key, _get(default, key, None))
        if stage == "sft" and field in GRPO_ONLY:
            shown[field] = None
        elif field == "weights":
            shown[field] = weights_text(_get(raw, "rewards.profile", default["rewards"]["profile"]), value)
        elif field in ("model", "source", "profile"):
            shown[field] = value if isinstance(value, str) else None
        else:
            shown[field] = _number(value)
    return shown


def with_values(raw: Mapping[str, Any], typed: Mapping[str, Any]) -> Raw:
    """The configuration after some fields were edited; what was not touched stays as the YAML has it."""
    before, after = values(raw), copy.deepcopy(dict(raw))
    stage = raw.get("stage", "grpo")
    for field, value in typed.items():
        if value == before[field] or (stage == "sft" and field in GRPO_ONLY):
            continue
        if field == "weights":
            profile = _get(after, "rewards.profile", RunConfig().rewards.profile)
            value = read_weights(profile, str(value or "")) if typed.get("profile") == before["profile"] else {}
        elif isinstance(value, float) and value.is_integer() and field != "rate":
            value = int(value)
        _put(after, KEYS[field], value)
        if field == "profile":
            _put(after, "rewards.weights", {})
        if field == "rank":
            _keep_scale(after, before["rank"], value)
    return after


def weights_text(profile: object, own: object) -> str | None:
    """The weights that count, as one line: the profile's with the configuration's own on top."""
    if not isinstance(own, Mapping):
        return str(own) if own else weights_text(profile, {})
    counted = {**PROFILES.get(str(profile), {}), **own}
    return ", ".join(f"{name} {_short(weight)}" for name, weight in counted.items())


def read_weights(profile: object, text: str) -> dict[str, float] | str:
    """Own weights of a line such as `format 0.5, correctness 2`: what differs from the profile's, which is 0 if left
    out. The text itself if it cannot be read.
    """
    pieces = [piece.strip() for piece in re.split(r"[,;\n]", text) if piece.strip()]
    matches = [_WEIGHT.fullmatch(piece) for piece in pieces]
    try:
        typed = {match[1]: float(match[2]) for match in matches if match}
    except ValueError:
        return text
    if None in matches:
        return text
    usual = PROFILES.get(str(profile), {})
    return {
        name: weight for name, weight in {**dict.fromkeys(usual, 0.0), **typed}.items() if weight != usual.get(name)
    }


def beside(key: str) -> str:
    """The field beside which a problem with this key is shown; "" for the general place."""
    for field, prefixes in BESIDE.items():
        if any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes):
            return field
    return ""


def _get(raw: Mapping[str, Any], key: str, default: Any) -> Any:
    value: Any = raw
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def _put(raw: Raw, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(raw.get(section), dict):
            raw[section] = {}
        raw = raw[section]
    raw[last] = value


def _keep_scale(raw: Raw, before: object, rank: object) -> None:
    """alpha / r scales the update; another rank should not change it on the side."""
    alpha = _get(raw, "lora.alpha", RunConfig().lora.alpha)
    numbers = [value for value in (before, rank, alpha) if isinstance(value, int | float) and value > 0]
    if len(numbers) == 3:
        _put(raw, "lora.alpha", max(1, round(numbers[2] * numbers[1] / numbers[0])))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else number


def _short(weight: object) -> str:
    return f"{weight:g}" if isinstance(weight, int | float) and not isinstance(weight, bool) else str(weight)
