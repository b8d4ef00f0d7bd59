"""The run manager: starts runs as processes of their own, one at a time, and says what became of each.

It keeps nothing in memory: everything is read from the run directories, so any number of managers, in servers and on
command lines, agree. A run that cannot start yet waits in a queue on disk, in the order of its tickets; whoever looks
moves the queue on. A lock file makes two starts at once safe.
"""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgrpo.errors import RunError
from medgrpo.training.config import RunConfig, parse_config, write_config
from medgrpo.training.launching import arguments, ask_to_stop, cancel_sent_file, launch, locked, no_room, send
from medgrpo.training.run_directory import (
    QUEUED,
    RunDirectory,
    read_record,
    write_atomically,
)
from medgrpo.training.run_info import RunInfo, info_of, is_run, made

__all__ = ["RunInfo", "RunManager"]

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
TERM_AFTER, KILL_AFTER = 15.0, 45.0
"""Seconds after which a cancelled run gets SIGTERM, and SIGKILL."""


class RunManager:
    """All runs of one folder.

    Args:
        runs: the folder; made with the first run.
        environ: of the trainers; None takes this process's.
        term_after, kill_after: seconds after which a cancelled run gets SIGTERM, and SIGKILL.
    """

    def __init__(
        self,
        runs: Path,
        environ: Mapping[str, str] | None = None,
        term_after: float = TERM_AFTER,
        kill_after: float = KILL_AFTER,
    ) -> None:
        self._runs = Path(runs)
        self._environ = environ
        self._term_after = term_after
        self._kill_after = kill_after

    @property
    def folder(self) -> Path:
        return self._runs

    def runs(self) -> list[RunInfo]:
        """Every run, newest first. Moves the queue on, and goes on with a cancel that another process began."""
        directories = self._directories()
        if any(run.queue_file.exists() or run.cancel_file.exists() for run in directories):
            self.move_on()
        places = {path: place for place, path in enumerate(_in_queue(directories), 1)}
        found = [info_of(run, places.get(run.path, 0)) for run in directories]
        return sorted(found, key=lambda info: (info.started or made(info.path), info.id), reverse=True)

    def info(self, run_id: str) -> RunInfo:
        """One run. Raises RunError if there is none of this name."""
        run = self.directory(run_id)
        queue = _in_queue(self._directories()) if run.queue_file.exists() else []
        return info_of(run, queue.index(run.path) + 1 if run.path in queue else 0)

    def directory(self, run_id: str) -> RunDirectory:
        """The folder of a run. Raises RunError if there is none of this name, or the name leaves the folder of runs."""
        if not SAFE_NAME.fullmatch(run_id):
            raise RunError(f"{run_id!r} is not the name of a run: take one that `python -m medgrpo runs` lists.")
        run = RunDirectory(self._runs / run_id)
        if not is_run(run.path):
            raise RunError(
                f"There is no run {run_id!r} under {self._runs}: `python -m medgrpo runs` lists what there is."
            )
        return run

    def active(self) -> RunInfo | None:
        """The run that is being trained."""
        return next((info_of(run) for run in self._directories() if run.status().active), None)

    def command(self, config: RunConfig, run_id: str = "RUN") -> list[str]:
        """The arguments that `start` executes."""
        return arguments(config.stage, self._runs.absolute() / run_id, resume=False)

    def start(self, config: RunConfig, name: str = "") -> RunInfo:
        """Start a run, or put it in the queue if another is being trained.

        Args:
            name: becomes part of its id, after the time.

        Raises:
            SettingsError: the configuration cannot be used.
            RunError: the name cannot be used, or nothing can be written; then nothing is left behind.
        """
        config = parse_config(config.as_mapping())
        name = name.strip() or usual_name(config)
        if not SAFE_NAME.fullmatch(name) or len(name) > 60:
            raise RunError(
                f"The run name {name!r} cannot be used: take up to 60 letters, digits, '.', '_' and '-', the first a "
                "letter or digit."
            )
        with locked(self._runs):
            run = _new_folder(self._runs, name)
            try:
                run.create()
                write_config(config, run.config_file)
                self._begin_or_queue(run, config.stage, resume=False)
            except (OSError, RunError) as error:
                shutil.rmtree(run.path, ignore_errors=True)
                raise RunError(no_room(self._runs, error) if isinstance(error, OSError) else str(error)) from None
        self.move_on()
        return self.info(run.path.name)

    def resume(self, run_id: str) -> RunInfo:
        """Go on from the last whole checkpoint, or from step 0 if there is none. Queued if another run is active.

        Raises:
            RunError: it is being trained, waits already, or has finished.
        """
        run = self.directory(run_id)
        with locked(self._runs):
            info = self.info(run_id)
            if not info.resumable:
                raise RunError(
                    f"{run_id} is {info.phase}: there is nothing to resume. "
                    + (
                        "Start a new run with init_adapter: its adapter/."
                        if info.phase == "finished"
                        else "Stop it first."
                    )
                )
            if not info.stage:
                raise RunError(f"{run.config_file} cannot be read: put it back, or start a new run.")
            try:
                self._begin_or_queue(run, info.stage, resume=True)
            except OSError as error:
                raise RunError(no_room(self._runs, error)) from None
        self.move_on()
        return self.info(run_id)

    def stop(self, run_id: str) -> None:
        """Ask for the end after the next step; the run saves and finishes. A queued run leaves the queue.

        Raises:
            RunError: it has ended already.
        """
        run = self.directory(run_id)
        phase = run.status().phase
        if phase == QUEUED:
            with locked(self._runs):  # nobody starts it in this moment
                if run.status().phase == QUEUED:
                    run.queue_file.unlink(missing_ok=True)
                    return
        if not run.status().active:
            raise RunError(f"{run_id} is {phase} already: there is nothing to stop.")
        ask_to_stop(run)

    def cancel(self, run_id: str) -> None:
        """End a run, saved or not: it is asked, then gets SIGTERM, then SIGKILL. Returns at once.

        Raises:
            RunError: it has ended already.
        """
        self.stop(run_id)
        run = self.directory(run_id)
        if not run.status().active:
            return
        asked = {"asked": time.monotonic()}
        try:
            if not run.cancel_file.exists():
                write_atomically(run.cancel_file, json.dumps(asked))
        except OSError:  # a full disk: the thread below remembers
            pass
        threading.Thread(target=self._follow_cancel, args=(run, asked), name=f"cancel-{run_id}", daemon=True).start()

    def move_on(self) -> None:
        """Start the next run of the queue if none is being trained, and go on with cancels. Never raises RunError."""
        try:
            directories = self._directories()
            for run in directories:
                if run.cancel_file.exists() and run.status().active:
                    self._escalate(run, read_record(run.cancel_file))
            if not _in_queue(directories):
                return
            with locked(self._runs):
                directories = self._directories()
                if any(run.status().active for run in directories):
                    return
                for path in _in_queue(directories):
                    run = RunDirectory(path)
                    waiting = read_record(run.queue_file)
                    try:
                        self._launch(run, str(waiting.get("stage", "grpo")), bool(waiting.get("resume")))
                    except RunError:  # it is marked as failed; the next one has its turn
                        continue
                    return
        except RunError:
            return

    def _begin_or_queue(self, run: RunDirectory, stage: str, resume: bool) -> None:
        """Under the lock: launch, or take the next ticket. Those who wait already come first."""
        others = [other for other in self._directories() if other.path != run.path]
        queue = _in_queue(others)
        if not queue and not any(other.status().active for other in others):
            self._launch(run, stage, resume)
            return
        last = max((_ticket(RunDirectory(path)) for path in queue), default=0)
        run.queue_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(run.queue_file, json.dumps({"ticket": last + 1, "stage": stage, "resume": resume}))

    def _launch(self, run: RunDirectory, stage: str, resume: bool) -> None:
        launch(run, stage, resume, self._environ, self.move_on)

    def _follow_cancel(self, run: RunDirectory, asked: Mapping[str, Any]) -> None:
        while run.status().active:
            self._escalate(run, asked)
            time.sleep(0.2)

    def _escalate(self, run: RunDirectory, asked: Mapping[str, Any]) -> None:
        """SIGTERM once its time has come, SIGKILL later. A second SIGTERM would end it at once, so it is sent once."""
        waited = time.monotonic() - float(
            asked.get("asked", 0.0)
        )  # this clock does not jump, and all processes share it
        termed = cancel_sent_file(run)
        status = run.status()
        if waited >= self._kill_after:
            send(status, signal.SIGKILL)
        elif waited >= self._term_after and not termed.exists():
            try:
                os.close(os.open(termed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                return
            except OSError:
                pass
            send(status, signal.SIGTERM)

    def _directories(self) -> list[RunDirectory]:
        try:
            return [RunDirectory(path) for path in sorted(self._runs.iterdir()) if is_run(path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(
                f"{self._runs} cannot be read ({error.strerror}): set MEDGRPO_RUNS to another folder."
            ) from None


def usual_name(config: RunConfig) -> str:
    """What a run is called that was given no name."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.model).name).strip(".-_")
    return f"{model[:50] or 'run'}-{config.stage}"


def _in_queue(directories: list[RunDirectory]) -> list[Path]:
    """Folders of the waiting runs, the next one first."""
    waiting = [run for run in directories if run.queue_file.exists() and run.status().phase == QUEUED]
    return [run.path for run in sorted(waiting, key=_ticket)]


def _ticket(run: RunDirectory) -> int:
    ticket = read_record(run.queue_file).get("ticket")
    return ticket if isinstance(ticket, int) else 0


def _new_folder(runs: Path, name: str) -> RunDirectory:
    """A folder that nobody had: the time, the name, and a number if that is not enough."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1, 1000):
        path = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(no_room(runs, error)) from None
        return RunDirectory(path)
    raise RunError(f"There are a thousand runs named {stem} already: give another name.")
