"""Parts of the GPU benchmarks that need no GPU."""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.gpu import grpo_step, preset_memory, users
from benchmarks.gpu.common import RESULTS
from medgrpo.engines import BASE, GRPO, Sampling
from medgrpo.engines.base import Piece

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


@pytest.mark.parametrize(
    ("program", "arms", "figure"),
    [
        ("two_gpus", ("one", "two", "split"), "gpus_one_two_split"),
        ("grpo_step", ("ours", "unsloth-4bit"), "grpo_unsloth_4bit"),
    ],
)
def test_a_figure_follows_from_the_runs_that_are_kept(
    program: str, arms: tuple[str, ...], figure: str, tmp_path: Path
) -> None:
    kept = json.loads((RESULTS / f"{figure}.json").read_text())
    folder = RESULTS / kept["options"]["read"]
    command = [sys.executable, "-m", f"benchmarks.gpu.{program}", "--arms", *arms, "--dry"]
    subprocess.run(
        [*command, "--read", str(folder), "--work", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    made = json.loads((tmp_path / "results" / f"{figure}.json").read_text())
    assert made["rows"] == kept["rows"]
    assert made["ratios"] == kept["ratios"]
    assert made["machine"] == kept["machine"]


def test_an_arm_that_the_clock_ended_counts_with_the_steps_it_has(tmp_path: Path) -> None:
    arm, kept = grpo_step.ARMS["unsloth-4bit"], RESULTS / "unsloth_4bit" / "unsloth-4bit"
    assert grpo_step.row("unsloth-4bit", arm, kept)["steps counted"] == 6
    (tmp_path / "run").mkdir()
    (tmp_path / "config.yaml").write_text((kept / "config.yaml").read_text())
    lines = (kept / "run" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines[: arm.warm]))
    with pytest.raises(SystemExit, match="3 of 20 steps"):
        grpo_step.row("unsloth-4bit", arm, tmp_path)


class Asked:
    """An engine that notes what it is asked, and answers in two pieces of three and five tokens."""

    def __init__(self) -> None:
        self.cases: list[int | None] = []
        self.variants: list[str] = []

    def stream(self, messages: object, sampling: Sampling, variant: str) -> Iterator[str]:
        self.cases.append(sampling.seed)
        self.variants.append(variant)
        yield Piece("a", 3)
        yield Piece("b", 5)


def test_users_count_the_tokens_that_the_server_says_it_wrote() -> None:
    engine: Any = Asked()
    load = users.Ours(engine, (BASE, GRPO)).load(4, 3, 8, 100)
    assert load.tokens == 4 * 3 * 8
    assert len(load.firsts) == 4 * 3
    assert sorted(engine.cases) == list(range(100, 112)), "no case is asked twice"
    assert engine.variants.count(GRPO) == 6


def test_users_load_the_servers_in_turns_with_the_same_cases() -> None:
    order: list[tuple[str, int]] = []

    class Noted(users.Bare):
        def load(self, users_: int, questions: int, tokens: int, seed: int) -> users.Load:
            order.append((self.url, seed))
            return users.Load(1.0, 10, [0.1])

    contenders = {name: Noted(name, (BASE,)) for name in ("bare", "ours", "ours, both variants")}
    options = argparse.Namespace(users=4, questions=2, tokens=8, rounds=4)
    rounds = users.measured(contenders, options)
    assert {name: len(loads) for name, loads in rounds.items()} == dict.fromkeys(contenders, 4), "the first warms up"
    turns = [[name for name, _ in order[at : at + 3]] for at in range(0, len(order), 3)]
    assert turns == [list(contenders), list(contenders)[::-1]] * 2 + [list(contenders)]
    seeds = {name: [seed for who, seed in order if who == name] for name in contenders}
    assert seeds["bare"] == seeds["ours"]
    assert not set(seeds["ours"]) & set(seeds["ours, both variants"]), "they share a server and its cache"
