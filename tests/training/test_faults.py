"""What a run survives: killed trainers and servers, torn files, strangers with its pid, clocks, full and closed disks."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from medgrpo.errors import RunError
from medgrpo.training import launching
from medgrpo.training.config import read_config, write_config
from medgrpo.training.manager import RunManager
from medgrpo.training.preflight import folder_problems
from medgrpo.training.run_directory import RunDirectory, process_identity

from .patient_trainer import ROOT
from .test_manager import config, manager, settle, wait

__all__ = ["manager"]


def kill(manager: RunManager, run_id: str) -> None:
    os.kill(manager.directory(run_id).status().pid, signal.SIGKILL)


def test_a_killed_trainer_is_interrupted_at_the_next_look_and_resumes(manager: RunManager) -> None:
    run = manager.start(config(steps=40, save_steps=5))
    settle(lambda: manager.info(run.id).step >= 7)
    kill(manager, run.id)
    found = wait(manager, run.id, "interrupted")
    assert "resume" in found.error
    assert found.resumable
    assert found.checkpoints
    manager.resume(run.id)
    done = wait(manager, run.id, "finished")
    assert [line["step"] for line in manager.directory(run.id).metrics()] == list(range(1, 41))
    assert done.error == ""


def test_a_checkpoint_cut_off_by_the_kill_is_not_resumed_from(manager: RunManager) -> None:
    run = manager.start(config(steps=40, save_steps=5))
    settle(lambda: len(manager.info(run.id).checkpoints) >= 2)
    kill(manager, run.id)
    wait(manager, run.id, "interrupted")
    *_, whole, last = manager.info(run.id).checkpoints
    archive = manager.directory(run.id).path / f"checkpoint-{last}" / "optimizer.pt"
    archive.write_bytes(archive.read_bytes()[:-30])
    assert manager.info(run.id).checkpoints[-1] == whole
    manager.resume(run.id)
    wait(manager, run.id, "finished")
    assert f"from checkpoint-{whole}" in manager.directory(run.id).log_file(2).read_text()


SERVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from medgrpo.training import launching
from medgrpo.training.config import parse_config
from medgrpo.training.manager import RunManager
launching.ROOT = Path({programs!r})
manager = RunManager(Path({runs!r}))
raw = {{"training": {{"max_steps": {steps}, "save_steps": 5}}}}
print(manager.start(parse_config(raw), "a").id, manager.start(parse_config(raw), "b").id, flush=True)
while True:
    manager.runs()
    time.sleep(0.1)
"""


def test_the_trainer_and_the_queue_outlive_a_killed_server(manager: RunManager) -> None:
    code = SERVER.format(root=str(ROOT), programs=str(launching.ROOT), runs=str(manager.folder), steps=30)
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    first, second = server.stdout.readline().split()
    settle(lambda: manager.info(first).step >= 2)
    os.killpg(server.pid, signal.SIGKILL)  # with everything in its group, as a terminal or a supervisor would
    server.wait()
    server.stdout.close()
    before = manager.info(first).step
    settle(lambda: manager.info(first).step > before)
    wait(manager, first, "finished")
    wait(manager, second, "finished")  # the first trainer started it


def test_a_server_killed_while_it_starts_a_run_leaves_a_truth(manager: RunManager) -> None:
    """The launch is written down before the process exists; its maker died in between."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = RunDirectory(manager.folder / "20260101-000000-x")
    run.create()
    write_config(config(), run.config_file)
    launch = {"attempt": 1, "time": time.time(), "by": gone.pid, "by_identity": "boot/1"}
    run.launch_file.write_text(json.dumps(launch))
    found = manager.info(run.path.name)
    assert (found.phase, found.resumable) == ("failed", True)
    assert "resume" in found.error
    manager.resume(run.path.name)
    wait(manager, run.path.name, "finished")


def test_torn_last_lines_are_forgiven(manager: RunManager) -> None:
    run = manager.start(config(steps=40, save_steps=5))
    settle(lambda: manager.info(run.id).step >= 7)
    kill(manager, run.id)
    wait(manager, run.id, "interrupted")
    directory = manager.directory(run.id)
    with directory.metrics_file.open("ab") as file:
        file.write(b'{"step": 8, "rew')
    torn = (directory.completions_file(8), directory.evaluation_file(8), directory.stop_file.with_name(".x.partial"))
    for path in torn:
        path.write_bytes(b'{"step": 8, "pro')
    assert [line["step"] for line in directory.metrics()][:7] == list(range(1, 8))
    assert manager.runs()[0].phase == "interrupted"
    manager.resume(run.id)
    wait(manager, run.id, "finished")
    assert [line["step"] for line in directory.metrics()] == list(range(1, 41))


@pytest.mark.parametrize("name", ["status.json", "control/launch.json", "control/queued.json", "config.yaml"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"attempt": ',
        b"\xff\xfe",
        b"[1, 2]",
        b'{"pid": "x", "attempt": "y"}',
        b'{"attempt": "y", "started": "x"}',
        b'{"attempt": 9, "time": "x", "ticket": "x"}',
        b"training: {max_steps: .inf}",
    ],
)
def test_a_torn_small_file_never_breaks_the_list(manager: RunManager, name: str, content: bytes) -> None:
    run = manager.start(config(steps=2))
    wait(manager, run.id, "finished")
    (manager.directory(run.id).path / name).write_bytes(content)
    assert [found.id for found in manager.runs()] == [run.id]
    assert manager.info(run.id).id == run.id


def test_a_reused_pid_is_not_the_trainer_and_gets_no_signal(manager: RunManager) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    time.sleep(0.05)  # the system counts starts in hundredths of a second
    run = manager.start(config(steps=500))
    settle(lambda: manager.info(run.id).step >= 1)
    kill(manager, run.id)
    wait(manager, run.id, "interrupted")
    file = manager.directory(run.id).path / "status.json"
    status = json.loads(file.read_text())
    file.write_text(json.dumps({**status, "pid": stranger.pid}))
    assert manager.info(run.id).phase == "interrupted"
    with pytest.raises(RunError, match="interrupted already"):
        manager.cancel(run.id)
    assert launching.send(manager.directory(run.id).written_status(), signal.SIGKILL) is False
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("jump", [-7 * 86_400, 7 * 86_400])
def test_a_clock_that_jumps_neither_kills_nor_revives(
    manager: RunManager, jump: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The creation time that the system reports moves with the clock; boot and start tick do not."""
    alive = manager.start(config(steps=500))
    settle(lambda: manager.info(alive.id).step >= 1)
    now, created = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + jump)
    assert manager.info(alive.id).phase == "training"
    assert RunManager(manager.folder).start(config(), "next").phase == "queued"
    file = manager.directory(alive.id).path / "status.json"
    kill(manager, alive.id)
    settle(lambda: manager.info(alive.id).phase == "interrupted")
    status = json.loads(file.read_text())
    for heartbeat in (now(), now() + 1e6):
        file.write_text(json.dumps({**status, "heartbeat": heartbeat, "created": heartbeat}))
        assert manager.info(alive.id).phase == "interrupted"


