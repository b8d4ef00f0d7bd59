"""Preflight: every bad input is named with field, value and reason, nothing is written, and what can be mended is."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from medgrpo.engines.shapes import KNOWN, shape_of
from medgrpo.errors import SettingsError
from medgrpo.rewards import PROFILES as REWARD_PROFILES
from medgrpo.training import presets
from medgrpo.training.config import Problem, RunConfig, parse_config, problems
from medgrpo.training.engine_room import EngineRoom, needs_engine_room
from medgrpo.training.estimate import Estimate, estimate
from medgrpo.training.machine import Machine, here
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import apply, folder_problems, preflight, read_yaml

CPU = Machine(2, 16.0, (), 50.0)
H100 = Machine(16, 128.0, (("NVIDIA H100 80GB HBM3", 79.6),), 500.0)
SMALL_GPU = Machine(4, 16.0, (("Tesla T4", 15.0),), 50.0)
ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "train" / "configs" / "smoke_cpu.yaml").read_text())


def changed(**values: Any) -> dict[str, Any]:
    """The smoke configuration with `section__key=value` changes."""
    raw: dict[str, Any] = json.loads(json.dumps(SMOKE))
    for name, value in values.items():
        *sections, key = name.split("__")
        at = raw
        for section in sections:
            at = at[section]
        at[key] = value
    return raw


def found(raw: Mapping[str, Any], runs: Path, machine: Machine = CPU, quick: bool = False) -> dict[str, Problem]:
    return {problem.field: problem for problem in preflight(raw, machine, runs, quick).problems}


def expected(raw: Mapping[str, Any], machine: Machine, prompts: tuple[int, ...] = ()) -> Estimate:
    result = estimate(parse_config(raw), machine, prompts)
    assert result is not None
    return result


def test_the_smoke_run_passes_with_audit_and_estimate(tmp_path: Path) -> None:
    result = preflight(SMOKE, here(tmp_path), tmp_path / "runs")
    assert result.problems == []
    assert result.good
    assert result.config == parse_config(SMOKE)
    assert "Audit of the reward profile" in (result.audit or "")
    assert result.estimate is not None
    assert 1.0 < result.estimate.memory_gb < 10.0
    assert result.estimate.disk_gb < 0.3
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("values", "field", "says", "mend"),
    [
        ({"training__max_steps": -1}, "training.max_steps", "out of range", None),
        ({"training__max_step": 3}, "training.max_step", "did you mean training.max_steps", None),
        ({"seed": "many"}, "seed", "whole number", None),
        ({"training__per_device_train_batch_size": 6}, "training.per_device_train_batch_size", "divide", 8),
        ({"rewards__profile": "medgpro"}, "rewards.profile", "no such profile", "medgrpo"),
        ({"rewards__weights": {"corectness": 1}}, "rewards.weights.corectness", "did you mean correctness", None),
        ({"rewards__weights": dict.fromkeys(REWARD_PROFILES["medgrpo"], 0)},
         "rewards.weights", "nothing would be learned", {}),
        ({"rewards__weights": {"format": 50}}, "rewards.weights", "audit", {}),
        ({"rewards__profile": "format_only"}, "rewards.profile", "audit", "medgrpo"),
        ({"data__source": "nothing_here"}, "data.source", "nothing_here", None),
        ({"data__source": "none.csv"}, "data.source", "none.csv", None),
        ({"data__split": "trian"}, "data.split", "trian", None),
        ({"evaluation__source": "nothing_here"}, "evaluation.source", "nothing_here", None),
        ({"model": "smollm2-153m"}, "model", "no such model", "smollm2-135m"),
        ({"model": "/nowhere/model.gguf"}, "model", "no model at this place", None),
        ({"model": "../nowhere"}, "model", "no such model", None),
        ({"init_adapter": "runs/none/adapter"}, "init_adapter", "adapter_config.json", ""),
        ({"grpo__use_vllm": True}, "grpo.use_vllm", "no CUDA", False),
        ({"backend": "unsloth", "precision": "bf16"}, "backend", "CUDA", "trl"),
        ({"backend": "unsloth", "precision": "4bit"}, "precision", "CUDA", "fp32"),
        ({"training__optim": "adamw_8bit"}, "training.optim", "CUDA", "adamw_torch"),
        ({"grpo__max_completion_length": 9000}, "grpo.max_completion_length", "exceeds", 8192 - 512),
        ({"grpo__max_prompt_length": 8192}, "grpo.max_prompt_length", "no room", 4096),
        ({"grpo__max_prompt_length": 20}, "grpo.max_prompt_length", "every prompt is longer", Ellipsis),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_mended(
    tmp_path: Path, values: dict[str, Any], field: str, says: str, mend: object
) -> None:
    raw = changed(**values)
    problem = found(raw, tmp_path)[field]
    assert says in str(problem)
    if mend is Ellipsis:
        assert isinstance(problem.mend, int)
    else:
        assert problem.mend == mend
    mended = apply(raw, problem)
    if problem.mend is None:
        assert mended == raw
    else:
        assert raw != mended  # a copy: what was typed stays
        assert field not in found(mended, tmp_path) or found(mended, tmp_path)[field].reason != problem.reason
    assert list(tmp_path.iterdir()) == []


def test_applying_every_mend_makes_a_gpu_preset_run_on_a_cpu(tmp_path: Path) -> None:
    raw = read_yaml(presets.presets()["smollm2_gpu"].read_text())
    for _ in range(10):
        problem = next((each for each in preflight(raw, CPU, tmp_path).problems if each.mend is not None), None)
        if problem is None:
            break
        raw = apply(raw, problem)
    assert preflight(raw, CPU, tmp_path).problems == []


def test_a_mend_makes_the_section_it_needs() -> None:
    assert apply({}, Problem("grpo.beta", 0, "why", mend=0.1)) == {"grpo": {"beta": 0.1}}
    assert apply({"grpo": "text"}, Problem("grpo.beta", 0, "why", mend=0.1)) == {"grpo": {"beta": 0.1}}


def test_a_dataset_with_no_usable_row_is_named(tmp_path: Path) -> None:
    for text in ("", "question,answer\n", "question,answer\n,\n", "a,b\n1,2\n"):
        file = tmp_path / "cases.csv"
        file.write_text(text)
        problem = found(changed(data__source=str(file)), tmp_path)["data.source"]
        assert problem.value == str(file)
        assert len(problem.reason) > 20
    file.write_text("question,answer,split\nA man has chest pain and sweats.,Myocardial infarction,train\n")
    assert "data.source" not in found(changed(data__source=str(file)), tmp_path)  # the mended file is seen


def test_a_warm_start_of_another_shape_is_mended(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 32, "lora_alpha": 64}')
    raw = changed(init_adapter=str(adapter))
    problems_found = found(raw, tmp_path, quick=True)
    assert (problems_found["lora.r"].mend, problems_found["lora.alpha"].mend) == (32, 64)
    for problem in problems_found.values():
        raw = apply(raw, problem)
    assert found(raw, tmp_path, quick=True) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1"),
        ("stage: grpo\n  model: x", "line 2, column 8"),
        ("\tx: 1", "line 1"),
        ("- 1\n- 2", "list and not"),
        ("just words", "str and not"),
        ("!!python/object:os.system x", "line 1"),
        ("a: \x00", "cannot be read"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_unreadable_yaml_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match="YAML") as error:
        read_yaml(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_box_is_the_defaults() -> None:
    assert read_yaml("") == {}
    assert problems({}) == []


@pytest.mark.parametrize("name", sorted(presets.presets()))
def test_every_preset_is_well_formed_and_fits_a_large_gpu(name: str, tmp_path: Path) -> None:
    raw = read_yaml(presets.presets()[name].read_text())
    fields = found(raw, tmp_path, H100, quick=True)
    assert set(fields) <= {"init_adapter"}, fields  # which needs the warm start to have been trained


@pytest.mark.parametrize(
    ("name", "card", "memory"),
    [
        ("qwen2.5_3b_16gb", "Tesla T4", 15.0),
        ("qwen2.5_3b_24gb", "NVIDIA L4", 22.5),
        ("qwen2.5_3b_80gb", "NVIDIA H100 80GB HBM3", 79.6),
        ("qwen2.5_3b_sft", "Tesla T4", 15.0),
    ],
)
def test_the_3b_presets_fit_the_gpu_that_they_name(name: str, card: str, memory: float, tmp_path: Path) -> None:
    raw = read_yaml(presets.presets()[name].read_text())
    assert found(raw, tmp_path, Machine(8, 32.0, ((card, memory),), 200.0), quick=True) == {}


def test_the_memory_estimate_of_the_3b_is_what_was_measured() -> None:
    """59 GB at the peak with 32 completions of 512 tokens, LoRA r=64, TRL and vLLM on an H100 with Qwen2.5-3B's shape."""
    raw = read_yaml(presets.presets()["qwen2.5_3b_80gb"].read_text())
    raw["lora"]["r"] = 64
    assert 59 * 0.9 < expected(raw, H100).memory_gb < 59 * 1.2
    raw["grpo"]["vllm_mode"] = "server"
    assert "vLLM" not in dict(expected(raw, H100).memory_parts)


