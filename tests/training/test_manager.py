"""The run manager: one run at a time, a queue on disk, stop, cancel, resume, whoever looks and whoever dies."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medgrpo.errors import RunError, SettingsError
from medgrpo.training import launching
from medgrpo.training.config import RunConfig, Training, parse_config
from medgrpo.training.manager import RunInfo, RunManager
from medgrpo.training.run_directory import is_alive

from .patient_trainer import ROOT, install


def config(steps: int = 4, save_steps: int = 2, **more: object) -> RunConfig:
    return parse_config({"training": {"max_steps": steps, "save_steps": save_steps}, **more})


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunManager]:
    """A manager whose trainers are patient ones; what still lives at the end is ended."""
    monkeypatch.setattr(launching, "ROOT", install(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    made = RunManager(tmp_path / "runs", term_after=0.5, kill_after=1.5)
    yield made
    for run in made.runs():
        if run.position:
            made.stop(run.id)
    for run in made.runs():
        status = made.directory(run.id).status()
        if status.active:
            launching.send(status, signal.SIGKILL)
    settle(lambda: not any(run.active for run in made.runs()))
    settle(lambda: not [each for each in threading.enumerate() if each.name.startswith(("await-", "cancel-"))])


def settle(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not come true"
        time.sleep(0.03)


def wait(manager: RunManager, run_id: str, *phases: str) -> RunInfo:
    settle(lambda: manager.info(run_id).phase in phases)
    return manager.info(run_id)


def test_a_run_starts_detached_trains_and_finishes(manager: RunManager) -> None:
    begun = manager.start(config(), "first")
    assert begun.phase == "preparing"
    assert begun.id.endswith("-first")
    done = wait(manager, begun.id, "finished")
    assert (done.step, done.total, done.checkpoints, done.error) == (4, 4, (2, 4), "")
    assert (done.stage, done.model, done.source, done.profile) == ("grpo", "smollm2-135m", "casebook", "medgrpo")
    run = manager.directory(begun.id)
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4]
    assert "step 4" in run.log_file(1).read_text()
    launched = json.loads(run.launch_file.read_text())
    assert launched["command"] == manager.command(config(), begun.id)
    assert launched["pid"] == run.written_status().pid


def test_the_command_is_a_list_that_a_person_could_type(manager: RunManager) -> None:
    command = manager.command(config(stage="sft"), "X")
    assert command[:5] == [sys.executable, "-m", "train.sft", "--run-dir", str(manager.folder / "X")]
    assert command[5:] == ["--config", str(manager.folder / "X" / "config.yaml")]


def test_the_trainer_has_a_session_of_its_own_and_no_pipe(manager: RunManager) -> None:
    run = manager.start(config(steps=200))
    pid = manager.directory(run.id).status().pid
    assert os.getsid(pid) == pid != os.getsid(0)
    targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)}
    assert targets == {"/dev/null", str(manager.directory(run.id).log_file(1))}


def test_a_second_run_waits_and_is_started_by_the_trainer_that_ends(manager: RunManager) -> None:
    first, second, third = (manager.start(config(), name) for name in ("a", "b", "c"))
    assert [run.phase for run in (first, second, third)] == ["preparing", "queued", "queued"]
    assert (second.position, third.position) == (1, 2)
    run = manager.directory(second.id)
    settle(lambda: run.launch_file.exists())  # nobody looked through a manager
    assert json.loads(run.launch_file.read_text())["by"] != first
    wait(manager, third.id, "finished")
    assert wait(manager, second.id, "finished").started <= manager.info(third.id).started


def test_whoever_looks_moves_the_queue_on(manager: RunManager) -> None:
    first = manager.start(config(steps=500), "a")
    second = manager.start(config(), "b")
    status = manager.directory(first.id).status()
    os.kill(status.pid, signal.SIGKILL)
    settle(lambda: RunManager(manager.folder).runs() and manager.info(second.id).phase != "queued")
    assert manager.info(first.id).phase in ("interrupted", "failed")
    wait(manager, second.id, "finished")


def test_a_queue_keeps_its_order_when_the_clock_jumps(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.start(config(steps=500), "a")
    second = manager.start(config(), "b")
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "strftime", lambda *_: "20010909-014640")
    third = manager.start(config(), "c")
    assert (manager.info(second.id).position, third.position) == (1, 2)


def test_stop_takes_a_waiting_run_out_of_the_queue(manager: RunManager) -> None:
    manager.start(config(steps=500), "a")
    second = manager.start(config(), "b")
    third = manager.start(config(), "c")
    manager.stop(second.id)
    assert manager.info(second.id).phase == "stopped"
    assert manager.info(third.id).position == 1
    with pytest.raises(RunError, match="stopped already"):
        manager.stop(second.id)
    assert manager.resume(second.id).position == 2


def test_stop_saves_and_resume_goes_on_from_there(manager: RunManager) -> None:
    run = manager.start(config(steps=60, save_steps=50), "long")
    settle(lambda: manager.info(run.id).step >= 3)
    manager.stop(run.id)
    stopped = wait(manager, run.id, "stopped")
    assert stopped.checkpoints == (stopped.step,)
    assert manager.resume(run.id).phase == "preparing"
    done = wait(manager, run.id, "finished")
    assert done.step == 60
    directory = manager.directory(run.id)
    assert [line["step"] for line in directory.metrics()] == list(range(1, 61))
    assert directory.log_file(2).is_file()
    with pytest.raises(RunError, match="init_adapter"):
        manager.resume(run.id)


def test_a_stop_between_start_and_first_word_is_not_lost(manager: RunManager) -> None:
    run = manager.start(config(steps=500))
    manager.stop(run.id)
    assert wait(manager, run.id, "stopped").step <= 1


def test_cancel_returns_at_once_and_asks_before_it_kills(manager: RunManager) -> None:
    patient = RunManager(manager.folder, term_after=30, kill_after=60)
    run = patient.start(config(steps=500))
    settle(lambda: patient.info(run.id).step >= 1)
    began = time.monotonic()
    patient.cancel(run.id)
    assert time.monotonic() - began < 5
    stopped = wait(patient, run.id, "stopped")
    assert stopped.checkpoints[-1] == stopped.step  # it had time to save


def test_cancel_kills_a_trainer_that_does_not_listen_and_only_its_group(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATIENT_DEAF", "1")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = manager.start(config(steps=500))
    settle(lambda: manager.info(run.id).step >= 3)
    manager.cancel(run.id)
    manager.cancel(run.id)  # twice changes nothing
    stopped = wait(manager, run.id, "stopped")
    assert "cancelled" in stopped.error
    assert stopped.checkpoints
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    monkeypatch.delenv("PATIENT_DEAF")
    assert manager.resume(run.id).phase == "preparing"


def test_another_process_goes_on_with_a_cancel(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATIENT_DEAF", "1")
    run = manager.start(config(steps=500))
    settle(lambda: manager.info(run.id).step >= 1)
    directory = manager.directory(run.id)
    directory.cancel_file.write_text(json.dumps({"asked": time.monotonic() - 100}))  # by a server that is gone
    RunManager(manager.folder).runs()
    assert wait(manager, run.id, "stopped").error


def _start(
    runs: str, root: str, gate: "multiprocessing.synchronize.Event", found: "multiprocessing.Queue[str]"
) -> None:
    launching.ROOT = Path(root)
    gate.wait()
    found.put(RunManager(Path(runs)).start(config(steps=500), "race").phase)
    time.sleep(1)


def test_two_starts_at_once_from_two_processes_give_one_active_run(manager: RunManager) -> None:
    context = multiprocessing.get_context("spawn")
    gate, found = context.Event(), context.Queue()
    arguments = (str(manager.folder), str(launching.ROOT), gate, found)
    starters = [context.Process(target=_start, args=arguments) for _ in range(4)]
    for starter in starters:
        starter.start()
    time.sleep(1.5)
    gate.set()
    phases = [found.get(timeout=30) for _ in starters]
    assert sorted(phases) == ["preparing", "queued", "queued", "queued"]
    assert sorted(run.position for run in manager.runs()) == [0, 1, 2, 3]
    for starter in starters:
        starter.join()


def test_two_starts_at_once_from_two_tabs_give_one_active_run(manager: RunManager) -> None:
    found: list[str] = []
    tabs = [threading.Thread(target=lambda: found.append(manager.start(config(steps=500)).phase)) for _ in range(8)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert sorted(found) == ["preparing", *["queued"] * 7]
    assert len({run.id for run in manager.runs()}) == 8


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "a b", "x" * 61, "ä", "-x", "a\n"])
def test_a_name_that_leaves_the_folder_is_refused_and_nothing_is_made(manager: RunManager, name: str) -> None:
    if name == "a\n":  # white space around a name is nobody's intention
        assert manager.start(config(), name).id.endswith("-a")
        return
    with pytest.raises(RunError, match="run name"):
        manager.start(config(), name)
    assert not manager.folder.exists() or not [path for path in manager.folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("run_id", ["../runs/x", "..", ".", "", "/etc", "a/../b", ".cache", "none"])
def test_an_id_that_is_none_is_refused(manager: RunManager, run_id: str) -> None:
    (manager.folder / ".cache").mkdir(parents=True)
    with pytest.raises(RunError, match="runs"):
        manager.info(run_id)


def test_a_configuration_that_cannot_be_used_starts_nothing(manager: RunManager) -> None:
    broken = RunConfig(training=Training(max_steps=-1))
    with pytest.raises(SettingsError, match="max_steps"):
        manager.start(broken)
    assert not manager.folder.exists()


def test_without_the_training_programs_it_says_so_and_leaves_nothing(
    manager: RunManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launching, "ROOT", tmp_path / "nowhere")
    with pytest.raises(RunError, match="checkout"):
        manager.start(config())
    assert manager.runs() == []


def test_a_crash_is_one_sentence(manager: RunManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATIENT_CRASH", "the dog ate it")
    failed = wait(manager, manager.start(config()).id, "failed")
    assert "the dog ate it" in failed.error
    assert failed.resumable


def test_a_trainer_that_dies_before_its_first_word_is_failed_with_the_last_line_of_its_log(
    manager: RunManager,
) -> None:
    (launching.ROOT / "train" / "grpo.py").write_text("import nothing_of_that_name\n")
    failed = wait(manager, manager.start(config()).id, "failed")
    assert "nothing_of_that_name" in failed.error


def test_no_zombie_stays(manager: RunManager) -> None:
    run = manager.start(config(steps=1))
    status = manager.directory(run.id).status()
    wait(manager, run.id, "finished")
    settle(lambda: not os.path.exists(f"/proc/{status.pid}"))
    assert not is_alive(status.pid, status.created, status.identity)


def test_the_environment_of_the_next_run_is_not_that_of_a_library(manager: RunManager) -> None:
    """vLLM and TRL set ranks and ports in the process; a run that this process starts must not inherit them."""
    program = launching.ROOT / "train" / "grpo.py"
    program.write_text(program.read_text().replace("first = int", 'os.environ["MASTER_PORT"] = "1"\n    first = int'))
    manager.start(config(steps=30), "a")
    second = manager.start(config(steps=500), "b")
    settle(lambda: manager.info(second.id).step > 0)
    environment = Path(f"/proc/{manager.directory(second.id).status().pid}/environ").read_bytes()
    assert b"MASTER_PORT=1" not in environment


def test_importing_the_manager_loads_no_torch() -> None:
    code = "import sys, medgrpo.training.manager; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
