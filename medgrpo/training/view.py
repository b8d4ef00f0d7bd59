"""What can be seen of a run at one moment: everything, or a recording played up to a step.

A live run and a recording that is played go through the same readers, so whatever shows the one shows the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from medgrpo.rewards import PROFILES
from medgrpo.training.curves import Metrics, read_metrics, seconds_a_step
from medgrpo.training.run_directory import ACTIVE, RunDirectory, Status, read_lines


@dataclass(frozen=True)
class View:
    """A run as it stands, or as it stood after `until` steps of a recording.

    Attributes:
        run: where the files are.
        until: step up to which a recording has been played; None shows the run as it is.
    """

    run: RunDirectory
    until: int | None = None

    @cached_property
    def whole(self) -> Metrics:
        """Metrics of the whole run, whatever has been played."""
        return read_metrics(self.run.metrics_file)

    @cached_property
    def metrics(self) -> Metrics:
        return self.whole.until(self.until)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration as nested mappings; empty if it cannot be read."""
        try:
            return _config(self.run.config_file, self.run.config_file.stat().st_mtime_ns)
        except OSError:
            return {}

    def setting(self, path: str, default: Any = None) -> Any:
        """One value of the configuration, such as "grpo.max_completion_length"."""
        found: Any = self.config
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return default if found is None else found

    @cached_property
    def status(self) -> Status:
        """Where the run stands; a recording that is played says what it said then."""
        if self.until is None:
            return self.run.status()
        status = self.run.written_status()
        if self.until >= status.step:
            return status
        phase = "training" if self.until else "evaluating" if 0 in self.run.evaluation_steps() else "loading"
        return replace(status, phase=phase, step=self.until, error="", notes=status.notes)

    @property
    def active(self) -> bool:
        return self.status.phase in ACTIVE

    @property
    def stage(self) -> str:
        return str(self.setting("stage", self.status.stage or "grpo"))

    @cached_property
    def weights(self) -> dict[str, float]:
        """Reward name -> weight as the run was told, those of weight 0 left out; empty for a profile that is gone."""
        if self.stage != "grpo":
            return {}
        own = self.setting("rewards.weights", {})
        both = {**PROFILES.get(str(self.setting("rewards.profile", "medgrpo")), {}), **own}
        return {str(name): float(weight) for name, weight in both.items() if weight}

    @cached_property
    def completion_steps(self) -> list[int]:
        return self._seen(self.run.completion_steps())

    @cached_property
    def evaluation_steps(self) -> list[int]:
        return self._seen(self.run.evaluation_steps())

    def completions(self, step: int) -> tuple[Mapping[str, Any], ...]:
        """Recorded completions of a step; parsed once as long as the file stays as it is."""
        path = self.run.completions_file(step)
        return _completions(path, stamp_of(path))

    def evaluation(self, step: int) -> Mapping[str, Any]:
        """Held-out answers of a step; parsed once as long as the file stays as it is."""
        return _evaluation(self.run, step, stamp_of(self.run.evaluation_file(step)))

    @property
    def seconds_left(self) -> float | None:
        """Until the last step at the pace of the last 20; None if that cannot be told yet."""
        pace = seconds_a_step(self.metrics)
        if pace is None or not self.status.total or not self.active:
            return None
        return pace * max(0, self.status.total - self.status.step)

    def _seen(self, steps: list[int]) -> list[int]:
        return steps if self.until is None else [step for step in steps if step <= self.until]


def stamp_of(path: Path) -> tuple[int, int]:
    """Changes when a file does; (0, 0) if there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=64)
def _config(path: Path, stamp: int) -> Mapping[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return raw if isinstance(raw, Mapping) else {}


@lru_cache(maxsize=64)
def _completions(path: Path, stamp: tuple[int, int]) -> tuple[Mapping[str, Any], ...]:
    return tuple(read_lines(path))


@lru_cache(maxsize=24)
def _evaluation(run: RunDirectory, step: int, stamp: tuple[int, int]) -> Mapping[str, Any]:
    return run.evaluation(step)
