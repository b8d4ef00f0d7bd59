"""One run as a list shows it: read from its folder, with the costly parts (YAML, whole checkpoints) read once."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medgrpo.training.run_directory import RunDirectory, Status, is_whole_checkpoint


@dataclass(frozen=True)
class RunInfo:
    """One run as a list shows it.

    Attributes:
        id: name of its folder.
        path: the folder.
        stage, model, source, profile: of its configuration; "" if that cannot be read.
        phase: queued, preparing, loading, generating, training, evaluating, saving, finished, stopped, failed or
            interrupted.
        step, total: optimiser steps done and planned.
        started, heartbeat: first launch and latest sign of life, in seconds since 1970; 0 before the first launch.
        error: one sentence with a remedy, or "".
        notes: sentences worth knowing.
        position: place in the queue from 1; 0 = not queued.
        has_adapter: whether `adapter_path` holds an adapter.
        checkpoints: steps of the whole checkpoints, in order.
        adapter_path: the final adapter's folder.
    """

    id: str
    path: Path
    stage: str = ""
    model: str = ""
    source: str = ""
    profile: str = ""
    phase: str = ""
    step: int = 0
    total: int = 0
    started: float = 0.0
    heartbeat: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()
    position: int = 0
    has_adapter: bool = False
    checkpoints: tuple[int, ...] = ()
    adapter_path: Path = Path()

    @property
    def active(self) -> bool:
        return Status(phase=self.phase).active

    @property
    def resumable(self) -> bool:
        return self.phase in ("stopped", "failed", "interrupted")


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return not path.name.startswith(".") and ((path / "config.yaml").is_file() or (path / "status.json").is_file())


def made(path: Path) -> float:
    """When a folder last changed, in seconds since 1970; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def info_of(run: RunDirectory, position: int = 0) -> RunInfo:
    """What the folder of a run says; `position` is its place in the queue."""
    status = run.status()
    written = configuration(run.config_file)
    total = status.total or _whole(written, "training", "max_steps")
    return RunInfo(
        id=run.path.name,
        path=run.path,
        stage=status.stage or str(written.get("stage", "")),
        model=str(written.get("model", "")),
        source=str(_section(written, "data").get("source", "")),
        profile=str(_section(written, "rewards").get("profile", "")),
        phase=status.phase,
        step=status.step,
        total=total,
        started=status.started,
        heartbeat=status.heartbeat,
        error=status.error,
        notes=status.notes,
        position=position,
        has_adapter=(run.adapter / "adapter_config.json").is_file(),
        checkpoints=checkpoint_steps(run),
        adapter_path=run.adapter,
    )


def _section(written: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = written.get(name)
    return value if isinstance(value, Mapping) else {}


def _whole(written: Mapping[str, Any], section: str, name: str) -> int:
    value = _section(written, section).get(name)
    return value if isinstance(value, int) else 0


def checkpoint_steps(run: RunDirectory) -> tuple[int, ...]:
    """Steps of the whole checkpoints, oldest first. A checkpoint looked through once is not read again."""
    steps = []
    for path in run.path.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and _is_whole(path, _traces(path)):
            steps.append(int(number))
    return tuple(sorted(steps))


def _traces(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files of a folder."""
    try:
        with os.scandir(path) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))


@functools.lru_cache(maxsize=4096)
def _is_whole(path: Path, traces: tuple[tuple[str, int, int], ...]) -> bool:
    return is_whole_checkpoint(path)


def configuration(path: Path) -> Mapping[str, Any]:
    """The configuration as written; empty if it cannot be read."""
    try:
        stat = path.stat()
        return _parse(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, size: int, modified: int) -> Mapping[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one takes a tenth of the time
    found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    return found if isinstance(found, dict) else {}