def test_unsloth_counts_the_weights_once() -> None:
    """They are those that vLLM holds."""
    parts = {}
    for backend in ("trl", "unsloth"):
        raw = read_yaml(presets.presets()["qwen2.5_3b_24gb"].read_text())
        config = replace(parse_config(raw), backend=backend)
        result = estimate(config, H100)
        assert result is not None
        parts[backend] = dict(result.memory_parts)
    assert parts["trl"]["weights"] == pytest.approx(5.75, abs=0.1)
    assert "weights" not in parts["unsloth"]
    assert parts["unsloth"]["vLLM"] == parts["trl"]["vLLM"]


def test_the_proposed_preset_fits_the_machine(tmp_path: Path) -> None:
    forty = Machine(16, 64.0, (("A100 40 GB", 40.0),), 100.0)  # the smallest that the GPU preset is proposed for
    for machine in (CPU, H100, forty, SMALL_GPU, Machine(1, 2.0), Machine(64, 256.0, (), 100.0)):
        name = presets.propose(machine)
        raw = read_yaml(presets.presets()[name].read_text())
        if machine.memory_gb > 4:
            assert set(found(raw, tmp_path, machine, quick=True)) <= {"init_adapter"}
    assert presets.propose(H100) == "smollm2_gpu"
    assert presets.propose(CPU) == "smoke_cpu"


