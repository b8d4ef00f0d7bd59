"""Each rule fires where it should and is silent where it should be."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written_runs import START, a_run, steady, write_status

from medgrpo.models import PROFILES
from medgrpo.training import health
from medgrpo.training.health import ENOUGH, SILENT, findings
from medgrpo.training.run_directory import RunDirectory, process_identity
from medgrpo.training.view import View

Change = float | None | Callable[[int], Any]
LEARNED = {"rewards/format/mean": 0.99}


def keys(
    tmp_path: Path, count: int = 60, stage: str = "grpo", config: dict[str, Any] | None = None, **changes: Change
) -> set[str]:
    view = View(a_run(tmp_path / "run", steady(count, **changes), stage, **(config or {})))
    return {each.key for each in findings(view)}


def test_a_run_that_is_well_is_told_so(tmp_path: Path) -> None:
    assert keys(tmp_path) == {"fine"}


FIRES: list[tuple[str, dict[str, Any]]] = [
    ("nan", {"loss": lambda step: None if step > 50 else 0.1}),
    ("gradient", {"grad_norm": lambda step: 0.0 if step > 50 else 0.2}),
    ("cut", {"completions/clipped_ratio": 0.3}),
    ("spread", {"frac_reward_zero_std": 0.55}),
    ("fell", {"reward": lambda step: 3.0 if step < 35 else 2.0}),
    ("form only", LEARNED | {"rewards/correctness/mean": 0.5}),
    ("entropy", {"entropy": lambda step: 0.5 if step < 30 else 0.1}),
    ("entropy", {"entropy": 0.02}),
    ("kl", {"kl": 0.8}),
    ("length", {"completions/mean_length": lambda step: 100.0 if step < 30 else 170.0}),
    ("length", {"completions/mean_length": lambda step: 100.0 if step < 30 else 40.0}),
    ("one-sided", {"rewards/correctness/mean": 0.02, "rewards/reasoning/mean": 0.02, "reward": 0.75}),
    ("unused", {"rewards/numeric/mean": None}),
    ("loss", {"loss": 0.001}),
]  # fmt: skip
SILENT_ON: list[tuple[str, dict[str, Any]]] = [
    ("nan", {"loss": lambda step: None if step == 20 else 0.1}),
    ("gradient", {"grad_norm": lambda step: 0.0 if step % 2 else 0.2}),
    ("cut", {"completions/clipped_ratio": 0.2}),
    ("spread", {"frac_reward_zero_std": 0.45}),
    ("fell", {"reward": lambda step: 3.0 if step < 35 else 2.8}),
    ("form only", LEARNED | {"rewards/correctness/mean": lambda step: 0.3 + 0.01 * step}),
    ("form only", LEARNED | {"rewards/correctness/mean": 0.97}),
    ("form only", {"rewards/format/mean": 0.8, "rewards/correctness/mean": 0.5}),
    ("entropy", {"entropy": lambda step: 0.5 if step < 30 else 0.25}),
    ("kl", {"kl": 0.2}),
    ("length", {"completions/mean_length": lambda step: 100.0 if step < 30 else 140.0}),
    ("one-sided", {"rewards/correctness/mean": 0.4, "reward": 1.6}),
    ("unused", {"rewards/numeric/mean": lambda step: 0.5 if step == 3 else None}),
    ("loss", {"loss": 0.3}),
]


@pytest.mark.parametrize(("key", "changes"), FIRES)
def test_a_rule_fires(tmp_path: Path, key: str, changes: dict[str, Any]) -> None:
    assert key in keys(tmp_path, **changes)


@pytest.mark.parametrize(("key", "changes"), SILENT_ON)
def test_a_rule_is_silent(tmp_path: Path, key: str, changes: dict[str, Any]) -> None:
    assert key not in keys(tmp_path, **changes)


def test_the_sentences_name_the_numbers_and_the_remedy(tmp_path: Path) -> None:
    config = {"grpo": {"max_completion_length": 256}}
    lines = steady(60, **{"completions/clipped_ratio": 0.92, "frac_reward_zero_std": 0.7})
    found = {each.key: each for each in findings(View(a_run(tmp_path / "run", lines, **config)))}
    assert found["cut"].seen.startswith("92% of completions are cut at 256 tokens")
    assert "Raise grpo.max_completion_length above 256" in found["cut"].remedy
    assert found["cut"].level == "bad"
    assert found["spread"].seen.startswith("No spread in 70% of groups")
    assert "temperature" in found["spread"].remedy


def test_easy_cases_get_another_remedy_than_a_timid_policy(tmp_path: Path) -> None:
    lines = steady(60, **{"frac_reward_zero_std": 0.9, "reward": 4.6})
    (spread,) = [each for each in findings(View(a_run(tmp_path / "run", lines))) if each.key == "spread"]
    assert "harder" in spread.remedy


def test_the_worst_comes_first(tmp_path: Path) -> None:
    lines = steady(60, **{"loss": 0.0, "completions/clipped_ratio": 0.9, "kl": 0.8})
    assert [each.key for each in findings(View(a_run(tmp_path / "run", lines)))] == ["cut", "kl", "loss"]


@pytest.mark.parametrize("changes", [changes for _, changes in FIRES])
def test_no_rule_speaks_before_it_has_seen_enough(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert keys(tmp_path, ENOUGH - 1, **changes) == {"early"}


@pytest.mark.parametrize("lines", [[], [{}], [{"loss": None}] * 50, [{"reward": 1.0}] * 50])
def test_few_or_no_keys_are_no_error(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    assert findings(View(a_run(tmp_path / "run", lines)))


def test_supervised_runs_have_their_own_rules(tmp_path: Path) -> None:
    rising = {"loss": lambda step: 1.0 if step < 30 else 2.0}
    config: dict[str, Any] = {}
    assert "loss rises" in keys(tmp_path / "a", 80, "sft", config, **rising)
    falling = {"loss": lambda step: 3.0 / step, "frac_reward_zero_std": 0.9, "completions/clipped_ratio": 0.9}
    assert keys(tmp_path / "b", 80, "sft", config, **falling) == {"fine"}


def test_a_living_but_silent_process_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", steady(30))
    me = os.getpid()
    alive = {"phase": "training", "pid": me, "identity": process_identity(me), "step": 30, "total": 60}
    write_status(run, **alive, heartbeat=START)
    late, soon = START + SILENT + 1, START + SILENT - 1
    assert "silent" in {each.key for each in findings(View(run), now=late)}
    assert "silent" not in {each.key for each in findings(View(run), now=soon)}
    write_status(run, **(alive | {"phase": "finished"}), heartbeat=START)
    assert "silent" not in {each.key for each in findings(View(run), now=late)}


@pytest.mark.parametrize("stage", ["grpo", "sft"])
def test_the_shipped_runs_raise_no_alarm(stage: str) -> None:
    view = View(RunDirectory(PROFILES["smollm2-135m"].assets / "runs" / stage))
    assert not [each for each in findings(view) if each.level == "bad"]


def test_the_document_names_every_threshold() -> None:
    text = (Path(__file__).parents[2] / "docs" / "health.md").read_text(encoding="utf-8")
    thresholds = {name: value for name, value in vars(health).items() if name.isupper() and isinstance(value, float)}
    assert len(thresholds) >= 15
    for name, value in thresholds.items():
        assert f"`{name}` {value:g}" in text, name
