"""The run directory: the whole truth about a run, in files that only its trainer writes.

Readers hold no state and forgive what a crash leaves behind: a torn last line, a status that still says "training"
though the process is gone or its pid now belongs to another. The layout is frozen in DESIGN.md; nothing here loads
torch.
"""

import json
import os
import shutil
import struct
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import psutil

from medgrpo.errors import RunError

QUEUED = "queued"
ACTIVE = ("preparing", "loading", "generating", "training", "evaluating", "saving")
RESERVE = 16_384
"""Bytes; a status takes less."""
ENDED = ("finished", "stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        phase: one of `ACTIVE` or `ENDED`, or `QUEUED`; "interrupted" and "queued" are never written, readers conclude
            them.
        stage: "sft" or "grpo".
        step, total: optimiser steps done and planned.
        pid, created: the trainer's process and when it was started, in seconds since 1970.
        identity: what tells this process from a later one with its pid, even after a change of the clock.
        attempt: launches so far, the first being 1; `logs/attempt_N.log` belongs to it.
        started, heartbeat: first launch and latest sign of life, in seconds since 1970.
        error: one sentence if the run failed or was interrupted.
        notes: sentences worth knowing, such as how many prompts were too long.
    """

    phase: str = "preparing"
    stage: str = ""
    step: int = 0
    total: int = 0
    pid: int = 0
    created: float = 0.0
    identity: str = ""
    attempt: int = 0
    started: float = 0.0
    heartbeat: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def active(self) -> bool:
        return self.phase in ACTIVE


@dataclass(frozen=True)
class RunDirectory:
    """Paths and readers of one run."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def stop_file(self) -> Path:
        return self.path / "control" / "stop"

    @property
    def launch_file(self) -> Path:
        """Which process a run manager started, and as which attempt; written by the manager, not by the trainer."""
        return self.path / "control" / "launch.json"

    @property
    def queue_file(self) -> Path:
        """Exists while the run waits for its turn."""
        return self.path / "control" / "queued.json"

    @property
    def cancel_file(self) -> Path:
        """Exists once somebody wanted the run to end, saved or not."""
        return self.path / "control" / "cancel.json"

    def completions_file(self, step: int) -> Path:
        """One file a step: the inspector reads the step it shows and no more."""
        return self.path / "completions" / f"{step:06d}.jsonl"

    def evaluation_file(self, step: int) -> Path:
        return self.path / "evals" / f"{step:06d}.json"

    def log_file(self, attempt: int) -> Path:
        return self.path / "logs" / f"attempt_{attempt}.log"

    def last_attempt(self) -> int:
        """Number of the newest launch, also of one that has written no status yet; 0 if there was none."""
        return max(self.written_status().attempt, _whole(read_record(self.launch_file).get("attempt")))

    def create(self) -> None:
        """Make the folders. Raises RunError if that is not permitted."""
        try:
            for name in ("completions", "evals", "logs", "control"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"The run directory {self.path} cannot be made ({error.strerror}): give another --run-dir."
            ) from None

    def status(self) -> Status:
        """What the run is doing. The identity of its process decides whether it lives, never the age of a heartbeat."""
        status = self.written_status()
        launch = read_record(self.launch_file)
        if _whole(launch.get("attempt")) > status.attempt:
            status = self._launched(status, launch)
        elif not (self.path / "status.json").exists():
            status = replace(status, phase="stopped", error="it never began; resume starts it")
        elif status.active and not is_alive(status.pid, status.created, status.identity):
            status = self._gone(status)
        if not status.active and self.queue_file.exists():
            return replace(status, phase=QUEUED, error="")
        return status

    def _launched(self, status: Status, launch: Mapping[str, Any]) -> Status:
        """A process was started and has not written its status yet: Python is loading, or it died before it could."""
        started = status.started or _number(launch.get("time"))
        process = (_whole(launch.get("pid")), _number(launch.get("created")), str(launch.get("identity", "")))
        maker = (_whole(launch.get("by")), 0.0, str(launch.get("by_identity", "")))
        status = replace(status, phase="preparing", started=started, heartbeat=started, error="")
        status = replace(status, pid=process[0], created=process[1], identity=process[2])
        if is_alive(*(process if process[0] else maker)):
            return status
        if self.cancel_file.exists():
            return self._gone(status)
        last = _last_line(self.log_file(_whole(launch.get("attempt"))))
        error = str(launch.get("error", "")) or last or "the process ended before it began; resume starts it again"
        return replace(status, phase="failed", error=error)

    def _gone(self, status: Status) -> Status:
        if self.cancel_file.exists():
            return replace(status, phase="stopped", error="it was cancelled before it could save; resume it")
        error = f"the process that trained (pid {status.pid}) ended without a word; resume it from its checkpoint"
        return replace(status, phase="interrupted", error=error)

    def written_status(self) -> Status:
        """`status.json` as it stands; a default one if there is none yet or it cannot be read."""
        raw = read_record(self.path / "status.json")
        known = {each.name for each in fields(Status)}
        try:
            status = Status(**{key: value for key, value in raw.items() if key in known})
            counts: dict[str, Any] = {name: int(getattr(status, name)) for name in ("step", "total", "pid", "attempt")}
            times: dict[str, Any] = {name: float(getattr(status, name)) for name in ("created", "started", "heartbeat")}
            return replace(status, notes=tuple(map(str, status.notes)), **counts, **times)
        except (TypeError, ValueError, OverflowError):
            return Status()

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order; of a step logged twice only the later one."""
        by_step = {line["step"]: line for line in read_lines(self.metrics_file) if isinstance(line.get("step"), int)}
        return [by_step[step] for step in sorted(by_step)]

    def completions(self, step: int) -> list[dict[str, Any]]:
        return list(read_lines(self.completions_file(step)))

    def completion_steps(self) -> list[int]:
        return _numbered(self.path / "completions", ".jsonl")

    def evaluation(self, step: int) -> dict[str, Any]:
        """The held-out answers at a step; empty if there are none."""
        return read_record(self.evaluation_file(step))

    def evaluation_steps(self) -> list[int]:
        return _numbered(self.path / "evals", ".json")

    def checkpoints(self) -> list[Path]:
        """Checkpoints that are whole, oldest first."""
        found = {
            int(path.name.removeprefix("checkpoint-")): path
            for path in self.path.glob("checkpoint-*")
            if _is_numbered(path)
        }
        return [found[step] for step in sorted(found) if is_whole_checkpoint(found[step])]

    def forget_after(self, step: int) -> None:
        """Drop what was recorded after `step`, so that a resumed run writes each step once."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.metrics_file, text)
        for recorded in self.completion_steps():
            if recorded > step:
                self.completions_file(recorded).unlink()
        for evaluated in self.evaluation_steps():
            if evaluated > step:
                self.evaluation_file(evaluated).unlink()
        for path in self.path.glob("checkpoint-*"):
            if _is_numbered(path) and int(path.name.removeprefix("checkpoint-")) > step:
                shutil.rmtree(path)


class StatusWriter:
    """The one writer of `status.json`; each write replaces the file as a whole. A thread keeps the heartbeat.

    A little space is kept in reserve, so that even on a full disk the last word of a run finds room.
    """

    def __init__(self, run: RunDirectory, stage: str, interval: float = 5.0) -> None:
        earlier = run.written_status()
        pid = os.getpid()
        now = time.time()
        self._file = run.path / "status.json"
        self._reserve = run.path / "control" / "reserve"
        self._reserve.parent.mkdir(exist_ok=True)
        self._reserve.write_bytes(b"\xff" * RESERVE)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._status = Status(
            stage=stage,
            step=earlier.step,
            pid=pid,
            created=psutil.Process(pid).create_time(),
            identity=process_identity(pid),
            attempt=earlier.attempt + 1,
            started=earlier.started or now,
        )
        self.update()
        self._thread = threading.Thread(target=self._beat, args=(interval,), name="heartbeat", daemon=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        return self._status

    def update(self, **changes: Any) -> None:
        """Change fields of the status and write it."""
        with self._lock:
            self._status = replace(self._status, heartbeat=time.time(), **changes)
            text = json.dumps(asdict(self._status), indent=1)
            try:
                write_atomically(self._file, text)
            except OSError:
                if changes.get("phase") not in ENDED:
                    raise
                self._reserve.unlink(missing_ok=True)
                write_atomically(self._file, text)

    def note(self, sentence: str) -> None:
        self.update(notes=(*self._status.notes, sentence))

    def close(self) -> None:
        """End the heartbeat; the status stays as last written."""
        self._closed.set()
        self._thread.join()
        self._reserve.unlink(missing_ok=True)

    def _beat(self, interval: float) -> None:
        while not self._closed.wait(interval):
            try:
                self.update()
            except OSError:  # a full disk must not end the run; the next beat tries again
                continue


def process_identity(pid: int) -> str:
    """A text that no other process on this machine shares: boot and start tick on Linux, else the creation time."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        start_ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{boot}/{start_ticks}"
    except (OSError, IndexError):
        return f"{psutil.Process(pid).create_time():.1f}" if psutil.pid_exists(pid) else ""


def is_alive(pid: int, created: float, identity: str = "") -> bool:
    """Whether the process started at `created` still runs as `pid`; a later one with its number does not count."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process_identity(pid) == identity if identity else abs(process.create_time() - created) < 2.0
    except (psutil.Error, ValueError, OverflowError):
        return False


def is_whole_checkpoint(path: Path) -> bool:
    """Whether the Trainer finished writing this checkpoint: every file is there and none is cut off."""
    weights = [file for file in (path / "adapter_model.safetensors", path / "model.safetensors") if file.is_file()]
    state = read_record(path / "trainer_state.json")
    archives = (path / "optimizer.pt", path / "scheduler.pt")
    return (
        bool(weights)
        and isinstance(state.get("global_step"), int)
        and all(is_whole_safetensors(file) for file in weights)
        and all(file.is_file() and zipfile.is_zipfile(file) for file in archives)
    )


def is_whole_safetensors(path: Path) -> bool:
    """The header of a safetensors file says where its last tensor ends."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(path.stat().st_size == 8 + length + max(ends, default=0))
    except (OSError, struct.error, ValueError, KeyError, TypeError, MemoryError):
        return False


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of an append-only file; a torn line is left out, a missing file is empty."""
    try:
        text = path.read_bytes()
    except OSError:
        return
    for line in text.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def append_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append records as one write; a torn line left by a killed writer is ended first."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                text = "\n" + text
        file.write(text.encode("utf-8", "replace"))


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:  # such as a full disk, which the partial file would keep full
        partial.unlink(missing_ok=True)
        raise


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a small file; empty if there is none or it is torn."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _last_line(path: Path) -> str:
    """The last line that says something; "" if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _numbered(folder: Path, suffix: str) -> list[int]:
    try:
        stems = [name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix)]
    except OSError:
        return []
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _is_numbered(path: Path) -> bool:
    return path.name.removeprefix("checkpoint-").isdecimal()