def test_a_silent_heartbeat_is_no_death(manager: RunManager) -> None:
    """A machine that slept, or a step that takes an hour."""
    run = RunDirectory(manager.folder / "20260101-000000-x")
    run.create()
    mine = {"pid": os.getpid(), "identity": process_identity(os.getpid()), "attempt": 1, "heartbeat": 1.0}
    (run.path / "status.json").write_text(json.dumps({**mine, "phase": "training"}))
    assert manager.info(run.path.name).phase == "training"
    (run.path / "status.json").write_text(json.dumps({**mine, "phase": "finished"}))


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


def checkpoint(folder: Path, step: int) -> None:
    import struct
    import zipfile

    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", "x")
    history = [{"step": line, "loss": 0.1, "reward": 1.0} for line in range(step)]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))


def test_a_hundred_finished_runs_are_listed_within_half_a_second(tmp_path: Path) -> None:
    recorded = ROOT / "medgrpo" / "assets" / "smollm2-135m" / "runs" / "grpo"
    for number in range(100):
        run = tmp_path / "runs" / f"202601{number // 24 + 1:02d}-{number % 24:02d}0000-x"
        run.mkdir(parents=True)
        for name in ("config.yaml", "status.json", "metrics.jsonl"):
            shutil.copy(recorded / name, run / name)
        for step in (15, 30, 45):
            checkpoint(run / f"checkpoint-{step}", step)
    code = f"""
import time
from pathlib import Path
from medgrpo.training.manager import RunManager
manager, times = RunManager(Path({str(tmp_path / "runs")!r})), []
for _ in range(2):
    began = time.process_time()
    found = manager.runs()
    times.append(time.process_time() - began)
assert len(found) == 100 and all(run.checkpoints == (15, 30, 45) and run.model for run in found)
print(*times)
"""
    looks = []
    for _ in range(3):  # processor time, and the best of three: the machine may be busy with something else
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        looks.append(tuple(map(float, done.stdout.split())))
    first, again = min(looks)
    assert first < 0.5, f"the first look took {first:.2f} s"
    assert again < 0.25, f"the second look took {again:.2f} s"


WEB_SERVER = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
os.chdir({folder!r})
import app
from medgrpo.settings import Settings
from medgrpo.training import launching
from medgrpo.training.config import parse_config
from medgrpo.training.manager import RunManager
launching.ROOT = Path({programs!r})
if "start" in sys.argv:
    raw = {{"training": {{"max_steps": 100, "save_steps": 50}}}}
    start = lambda: RunManager(Settings.from_env().runs).start(parse_config(raw), "from-the-page")
    threading.Timer(0.1, start).start()
sys.exit(app.main())
"""


@pytest.mark.slow
def test_a_killed_web_server_takes_no_run_with_it_and_comes_back_on_its_port(manager: RunManager) -> None:
    code = WEB_SERVER.format(root=str(ROOT), folder=str(manager.folder.parent), programs=str(launching.ROOT))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MEDGRPO_RUNS": str(manager.folder),
        "MEDGRPO_ENGINE": "fake",
        "GRADIO_SERVER_PORT": str(port),
        "PATIENT_SECONDS": "0.3",
    }

    def answers() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return bool(page.status == 200)
        return False

    def serve(*arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    server = serve("start")
    settle(answers, 120)
    settle(lambda: [run for run in manager.runs() if run.step >= 1], 60)
    (run,) = manager.runs()
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    settle(lambda: not answers())
    seen = manager.info(run.id).step
    settle(lambda: manager.info(run.id).step > seen)  # it trains on
    again = serve()
    settle(answers, 120)  # on the same port, so the trainer holds nothing of the server's
    assert again.poll() is None
    assert manager.info(run.id).phase in ("training", "finished")
    os.killpg(again.pid, signal.SIGKILL)
    again.wait()
    settle(lambda: manager.info(run.id).phase == "finished", 90)
    assert manager.info(run.id).step == 100
