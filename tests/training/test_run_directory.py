"""The readers tell the truth about a run whatever its trainer left behind."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from medgrpo.errors import RunError
from medgrpo.training.run_directory import (
    RunDirectory,
    StatusWriter,
    append_lines,
    is_whole_checkpoint,
    process_identity,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    return directory


def write_status(run: RunDirectory, **values: object) -> None:
    (run.path / "status.json").write_text(json.dumps(values))


def test_a_running_trainer_is_running(run: RunDirectory) -> None:
    writer = StatusWriter(run, "grpo")
    writer.update(phase="training", step=3, total=9)
    status = run.status()
    writer.close()
    assert (status.phase, status.step, status.total, status.pid, status.attempt) == ("training", 3, 9, os.getpid(), 1)


def test_a_trainer_that_is_gone_was_interrupted(run: RunDirectory) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_status(run, phase="training", pid=gone.pid, created=time.time(), step=4)
    status = run.status()
    assert (status.phase, status.step) == ("interrupted", 4)
    assert str(gone.pid) in status.error
    assert "resume" in status.error


@pytest.mark.parametrize("identity", ["", "another-boot/1"])
def test_a_reused_pid_does_not_count_as_the_trainer(run: RunDirectory, identity: str) -> None:
    earlier = psutil.Process().create_time() - 1000
    write_status(run, phase="training", pid=os.getpid(), created=earlier, identity=identity)
    assert run.status().phase == "interrupted"


def test_a_change_of_the_clock_does_not_interrupt_a_run(run: RunDirectory) -> None:
    identity = process_identity(os.getpid())
    write_status(run, phase="training", pid=os.getpid(), created=time.time() + 86_400, identity=identity)
    assert run.status().phase == "training"


@pytest.mark.parametrize("phase", ["finished", "stopped", "failed"])
def test_an_ended_run_stays_ended(run: RunDirectory, phase: str) -> None:
    write_status(run, phase=phase, pid=1, created=0.0)
    assert run.status().phase == phase


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"phase": "training", "pid": "x"}', '{"notes": 3}'])
def test_a_status_that_cannot_be_read_is_an_interrupted_run(run: RunDirectory, text: str) -> None:
    (run.path / "status.json").write_text(text)
    assert run.status().phase == "interrupted"


def test_the_status_is_never_seen_half_written(run: RunDirectory) -> None:
    writer = StatusWriter(run, "sft", interval=0.001)
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(json.loads((run.path / "status.json").read_text())["stage"])

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(300):
        writer.update(step=step)
    done.set()
    reader.join()
    writer.close()
    assert set(seen) == {"sft"}
    assert run.status().step == 299
    assert [path.name for path in run.path.iterdir() if "partial" in path.name] == []


def test_the_heartbeat_goes_on_without_steps(run: RunDirectory) -> None:
    writer = StatusWriter(run, "sft", interval=0.01)
    first = run.status().heartbeat
    time.sleep(0.2)
    writer.close()
    assert run.status().heartbeat > first


def test_a_torn_last_line_is_left_out_and_the_next_line_is_whole(run: RunDirectory) -> None:
    run.metrics_file.write_bytes(b'{"step": 1, "loss": 1}\n{"step": 2, "lo')
    assert [line["step"] for line in run.metrics()] == [1]
    append_lines(run.metrics_file, [{"step": 2, "loss": 2}])
    assert [line["loss"] for line in run.metrics()] == [1, 2]


def test_lines_that_are_no_records_are_left_out(run: RunDirectory) -> None:
    run.metrics_file.write_bytes(b'[1]\n\xff\xfe\n{"step": "x"}\n{"step": 1}\n\n')
    assert run.metrics() == [{"step": 1}]


def test_a_resumed_run_has_every_step_once(run: RunDirectory) -> None:
    append_lines(run.metrics_file, [{"step": step} for step in range(1, 8)])
    for step in (1, 5, 7):
        append_lines(run.completions_file(step), [{"step": step}])
        run.evaluation_file(step).write_text("{}")
        (run.path / f"checkpoint-{step}").mkdir()
    run.forget_after(5)
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4, 5]
    assert run.completion_steps() == run.evaluation_steps() == [1, 5]
    assert not (run.path / "checkpoint-7").exists()


def test_a_folder_that_may_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--run-dir"):
        RunDirectory(tmp_path / "file" / "run").create()


def make_checkpoint(path: Path, step: int) -> None:
    path.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("data.pkl", "x" * 100)


def test_checkpoints_are_listed_in_the_order_of_their_steps(run: RunDirectory) -> None:
    for step in (10, 2, 100):
        make_checkpoint(run.path / f"checkpoint-{step}", step)
    assert [path.name for path in run.checkpoints()] == ["checkpoint-2", "checkpoint-10", "checkpoint-100"]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "trainer_state.json", "optimizer.pt", "scheduler.pt"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_checkpoint_with_a_damaged_file_does_not_count(run: RunDirectory, name: str, damage: str) -> None:
    path = run.path / "checkpoint-1"
    make_checkpoint(path, 1)
    assert is_whole_checkpoint(path)
    if damage == "cut":
        (path / name).write_bytes((path / name).read_bytes()[:-4])
    else:
        (path / name).unlink()
    assert not is_whole_checkpoint(path)
    assert run.checkpoints() == []
