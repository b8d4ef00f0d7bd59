"""A trainer as a process of its own: how it is started, told apart, asked to end, and ended.

It is started with an argument list (never a shell) in a session of its own, with its output in a file, so neither the
end of the page nor that of the server reaches it. Signals go to that process, known by pid and identity, and to its
own process group, and to nothing else.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from medgrpo.errors import RunError
from medgrpo.training.run_directory import (
    RunDirectory,
    Status,
    is_alive,
    process_identity,
    read_record,
    write_atomically,
)

ROOT = Path(__file__).parents[2]
"""Where the programs under train/ stand."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One starter at a time, over threads and processes; the lock goes with its holder, however that ends.

    Raises:
        RunError: the folder cannot be written to.
    """
    import fcntl  # not on Windows, where the page can still be read

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RunError(no_room(folder, error)) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def no_room(folder: Path, error: OSError) -> str:
    """Why nothing can be written under `folder`, and what to do."""
    if error.errno == errno.ENOSPC:
        return f"The disk of {folder} is full: free some space, or set MEDGRPO_RUNS to a folder on another disk."
    return f"{folder} cannot be written to ({error.strerror}): set MEDGRPO_RUNS to a folder where you may write."


def arguments(stage: str, run: Path, resume: bool) -> list[str]:
    """What is executed, word by word."""
    config = ["--resume"] if resume else ["--config", str(run / "config.yaml")]
    return [sys.executable, "-m", f"train.{stage}", "--run-dir", str(run), *config]


def launch(
    run: RunDirectory,
    stage: str,
    resume: bool,
    environ: Mapping[str, str] | None = None,
    ended: Callable[[], None] = lambda: None,
) -> None:
    """Start the trainer of a run; returns once it has its process. The caller holds the lock.

    The launch is written down before the process exists and again when it does, so that every reader knows the run is
    about to begin.

    Args:
        ended: called in a thread of this process when the trainer is gone.

    Raises:
        RunError: it cannot be started; the run says so too.
    """
    if not (ROOT / "train" / f"{stage}.py").is_file():
        raise RunError(f"The training programs are not at {ROOT / 'train'}: train from a checkout of the repository.")
    path = run.path.absolute()
    attempt = run.written_status().attempt + 1
    command = arguments(stage, path, resume)
    record: dict[str, object] = {
        "attempt": attempt,
        "time": time.time(),
        "command": command,
        "by": os.getpid(),
        "by_identity": process_identity(os.getpid()),
    }
    try:
        run.create()
        forget_requests(run)
        write_atomically(run.launch_file, json.dumps(record, indent=1))
        run.queue_file.unlink(missing_ok=True)
        process = _spawn(command, run.log_file(attempt), path.parent, environ)
    except OSError as error:
        record["error"] = no_room(run.path, error)
        _write_if_possible(run, record)
        raise RunError(str(record["error"])) from None
    record.update(pid=process.pid, created=_created(process.pid), identity=process_identity(process.pid))
    _write_if_possible(run, record)
    threading.Thread(target=_await, args=(process, ended), name=f"await-{path.name}", daemon=True).start()


def forget_requests(run: RunDirectory) -> None:
    """What was asked of an earlier launch does not concern the next one."""
    for request in (run.stop_file, run.cancel_file, cancel_sent_file(run)):
        request.unlink(missing_ok=True)


def is_launched(run: RunDirectory) -> bool:
    """Whether this process is the one that a manager started, or is about to write down, as the run's next attempt."""
    record = read_record(run.launch_file)
    return record.get("attempt") == run.written_status().attempt + 1 and record.get("pid", os.getpid()) == os.getpid()


def cancel_sent_file(run: RunDirectory) -> Path:
    """Exists once SIGTERM was sent: a second one would end the trainer before it saved."""
    return run.cancel_file.with_name("cancel-sent")


def _spawn(command: list[str], log: Path, runs: Path, environ: Mapping[str, str] | None) -> "subprocess.Popen[bytes]":
    """The process, in a session of its own, with no pipe to anybody."""
    environ = dict(os.environ if environ is None else environ)
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    environ["MEDGRPO_RUNS"] = str(runs)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )


def _await(process: "subprocess.Popen[bytes]", ended: Callable[[], None]) -> None:
    """Fetch the exit code, so that no zombie stays, and say that the trainer is gone."""
    process.wait()
    ended()


def _write_if_possible(run: RunDirectory, record: Mapping[str, object]) -> None:
    try:
        write_atomically(run.launch_file, json.dumps(record, indent=1))
    except OSError:  # the first version of the record stands, and the trainer writes its own status soon
        return


def _created(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def send(status: Status, number: signal.Signals) -> bool:
    """Send a signal to the trainer's own process group; False if it is gone.

    A trainer started by hand from a script shares the script's group; then only the trainer gets it.
    """
    if not is_alive(status.pid, status.created, status.identity):
        return False
    try:
        if os.getpgid(status.pid) == status.pid:
            os.killpg(status.pid, number)
        else:
            os.kill(status.pid, number)
    except ProcessLookupError:
        return False
    return True


def ask_to_stop(run: RunDirectory) -> None:
    """Ask for the end after the next step. On a full disk, where no file can be made, the signal says the same."""
    try:
        run.stop_file.parent.mkdir(parents=True, exist_ok=True)
        run.stop_file.touch()
    except OSError:
        send(run.status(), signal.SIGTERM)
