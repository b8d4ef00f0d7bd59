"""Parts of the GPU benchmarks that need no GPU."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu import preset_memory
from benchmarks.gpu.common import RESULTS

ROOT = Path(__file__).parents[2]

SERVES = """
import sys
from pathlib import Path
from benchmarks.gpu import common
common.parser("x", None).parse_args([])
command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"]
with common.served(command, Path(sys.argv[1]), {}, "http://127.0.0.1:9/health", 200):
    pass
"""


def test_a_program_that_is_ended_takes_its_servers_along(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = SERVES.replace("sys.argv[1]", repr(str(log)))
    program = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (log.is_file() and log.read_text().strip()):
        assert time.monotonic() < end
        assert program.poll() is None
        time.sleep(0.1)
    server = psutil.Process(int(log.read_text()))
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) != 0
    psutil.wait_procs([server], timeout=10)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("card", "share"), [(16, 0.5), (24, 0.5), (80, 0.3 * 80 / 140)])
def test_vllm_s_share_is_that_of_the_smaller_card(card: int, share: float) -> None:
    config = preset_memory.preset(card, 140.0, "model", 3)
    assert config.grpo.vllm_gpu_memory_utilization == pytest.approx(share, abs=1e-3)
    assert (config.training.max_steps, config.model, config.init_adapter) == (3, "model", "")


def test_the_figure_of_two_gpus_follows_from_the_runs_that_are_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.two_gpus", "--arms", "one", "two", "split", "--dry"]
    command += ["--read", str(RESULTS / "two_gpus"), "--work", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    name = "gpus_one_two_split.json"
    made, kept = (json.loads((folder / name).read_text()) for folder in (tmp_path / "results", RESULTS))
    assert made["rows"] == kept["rows"]
    assert made["ratios"] == kept["ratios"]
    assert kept["ratios"]["step time, one / two"]["met"]
