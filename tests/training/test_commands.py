"""`train` and `runs` on the command line: what is printed, the JSON, the exit codes, and that Ctrl-C only looks away."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from medgrpo.cli import main
from medgrpo.training import launching
from medgrpo.training.commands import duration
from medgrpo.training.manager import RunManager

from .patient_trainer import ROOT
from .test_manager import config, manager, settle, wait

__all__ = ["manager"]


@pytest.fixture(autouse=True)
def _runs(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGRPO_RUNS", str(manager.folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration that passes the preflight within a second."""
    path = tmp_path / "small.yaml"
    cases = tmp_path / "cases.jsonl"
    row = {"question": "A man of 60 has crushing chest pain and sweats.", "answer": "Myocardial infarction"}
    cases.write_text("".join(json.dumps({**row, "split": split}) + "\n" for split in ("train", "validation")))
    data = {"source": str(cases), "split": "train"}
    training = {"max_steps": 3, "save_steps": 2, "per_device_train_batch_size": 4}
    rest = {"data": data, "evaluation": {"limit": 0}, "training": training, "rewards": {"audit": "skip"}}
    path.write_text(yaml.safe_dump({"grpo": {"num_generations": 4, "max_completion_length": 64}, **rest}))
    return path


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(["runs", "list", "--json"], capsys)[1])
    return found


def test_train_starts_a_run_and_follows_it_to_its_end(
    manager: RunManager, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(["train", "--config", str(file), "--name", "mine", "--follow"], capsys)
    assert code == 0
    assert "step 3" in out
    assert "finished, step 3/3" in err
    assert "GB of memory" in err
    (entry,) = listed(capsys)
    assert entry["id"].endswith("-mine")
    assert (entry["phase"], entry["step"], entry["checkpoints"]) == ("finished", 3, [2])
    assert run(["runs"], capsys)[1].startswith(entry["id"])
    shown = run(["runs", "show", entry["id"]], capsys)[1]
    assert "finished, step 3/3" in shown
    assert "checkpoints: 2" in shown
    assert json.loads(run(["runs", "show", entry["id"], "--json"], capsys)[1]) == entry


def test_a_failed_run_ends_the_follower_with_code_1(
    manager: RunManager, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATIENT_CRASH", "no luck")
    code, out, err = run(["train", "--config", str(file), "--follow"], capsys)
    assert code == 1
    assert "no luck" in err
    assert "Traceback" in out  # the log, which was asked for


def test_ctrl_c_ends_the_looking_and_not_the_run(manager: RunManager, file: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from medgrpo.cli import main
from medgrpo.training import launching
launching.ROOT = Path({str(launching.ROOT)!r})
sys.exit(main(["train", "--config", {str(file)!r}, "--set", "training.max_steps=60", "--follow"]))
"""
    looker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    settle(lambda: any(each.step >= 1 for each in manager.runs()), 60)
    os.kill(looker.pid, signal.SIGINT)
    _, err = looker.communicate(timeout=30)
    assert looker.returncode == 0, err
    assert "The run goes on" in err
    assert wait(manager, manager.runs()[0].id, "finished").step == 60


def test_stop_resume_and_cancel(manager: RunManager, capsys: pytest.CaptureFixture[str]) -> None:
    name = manager.start(config(steps=500)).id
    settle(lambda: manager.info(name).step >= 1)
    assert run(["runs", "stop", name], capsys)[0] == 0
    wait(manager, name, "stopped")
    code, out, _ = run(["runs", "resume", name, "--json"], capsys)
    assert (code, json.loads(out)["phase"]) == (0, "preparing")
    code, out, _ = run(["runs", "cancel", name], capsys)
    assert code == 0
    assert "stopped" in out  # cancel waits for the end
    assert run(["runs", "stop", name], capsys)[0] == 2


def test_the_preflight_stands_in_the_way_unless_told_otherwise(
    manager: RunManager, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--config", str(file), "--set", "grpo.use_vllm=true", "--set", "training.optim=adamw_8bit"]
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert "grpo.use_vllm is True" in err
    assert "training.optim" in err
    assert "Nothing was started" in err
    assert manager.runs() == []
    code, out, _ = run([*arguments, "--dry-run", "--json"], capsys)
    found = json.loads(out)
    assert code == 1
    assert [problem["field"] for problem in found["problems"]] == ["grpo.use_vllm", "training.optim"]
    assert found["command"][1:3] == ["-m", "train.grpo"]
    assert found["estimate"]["memory_gb"] > 1
    assert manager.runs() == []
    assert run([*arguments, "--anyway"], capsys)[0] == 0
    wait(manager, manager.runs()[0].id, "finished")


def test_a_dry_run_says_the_exact_command(manager: RunManager, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["train", "--config", str(file), "--dry-run"], capsys)
    assert code == 0
    assert out.splitlines()[-1].endswith(
        f"-m train.grpo --run-dir {manager.folder}/RUN --config {manager.folder}/RUN/config.yaml"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--config", "none.yaml"], "none.yaml"),
        (["train", "--config", "FILE", "--set", "training.max_steps=-1"], "training.max_steps is -1"),
        (["train", "--config", "FILE", "--set", "nothing"], "section.key=value"),
        (["train", "--config", "FILE", "--name", "../x"], "run name"),
        (["runs", "show", "../x"], "'../x' is not the name of a run"),
        (["runs", "show", "none"], "There is no run 'none'"),
        (["runs", "resume", "none"], "There is no run 'none'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    manager: RunManager, file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = run([str(file) if word == "FILE" else word for word in arguments], capsys)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err
    assert manager.runs() == []


def test_no_runs_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No runs under" in run(["runs"], capsys)[1]
    assert run(["runs", "--json"], capsys)[1] == "[]\n"
    assert run(["runs", "--json", "list"], capsys)[1] == "[]\n"


def test_durations_as_a_person_says_them() -> None:
    assert [duration(seconds) for seconds in (0.2, 80, 600, 7200)] == ["1 s", "80 s", "10 min", "2.0 h"]
