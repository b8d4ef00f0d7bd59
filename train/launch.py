"""From a command line to a run directory and back to an exit code; what train.sft and train.grpo share.

An error that a person can mend ends as one sentence in `status.json` and on the console, with exit code 2; any other
ends as one sentence, a traceback in the log, and exit code 1. Output goes to the attempt's log file, so that no
reader of a pipe can ever block a run; the console only gets one line a step.
"""

import argparse
import contextlib
import errno
import faulthandler
import functools
import importlib.metadata
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from medgrpo.errors import MedGRPOError, RunError
from medgrpo.settings import Settings
from medgrpo.training.config import RunConfig, Stage, read_config, write_config
from medgrpo.training.launching import forget_requests, is_launched, no_room
from medgrpo.training.manager import RunManager
from medgrpo.training.recording import StopRequest
from medgrpo.training.run_directory import RunDirectory, Status, StatusWriter
from train.processes import is_first, leave, told_by_first, without_launcher

PACKAGES = ("torch", "transformers", "trl", "peft", "vllm", "unsloth")


class StopAsked(Exception):
    """Somebody asked for the run to end before it began to train."""


@dataclass(frozen=True)
class Attempt:
    """One launch of a run. Where it has several processes, only the first one's says and notes anything.

    Attributes:
        run, status, stop: of this run.
        cache: folder for converted base models, shared by all runs.
        checkpoint: where to go on from; None starts at step 0.
        skip_audit: train although the rewards fail their audit.
        console: where a person may be watching; None if that is the log itself.
    """

    run: RunDirectory
    status: "StatusWriter | NoStatus"
    stop: StopRequest
    cache: Path
    checkpoint: Path | None
    skip_audit: bool
    console: TextIO | None = None

    def enter(self, phase: str) -> None:
        """Begin a phase. Raises StopAsked if the run was asked to end."""
        if self.stop_asked():
            raise StopAsked
        self.status.update(phase=phase)
        self.say(phase)

    def stop_asked(self) -> bool:
        """Whether the run was asked to end, by the first process's word; each process has to ask."""
        return told_by_first(self.stop.requested())

    def note(self, sentence: str) -> None:
        """Something worth knowing about this run, kept in its status."""
        self.status.note(sentence)
        self.say(sentence)

    def say(self, text: str) -> None:
        """A line for the log and the console; a console that went away, or a full disk, does not matter."""
        if not is_first():
            return
        with contextlib.suppress(OSError):
            print(text, flush=True)
        try:
            if self.console is not None:
                print(text, file=self.console, flush=True)
        except (OSError, ValueError):
            return


class NoStatus:
    """The status of the processes beside the first one: nobody reads it."""

    def __init__(self, attempt: int) -> None:
        self.status = Status(attempt=attempt)

    def update(self, **changes: Any) -> None: ...

    def note(self, sentence: str) -> None: ...

    def close(self) -> None: ...


def launch(stage: Stage, work: Callable[[RunConfig, Attempt], None], argv: Sequence[str] | None = None) -> int:
    """Run `work` as one attempt of a run; returns the exit code."""
    arguments = _arguments(stage, sys.modules[work.__module__].__doc__, argv)
    environ = without_launcher(os.environ)  # as it came, before libraries add their ports and ranks
    if not is_first():
        return _accompany(work)
    try:
        config, attempt = _begin(stage, arguments)
    except (MedGRPOError, OSError) as error:
        folder = Path(arguments.run_dir or Settings.from_env().runs)
        print(error if isinstance(error, MedGRPOError) else no_room(folder, error), file=sys.stderr, flush=True)
        told_by_first(None)
        return 2
    told_by_first((attempt.run.path, attempt.status.status.attempt, attempt.checkpoint, attempt.skip_audit))
    code = _work(work, config, attempt)
    RunManager(attempt.run.path.absolute().parent, environ).move_on()
    if code == 0:
        leave()
    return code


def _accompany(work: Callable[[RunConfig, Attempt], None]) -> int:
    """One of the other processes: it takes the run from the first one's word, and writes to its log alone."""
    told = told_by_first(None)
    if told is None:  # the first one has said why
        return 2
    path, number, checkpoint, skip_audit = told
    run = RunDirectory(path)
    _redirect(run.log_file(number))
    stop = StopRequest(run)
    stop.listen()  # a launcher that is told to end tells all of them; the first one decides when
    attempt = Attempt(run, NoStatus(number), stop, _cache(), checkpoint, skip_audit)
    code = _work(work, read_config(run.config_file), attempt)
    if code == 0:
        leave()
    return code


def _cache() -> Path:
    return (Settings.from_env().runs / ".cache").absolute()


def _work(work: Callable[[RunConfig, Attempt], None], config: RunConfig, attempt: Attempt) -> int:
    """The attempt itself; its last word is a phase in the status."""
    try:
        work(config, attempt)
    except StopAsked:
        attempt.status.update(phase="stopped")
    except MedGRPOError as error:
        return _fail(attempt, str(error), 2)
    except KeyboardInterrupt:
        return _fail(attempt, "Interrupted from the keyboard; start again with --resume.", 130)
    except Exception as error:
        traceback.print_exc()
        return _fail(attempt, explain_crash(error, attempt.run.log_file(attempt.status.status.attempt)), 1)
    finally:
        attempt.status.close()
    attempt.say(f"{attempt.status.status.phase}: {attempt.run.path}")
    return 0