def test_without_the_programs_there_is_no_preset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presets, "ROOT", tmp_path)
    assert (presets.presets(), presets.propose(CPU)) == ({}, "")


def test_the_memory_estimate_holds_what_was_measured() -> None:
    """Peaks of real runs on 2 CPU cores: 2.6 GiB for 4 x 48 tokens, 8.6 GiB for 8 x 128; prompts of about 200."""
    small = expected(SMOKE, CPU, (200,)).memory_gb
    larger = expected(
        changed(training__per_device_train_batch_size=8, grpo__max_completion_length=128), CPU, (220,)
    ).memory_gb
    assert 2.6 <= small <= 2.6 * 1.5
    assert 8.6 * 0.8 <= larger <= 8.6 * 1.5


def test_the_memory_parts_add_up() -> None:
    for machine in (CPU, H100):
        result = expected(changed(grpo__use_vllm=bool(machine.gpus)), machine)
        assert sum(amount for _, amount in result.memory_parts) == pytest.approx(result.memory_gb)
        assert dict(result.memory_parts)["weights"] == pytest.approx(0.5, abs=0.01)


def test_the_time_estimate_is_right_within_a_factor_of_two_of_the_recorded_run() -> None:
    recorded = ROOT / "medgrpo" / "assets" / "smollm2-135m" / "runs" / "grpo"
    raw = yaml.safe_load((recorded / "config.yaml").read_text())
    seconds = [json.loads(line)["step_time"] for line in (recorded / "metrics.jsonl").read_text().splitlines()]
    measured = sorted(seconds)[len(seconds) // 2]
    assert measured / 2 < expected(raw, H100, (250,)).step_seconds < measured * 2.2


def test_an_earlier_run_is_the_better_measure_of_time(tmp_path: Path) -> None:
    run = tmp_path / "20260101-000000-x"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(parse_config(SMOKE).as_mapping()))
    lines = [{"step": step, "step_time": 99.0 if step == 1 else 5.0} for step in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    twice = parse_config(changed(training__per_device_train_batch_size=8))
    result = estimate(twice, CPU, (), tmp_path)
    assert result is not None
    assert result.step_seconds == 10.0
    assert run.name in result.says
    other = estimate(parse_config(changed(precision="bf16")), CPU, (), tmp_path)
    assert other is not None
    assert run.name not in other.says


def test_too_little_memory_is_mended_without_breaking_the_groups(tmp_path: Path) -> None:
    raw = changed(training__per_device_train_batch_size=64, grpo__max_completion_length=256)
    for _ in range(4):
        fields = found(raw, tmp_path, Machine(2, 8.0, (), 50.0), quick=True)
        if not fields:
            break
        (problem,) = fields.values()
        assert "GB" in problem.reason
        raw = apply(raw, problem)
    assert fields == {}
    assert problems(raw) == []


def test_the_largest_batch_that_fits_is_found_at_once(tmp_path: Path) -> None:
    raw = changed(training__per_device_train_batch_size=60_000, training__gradient_checkpointing=True)
    began = time.monotonic()
    problem = found(raw, tmp_path, quick=True)["training.per_device_train_batch_size"]
    assert time.monotonic() - began < 5
    assert isinstance(problem.mend, int)
    assert problem.mend % 4 == 0
    assert found(apply(raw, problem), tmp_path, quick=True) == {}
    more = apply(raw, Problem(problem.field, 0, "", mend=problem.mend + 4))
    assert problem.field in found(more, tmp_path, quick=True)


def test_a_machine_that_is_too_small_for_anything_says_so(tmp_path: Path) -> None:
    raw: dict[str, Any] = changed()
    for _ in range(9):
        (problem,) = found(raw, tmp_path, Machine(1, 1.0, (), 50.0), quick=True).values()
        if problem.mend is None:
            break
        assert "more changes" in problem.allowed
        raw = apply(raw, problem)
    assert "more memory" in problem.allowed


def test_too_little_disk_is_named(tmp_path: Path) -> None:
    raw = changed(training__save_total_limit=500, training__save_steps=1, training__max_steps=1000)
    problem = found(raw, tmp_path, Machine(2, 16.0, (), 1.0), quick=True)["training.save_total_limit"]
    assert "free" in problem.reason
    assert problem.mend == 1


def test_the_shape_of_the_packaged_model_is_what_the_hub_says() -> None:
    assert shape_of("smollm2-135m") == KNOWN["HuggingFaceTB/SmolLM2-135M-Instruct"]
    shape = shape_of("smollm2-135m")
    assert shape is not None
    assert shape.parameters == pytest.approx(134_515_008, rel=1e-3)
    assert shape.lora_parameters(16, "all-linear") == 4_884_480
    assert shape.lora_parameters(16, "q_proj, v_proj") == 16 * 30 * (576 * 2 + 576 + 192)
    assert shape_of("nobody/knows-this") is None


def test_an_unknown_size_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    result = preflight(changed(model=str(folder)), CPU, tmp_path)
    assert (result.problems, result.estimate) == ([], None)


def test_folder_problems_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert folder_problems(tmp_path / "a" / "b") == []
    assert list(tmp_path.iterdir()) == []


def test_this_machine() -> None:
    machine = here(Path("/not/there/yet"))
    assert machine.cpus >= 1
    assert machine.memory_gb > 0.5
    assert machine.disk_free_gb > 0
    assert "CPU" in str(machine)


def test_the_chat_engine_leaves_only_a_gpu_that_is_too_small() -> None:
    large = parse_config(changed(grpo__use_vllm=True, grpo__vllm_gpu_memory_utilization=0.9))
    assert not needs_engine_room(large, CPU)
    assert needs_engine_room(large, SMALL_GPU)
    assert not needs_engine_room(parse_config(SMOKE), H100)
    assert needs_engine_room(RunConfig(model="nobody/knows-this"), H100)
    assert needs_engine_room(parse_config(SMOKE), H100, share=0.99), "vLLM takes its share, however small the model"
    assert not needs_engine_room(parse_config(SMOKE), H100, share=0.5)


def test_the_engine_leaves_for_a_run_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from medgrpo.training.run_directory import RunDirectory, process_identity

    events: list[str] = []
    manager = RunManager(tmp_path)
    room = EngineRoom(manager, SMALL_GPU, lambda: events.append("unload"), lambda: events.append("load"))
    assert room.look() == ""
    run = RunDirectory(tmp_path / "20260101-000000-x")
    run.create()
    (run.path / "config.yaml").write_text(
        yaml.safe_dump(changed(grpo__use_vllm=True, grpo__vllm_gpu_memory_utilization=0.9))
    )
    status = {"phase": "training", "pid": os.getpid(), "identity": process_identity(os.getpid()), "attempt": 1}
    (run.path / "status.json").write_text(json.dumps(status))
    assert run.path.name in room.look()
    assert room.look() == room.says
    (run.path / "status.json").write_text(json.dumps({**status, "phase": "finished"}))
    thread = room.watch(0.01)
    for _ in range(300):
        if events == ["unload", "load"]:
            break
        thread.join(0.01)
    room.close()
    thread.join()
    assert events == ["unload", "load"]
    assert room.says == ""
    here_on_cpu = EngineRoom(manager, CPU, lambda: events.append("wrong"), lambda: events.append("wrong"))
    assert here_on_cpu.look() == ""
    assert events == ["unload", "load"]
