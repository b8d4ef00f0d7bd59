"""What a run survives: full disks, folders that can't be written to, a file in the place of the folder."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgrpo.errors import RunError
from medgrpo.training import launching
from medgrpo.training.config import read_config
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import folder_problems

from .test_manager import config, manager, settle, wait

__all__ = ["manager"]


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill a disk up to `leave` bytes."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with ballast.open("ab") as file:
        file.truncate(max(0, ballast.stat().st_size - leave))
    return ballast


@pytest.fixture
def small_disk(manager: RunManager) -> Iterator[RunManager]:
    """The manager with its runs on a disk of 1 MB."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    with mounted(manager.folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        yield manager
        for run in manager.runs():
            launching.send(manager.directory(run.id).status(), signal.SIGKILL)
        settle(lambda: not any(run.active for run in manager.runs()))


def test_a_start_on_a_full_disk_is_refused_and_leaves_nothing(small_disk: RunManager) -> None:
    ballast = fill(small_disk.folder)
    with pytest.raises(RunError, match="full"):
        small_disk.start(config())
    assert [problem.field for problem in folder_problems(small_disk.folder)] == ["MEDGRPO_RUNS"]
    assert [path.name for path in small_disk.folder.iterdir() if path.is_dir()] == []
    ballast.unlink()
    assert folder_problems(small_disk.folder) == []
    wait(small_disk, small_disk.start(config()).id, "finished")


def test_a_disk_that_fills_up_ends_the_run_with_a_sentence_and_loses_nothing(
    small_disk: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATIENT_BYTES", "20000")
    run = small_disk.start(config(steps=60, save_steps=2))
    settle(lambda: small_disk.info(run.id).step >= 5)
    ballast = fill(small_disk.folder)
    failed = wait(small_disk, run.id, "failed")
    assert "full" in failed.error
    assert "resume" in failed.error
    assert failed.checkpoints
    kept = len(small_disk.directory(run.id).metrics())
    assert kept >= failed.checkpoints[-1]
    config_before = read_config(small_disk.directory(run.id).config_file)
    with contextlib.suppress(RunError):  # resumed too early: nothing is lost by that either
        small_disk.resume(run.id)
    wait(small_disk, run.id, "failed")
    assert read_config(small_disk.directory(run.id).config_file) == config_before
    assert small_disk.info(run.id).checkpoints == failed.checkpoints
    ballast.unlink()
    monkeypatch.setenv("PATIENT_BYTES", "100")
    small_disk.resume(run.id)
    assert wait(small_disk, run.id, "finished").step == 60
    assert [line["step"] for line in small_disk.directory(run.id).metrics()] == list(range(1, 61))


def test_stop_works_on_a_full_disk(small_disk: RunManager) -> None:
    """No file can be made, so the signal says it; the checkpoint that has no room is named."""
    run = small_disk.start(config(steps=500, save_steps=500))
    settle(lambda: small_disk.info(run.id).step >= 2)
    ballast = fill(small_disk.folder, leave=0)
    with contextlib.suppress(RunError):  # the full disk ended it before the request came
        small_disk.stop(run.id)
    assert wait(small_disk, run.id, "stopped", "failed").step < 500
    ballast.unlink()


def test_a_folder_without_write_permission_names_itself(manager: RunManager, tmp_path: Path) -> None:
    """Root ignores permissions, a read-only mount ignores root."""
    run = manager.start(config())
    wait(manager, run.id, "finished")
    with mounted(manager.folder, "--bind", str(manager.folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(manager.folder)], check=True)
        with pytest.raises(RunError, match="MEDGRPO_RUNS"):
            manager.start(config(), "second")
        (problem,) = folder_problems(manager.folder)
        assert "written to" in problem.reason
        assert [found.phase for found in manager.runs()] == ["finished"]  # what is there can still be read


def test_a_file_in_the_place_of_the_folder_names_itself(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="MEDGRPO_RUNS"):
        RunManager(tmp_path / "runs").start(config())
    (problem,) = folder_problems(tmp_path / "runs")
    assert "file" in problem.reason
    assert (tmp_path / "runs").read_text() == "a file"
