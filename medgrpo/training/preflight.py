"""Preflight: everything that would make a run fail, found before it starts, with what mends it and what it will take.

The order is that of cost: values, then files and machine, then data and the reward audit, then the estimate. A
configuration that cannot be built has no estimate.
"""

import bisect
import copy
import errno
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medgrpo.cases import Case
from medgrpo.errors import SettingsError
from medgrpo.rewards.audit import audit_sources
from medgrpo.training import checks
from medgrpo.training.config import Problem, RunConfig, parse_config, problems
from medgrpo.training.estimate import Estimate, estimate
from medgrpo.training.machine import GB, Machine

FULL = 0.95
"""Share of a device's memory that a run may be estimated to take."""


@dataclass(frozen=True)
class Preflight:
    """What was found.

    Attributes:
        problems: nothing is started while there is one.
        estimate: None if the configuration cannot be built or the model's size is not known.
        config: None if the configuration cannot be built.
        audit: the reward audit's report; None if it was not run.
    """

    problems: list[Problem]
    estimate: Estimate | None = None
    config: RunConfig | None = None
    audit: str | None = None

    @property
    def good(self) -> bool:
        return self.config is not None and not self.problems


def preflight(raw: Mapping[str, Any], machine: Machine, runs: Path, quick: bool = False) -> Preflight:
    """Look at a configuration as it was typed. Starts nothing and writes nothing that stays.

    Args:
        quick: leave out what takes seconds: data, audit, and asking the Hub for a model.
    """
    found = problems(raw)
    if found:
        return Preflight(found)
    config = parse_config(raw)
    found = [
        *checks.reward_problems(config if config.stage == "grpo" else RunConfig()),
        *checks.warm_start_problems(config.init_adapter, config.lora, config.model),
        *checks.machine_problems(config, machine),
        *folder_problems(runs),
    ]
    cases: list[Case] = []
    audit = None
    if not quick:
        found += checks.model_problems(config)
        cases, _, more = checks.load_some(config)
        found += more
        if cases and not any(problem.field.startswith("rewards") for problem in found):
            audit, failed = _audit(config, cases)
            found += failed
    prompts = checks.prompt_lengths(cases)
    too_long = checks.length_problems(config, prompts)
    found += too_long
    expected = estimate(config, machine, prompts, runs)
    if expected is not None and not too_long:  # which decides the memory, too
        found += _room_problems(config, machine, prompts, expected)
    return Preflight(found, expected, config, audit)