def scoring(attempt: Attempt, reward: Callable[..., Any]) -> Callable[..., Any]:
    """The reward; its call means that the completions are written, so the phase goes on from generating."""

    @functools.wraps(reward)
    def scored(*args: Any, **columns: Any) -> Any:
        if attempt.status.status.phase == "generating":
            attempt.status.update(phase="training")
        return reward(*args, **columns)

    return scored


def explain_crash(error: Exception, log: Path) -> str:
    """One sentence for an error nobody foresaw, with what to do next."""
    text = " ".join(str(error).split())[:240]
    if "out of memory" in text.lower():
        return (
            "The GPU is out of memory: lower training.per_device_train_batch_size (raise gradient_accumulation_steps), "
            "grpo.vllm_gpu_memory_utilization or grpo.max_completion_length, then resume."
        )
    if _is_full(error, text, log):
        return f"The disk is full ({text}): free some space, then resume."
    return f"{type(error).__name__}: {text or 'no message'}. The traceback is in {log}."


def _is_full(error: Exception, text: str, log: Path) -> bool:
    """Whether the disk is. torch and safetensors report it in words of their own, or not at all."""
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "no space left" in text.lower():
        return True
    return isinstance(error, OSError | RuntimeError) and shutil.disk_usage(log.parent).free < 2**16


def _fail(attempt: Attempt, sentence: str, code: int) -> int:
    attempt.say(sentence)
    if not is_first():
        print(sentence, flush=True)
    try:
        attempt.status.update(phase="failed", error=sentence)
    except OSError as error:
        attempt.say(f"status.json could not be written: {error}")
    return code


def _arguments(stage: Stage, description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m train.{stage}", description=description)
    parser.add_argument("--config", type=Path, help="YAML file of the run, such as train/configs/smoke_cpu.yaml")
    parser.add_argument(
        "--run-dir", type=Path, help="folder of the run; made if absent (default: a new one under MEDGRPO_RUNS)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value, such as seed=1"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint of --run-dir")
    if stage == "grpo":
        parser.add_argument("--skip-audit", action="store_true", help="train although the rewards fail their audit")
    return parser.parse_args(argv)


def _begin(stage: Stage, arguments: argparse.Namespace) -> tuple[RunConfig, Attempt]:
    runs = Settings.from_env().runs
    run = RunDirectory(_run_path(arguments, runs))
    source = run.config_file if arguments.resume and run.config_file.is_file() else arguments.config
    if source is None:
        raise RunError(
            f"Nothing to run: give --config FILE, or --resume with the --run-dir of a run ({run.path} is none)."
        )
    if run.config_file.is_file() and not arguments.resume and not _waits_here(run, source):
        raise RunError(f"{run.path} already holds a run: add --resume to go on with it, or give another --run-dir.")
    if run.status().active and run.status().pid not in (0, os.getpid()):  # 0: the manager is about to write this one
        raise RunError(f"{run.path} is being trained by process {run.status().pid}: wait for it, or ask it to stop.")
    config = read_config(source, arguments.set, stage)
    run.create()
    checkpoint = _rewind(run) if arguments.resume else None
    write_config(config, run.config_file, _versions())
    managed = is_launched(run)
    status = StatusWriter(run, stage)
    console = _redirect(run.log_file(status.status.attempt))
    stop = StopRequest(run)
    if not managed:  # the manager forgot them before this process began; what came since is meant for it
        forget_requests(run)
        run.queue_file.unlink(missing_ok=True)
    stop.listen()
    skip_audit = bool(getattr(arguments, "skip_audit", False))
    attempt = Attempt(run, status, stop, _cache(), checkpoint, skip_audit, console)
    attempt.say(f"{run.path}, attempt {status.status.attempt}" + (f", from {checkpoint.name}" if checkpoint else ""))
    return config, attempt


def _waits_here(run: RunDirectory, config: Path) -> bool:
    """Whether the folder holds nothing but this very configuration, put there for this launch."""
    return run.written_status().attempt == 0 and config.is_file() and config.samefile(run.config_file)


def _run_path(arguments: argparse.Namespace, runs: Path) -> Path:
    """--run-dir; without it a new folder, or with --resume the newest one of the same configuration."""
    if arguments.run_dir:
        return Path(arguments.run_dir)
    name = arguments.config.stem if arguments.config else "run"
    earlier = sorted(runs.glob(f"2*-{name}")) if arguments.resume else []
    return earlier[-1] if earlier else runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"


def _rewind(run: RunDirectory) -> Path | None:
    """The last whole checkpoint; what was recorded after it is dropped. None if there is none: then all is dropped."""
    checkpoints = run.checkpoints()
    run.forget_after(int(checkpoints[-1].name.removeprefix("checkpoint-")) if checkpoints else -1)
    return checkpoints[-1] if checkpoints else None


def _versions() -> str:
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} with {', '.join(found)}"


def _redirect(log: Path) -> TextIO | None:
    """Send stdout and stderr of this process, and of libraries below Python, to the log; returns the old stdout."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    watched_is_log = os.path.sameopenfile(target, 1)
    console = None if watched_is_log else os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()
    return console
