"""`python -m medgrpo train` and `python -m medgrpo runs`: start runs and look after them from the command line."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgrpo.errors import SettingsError
from medgrpo.settings import Settings
from medgrpo.training.run_info import RunInfo

POLL = 0.5
ACTIONS = {
    "list": "every run, newest first",
    "show": "one run in full",
    "stop": "ask a run to save and end after its step; a waiting one leaves the queue",
    "cancel": "end a run: asked, then SIGTERM, then SIGKILL; waits for the end",
    "resume": "go on from the last whole checkpoint",
}


def add(verbs: Any) -> None:
    """Add both verbs to the sub-parsers of the command line."""
    train = verbs.add_parser("train", help="check a configuration and start it as a run of its own process")
    train.add_argument("--config", required=True, type=Path, help="YAML file, such as train/configs/smoke_cpu.yaml")
    train.add_argument("--name", default="", help="becomes part of the run's id (default: name of the file)")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value, as in seed=1")
    train.add_argument(
        "--follow", action="store_true", help="print the run's log until it ends; Ctrl-C only looks away"
    )
    train.add_argument("--anyway", action="store_true", help="start although the preflight found something")
    train.add_argument("--dry-run", action="store_true", help="only the preflight: problems, estimate, exact command")
    train.add_argument("--json", action="store_true", help="print a JSON record")
    train.set_defaults(command=_train)

    runs = verbs.add_parser("runs", help="list, show, stop, cancel and resume training runs")
    runs.add_argument("--json", action="store_true", help="print JSON")
    runs.set_defaults(command=_runs, action="list", run="")
    actions = runs.add_subparsers(metavar="ACTION")
    for name, says in ACTIONS.items():
        action = actions.add_parser(name, help=says)
        if name != "list":
            action.add_argument("run", help="id of the run, as `runs list` shows it")
        if name == "resume":
            action.add_argument("--follow", action="store_true", help="print the run's log until it ends")
        # without a default: `runs --json list` and `runs list --json` are the same
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        action.set_defaults(action=name)


def _manager() -> Any:
    from medgrpo.training.manager import RunManager

    return RunManager(Settings.from_env().runs)


def _train(options: argparse.Namespace) -> int:
    from medgrpo.training.config import read_config
    from medgrpo.training.machine import here
    from medgrpo.training.preflight import preflight

    manager = _manager()
    config = read_config(options.config, options.set)
    machine = here(manager.folder)
    found = preflight(config.as_mapping(), machine, manager.folder)
    expected = found.estimate
    if expected is not None and not options.json:
        _say(f"{machine}.")
        _say(f"About {duration(expected.total_seconds)} and {expected.memory_gb:.1f} GB of memory. {expected.says}")
    if options.dry_run:
        return _dry_run(options, found, manager.command(config))
    if found.problems:
        problems = "\n".join(map(str, found.problems))
        if not options.anyway:
            raise SettingsError(f"{problems}\nNothing was started: mend this, or add --anyway.")
        _say(problems)
    run = manager.start(config, options.name or options.config.stem)
    _print(run, options.json)
    return _follow(manager, run.id) if options.follow else 0


def _dry_run(options: argparse.Namespace, found: Any, command: list[str]) -> int:
    if options.json:
        record = {
            "problems": [vars(problem) for problem in found.problems],
            "estimate": asdict(found.estimate) if found.estimate else None,
            "command": command,
        }
        print(json.dumps(record, indent=2, ensure_ascii=False, default=str))
    else:
        print("\n".join(map(str, found.problems)) or "Nothing stands in the way.")
        print(" ".join(command))
    return 1 if found.problems else 0


def _runs(options: argparse.Namespace) -> int:
    manager = _manager()
    if options.action == "list":
        return _list(manager.runs(), manager.folder, options.json)
    if options.action == "stop":
        manager.stop(options.run)
    elif options.action == "cancel":
        manager.cancel(options.run)
        while manager.info(options.run).active:
            time.sleep(POLL)
    elif options.action == "resume":
        manager.resume(options.run)
    else:
        manager.move_on()
    _print(manager.info(options.run), options.json)
    return _follow(manager, options.run) if options.action == "resume" and options.follow else 0


def _list(runs: list[RunInfo], folder: Path, as_json: bool) -> int:
    if as_json:
        print(json.dumps([record(run) for run in runs], indent=2, ensure_ascii=False))
    elif not runs:
        print(f"No runs under {folder} yet: python -m medgrpo train --config train/configs/smoke_cpu.yaml starts one.")
    else:
        wide = max(len(run.id) for run in runs)
        for run in runs:
            print(
                f"{run.id:{wide}}  {_phase(run):12} {_steps(run):>11}  {run.model}, {run.source} {run.profile}".rstrip()
            )
    return 0


def record(run: RunInfo) -> dict[str, Any]:
    """The run as JSON values."""
    return {**asdict(run), "path": str(run.path), "adapter_path": str(run.adapter_path)}


def _print(run: RunInfo, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record(run), indent=2, ensure_ascii=False))
        return
    print(f"{run.id}: {_phase(run)}, step {_steps(run)}")
    print(f"{run.stage} of {run.model} on {run.source}" + (f", rewards {run.profile}" if run.profile else ""))
    print(f"in {run.path}")
    if run.checkpoints:
        print(f"checkpoints: {', '.join(map(str, run.checkpoints))}")
    if run.has_adapter:
        print(f"adapter: {run.adapter_path}")
    for sentence in (run.error, *run.notes):
        if sentence:
            print(sentence)


def _phase(run: RunInfo) -> str:
    return f"queued ({run.position})" if run.position else run.phase


def _steps(run: RunInfo) -> str:
    return f"{run.step}/{run.total}"


def _follow(manager: Any, run_id: str) -> int:
    """Print the log as it grows until the run ends; 0 if it ended well. A waiting run is waited for."""
    directory, phase, read, attempt = manager.directory(run_id), "", 0, 0
    try:
        while True:
            manager.move_on()
            status = directory.status()
            if status.phase != phase and status.phase == "queued":
                _say("Waiting for its turn.")
            phase = status.phase
            latest = directory.last_attempt()
            if latest != attempt:
                attempt, read = latest, 0
            read += _copy(directory.log_file(attempt), read)
            if not status.active and phase != "queued":
                read += _copy(directory.log_file(attempt), read)
                break
            time.sleep(POLL)
    except KeyboardInterrupt:
        _say(f"\nThe run goes on: python -m medgrpo runs show {run_id}, or runs stop {run_id}.")
        return 0
    ended: RunInfo = manager.info(run_id)
    _say(f"{run_id}: {ended.phase}, step {_steps(ended)}. {ended.error}".rstrip())
    return 0 if ended.phase in ("finished", "stopped") else 1


def _copy(log: Path, start: int) -> int:
    """Copy what the log has after `start` bytes to standard output; returns how many that were."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            found = file.read()
    except OSError:
        return 0
    sys.stdout.write(found.decode("utf-8", "replace"))
    sys.stdout.flush()
    return len(found)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
