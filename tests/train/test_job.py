"""What runs on a rented machine: asked to stop before the machine goes, and honest about what it did not push."""

import time
from pathlib import Path

import pytest

from medgrpo.training.run_directory import RunDirectory
from train import job

TRAINER = """
import sys, time
from pathlib import Path
stop = Path(sys.argv[sys.argv.index("--run-dir") + 1]) / "control" / "stop"
code = int(Path("code").read_text())
while not stop.exists() and not code:
    time.sleep(0.05)
sys.exit(code)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unpacked archive whose trainer only waits to be stopped, or ends with the number in the file `code`."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "grpo.py").write_text(TRAINER)
    (tmp_path / "config.yaml").write_text("stage: grpo\n")
    (tmp_path / "code").write_text("0")
    monkeypatch.setattr(job, "HERE", tmp_path)
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


def test_the_run_is_asked_to_stop_when_the_time_is_nearly_over(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(place / "run")
    began = time.monotonic()
    assert job.train(run, began + 1.0) == 0
    assert time.monotonic() - began >= 1.0
    assert run.stop_file.exists()
    assert "The time is nearly over" in capfd.readouterr().out


def test_a_run_that_failed_keeps_its_exit_code_and_nothing_is_called_pushed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "code").write_text("3")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert job.main(["ada/x", "main", "600"]) == 3
    out = capfd.readouterr().out
    assert "no adapter to push" in out
    assert "pushed" not in out
    assert "hf_secret" not in out


def test_a_job_without_a_token_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "code").write_text("3")
    monkeypatch.setattr(job, "get_token", lambda: None)
    assert job.main(["ada/x", "main", "600"]) == 3
    assert "The job has no token" in capfd.readouterr().out


@pytest.mark.parametrize(("limit", "spared"), [(600, 180), (3600, 360), (36_000, 3600), (100, 50)])
def test_time_is_kept_for_saving_and_pushing(limit: float, spared: float) -> None:
    assert job.spare(limit) == spared
