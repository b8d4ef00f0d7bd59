"""docs/scaling.md: its cost model prints what stands below it, and its commands name what is there."""

import contextlib
import io
import re
from pathlib import Path

from medgrpo.training.config import Grpo, read_config
from train.rollout_server import server_command

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()


def test_the_cost_model_prints_what_is_shown() -> None:
    found = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1], {})
    assert printed.getvalue() == found[2]


def test_its_configurations_can_be_read_with_the_values_it_sets() -> None:
    lines = [line for line in TEXT.splitlines() if "train/configs/" in line]
    assert len(lines) >= 8
    for line in lines:
        overrides = [each for each in re.findall(r"--set (\S+)", line) if "=" in each]
        read_config(ROOT / re.findall(r"train/configs/\S+?\.yaml", line)[0], [each.strip("`") for each in overrides])


def test_the_server_is_started_as_the_run_says() -> None:
    assert f"CUDA_VISIBLE_DEVICES=1 {server_command('Qwen/Qwen2.5-3B-Instruct', Grpo())}\n" in TEXT