def apply(raw: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """A copy of the configuration with what mends the problem; unchanged if nothing is known to mend it."""
    mended = copy.deepcopy(dict(raw))
    if problem.mend is None:
        return mended
    *sections, key = problem.field.split(".")
    at = mended
    for section in sections:
        inner = at.get(section)
        at[section] = dict(inner) if isinstance(inner, Mapping) else {}
        at = at[section]
    at[key] = problem.mend
    return mended


def read_yaml(text: str) -> dict[str, Any]:
    """A configuration from the text of a YAML box or file.

    Raises:
        SettingsError: it is not YAML, or not `key: value` lines; the sentence names the line.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise SettingsError(f"The YAML cannot be read at {where}: {error.problem}. Mend that line.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        says = " ".join(str(error).split())[:200]
        raise SettingsError(f"The YAML cannot be read: {says}. Mend it, or load a preset.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingsError(
            f"The YAML holds {type(found).__name__} and not `key: value` lines: load a preset and change it."
        )
    return found


def folder_problems(runs: Path) -> list[Problem]:
    """Whether a run could be written, tried out by writing."""
    folder = Path(runs).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    allowed = "a folder where you may write, by MEDGRPO_RUNS"
    if not folder.is_dir():
        return [Problem("MEDGRPO_RUNS", str(runs), f"{folder} is a file and no folder", allowed)]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else f"{folder} cannot be written to ({error.strerror})"
        return [Problem("MEDGRPO_RUNS", str(runs), reason, "a folder on a disk with free space" if full else allowed)]
    return []


def _audit(config: RunConfig, cases: list[Case]) -> tuple[str | None, list[Problem]]:
    if config.stage != "grpo" or config.rewards.audit == "skip":
        return None, []
    reports = audit_sources(cases, checks.reward_weights(config))
    text = "\n\n".join(report.render() for report in reports)
    failed = next((report for report in reports if not report.passed), None)
    if failed is None:
        return text, []
    reason = f"the rewards fail their audit: {str(failed).rstrip('.')}"
    own = dict(config.rewards.weights)
    if own:
        return text, [Problem("rewards.weights", own, reason, "weights that pass, or rewards.audit: skip", {})]
    return text, [
        Problem("rewards.profile", config.rewards.profile, reason, "medgrpo, or rewards.audit: skip", "medgrpo")
    ]


def _room_problems(config: RunConfig, machine: Machine, prompts: list[int], expected: Estimate) -> list[Problem]:
    """Memory and disk against what there is."""
    found = []
    there = max((memory for _, memory in machine.gpus), default=machine.memory_gb)
    if expected.memory_gb > FULL * there:
        found.append(_too_large(config, machine, prompts, expected, there))
    if expected.disk_gb > machine.disk_free_gb:
        keep = config.training.save_total_limit
        reason = f"the run will write {_amount(expected.disk_gb)} and the disk has {_amount(machine.disk_free_gb)} free"
        mend = 1 if keep > 1 and _disk_with(config, 1, machine) <= machine.disk_free_gb else None
        found.append(Problem("training.save_total_limit", keep, reason, "fewer checkpoints, or more space", mend))
    return found


def _amount(gb: float) -> str:
    return f"{gb:.1f} GB" if gb >= 0.1 else f"{gb * GB / 2**20:.0f} MB"


def _disk_with(config: RunConfig, keep: int, machine: Machine) -> float:
    less = estimate(parse_config(_with(config, "training.save_total_limit", keep)), machine)
    return less.disk_gb if less else 0.0


def _too_large(config: RunConfig, machine: Machine, prompts: list[int], expected: Estimate, there: float) -> Problem:
    """Memory: of the changes that make it fit the one that changes learning least; else the one that saves most."""
    what, most = expected.memory_parts[0]
    reason = (
        f"the run is estimated to take {expected.memory_gb:.1f} GB and there are {there:.0f} GB "
        f"(most of it {what}, {most:.1f} GB)"
    )

    def memory(name: str, smaller: Any) -> float:
        found = estimate(parse_config(_with(config, name, smaller)), machine, prompts)
        return found.memory_gb if found else expected.memory_gb

    saved: list[tuple[float, str, Any, Any]] = []
    for name, value, choices in _smaller(config):
        first = bisect.bisect_left(choices, True, key=lambda choice: memory(name, choice) <= FULL * there)
        if first < len(choices):
            return Problem(name, value, reason, _up_to(choices[first]), choices[first])
        saved.append((memory(name, choices[-1]), name, value, choices[-1]))
    least = min(saved, default=None, key=lambda each: each[0])
    if least is None or least[0] >= expected.memory_gb:
        batch = config.training.per_device_train_batch_size
        allowed = "a smaller model, shorter answers or more memory"
        return Problem("training.per_device_train_batch_size", batch, reason, allowed)
    return Problem(least[1], least[2], reason, f"{_up_to(least[3])}, and more changes after it", least[3])


def _smaller(config: RunConfig) -> Iterator[tuple[str, Any, Sequence[Any]]]:
    """(field, value, values that take less, the largest first), in the order in which one would try them."""
    training, grpo = config.training, config.grpo
    if not training.gradient_checkpointing:
        yield "training.gradient_checkpointing", False, [True]
    whole = grpo.num_generations // math.gcd(grpo.num_generations, training.gradient_accumulation_steps)
    unit = whole if config.stage == "grpo" else 1  # groups stay whole
    batch = training.per_device_train_batch_size
    if batch > unit:
        yield "training.per_device_train_batch_size", batch, range((batch - 1) // unit * unit, 0, -unit)
    length = grpo.max_completion_length
    if config.stage == "grpo" and length >= 128:
        yield "grpo.max_completion_length", length, [length // 2]


def _with(config: RunConfig, name: str, value: Any) -> dict[str, Any]:
    return apply(config.as_mapping(), Problem(name, None, "", mend=value))


def _up_to(smaller: Any) -> str:
    return "true" if smaller is True else f"1 to {smaller}"
