"""Metrics of a run as columns, read on from where the last look ended, and thinned for a chart.

`metrics.jsonl` of a long run holds megabytes, and every visitor's page looks every other second. So each file is parsed
once: a look stats the file and parses only what was appended. A file that was replaced (resumed from a checkpoint) or
changed before the place read so far is read anew. Torn last lines wait until they are whole.
"""

import json
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 500
"""Points of one curve on the page."""
KEPT = 8
"""Runs whose metrics stay in memory; 20,000 steps of 45 keys take about 15 MB."""
_PROBE = 64  # bytes before the place read so far that must still be the same

Numbers = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True)
class Metrics:
    """All steps that a run has logged, in order; of a step logged twice only the later line.

    Attributes:
        steps: shape (n,).
        columns: the trainer's own names -> shape (n,), NaN where a step did not log the name.
        version: changes whenever the content does.
    """

    steps: Numbers
    columns: Mapping[str, Numbers]
    version: str = ""

    def __len__(self) -> int:
        return len(self.steps)

    def column(self, name: str) -> Numbers:
        """Values of a name, all NaN if it was never logged."""
        return self.columns.get(name, np.full(len(self.steps), NAN))

    def has(self, name: str) -> bool:
        """Whether any step has a number under this name."""
        return name in self.columns and not bool(np.isnan(self.columns[name]).all())

    def latest(self, name: str) -> float | None:
        """The last number logged under a name, None if there is none."""
        known = self.column(name)[~np.isnan(self.column(name))]
        return float(known[-1]) if len(known) else None

    def until(self, step: float | None) -> "Metrics":
        """What had been logged by a step; None for everything."""
        if step is None or not len(self) or step >= self.steps[-1]:
            return self
        end = int(np.searchsorted(self.steps, step, side="right"))
        return Metrics(
            self.steps[:end], {name: values[:end] for name, values in self.columns.items()}, f"{self.version}:{end}"
        )


EMPTY = Metrics(np.empty(0), {})


@dataclass
class _Reader:
    """One file, parsed up to `offset`."""

    identity: tuple[int, int] = (0, 0)
    offset: int = 0
    probe: bytes = b""
    changes: int = 0
    steps: "array[float]" = field(default_factory=lambda: array("d"))
    columns: "dict[str, array[float]]" = field(default_factory=dict)
    metrics: Metrics = EMPTY
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, path: Path) -> Metrics:
        with self.lock:
            try:
                with path.open("rb") as file:
                    self._read(file)
            except OSError:
                self._forget((0, 0))
            return self.metrics

    def _read(self, file: Any) -> None:
        found = os.fstat(file.fileno())
        identity = (found.st_dev, found.st_ino)
        if identity != self.identity or found.st_size < self.offset or not self._unchanged(file):
            self._forget(identity)
        if found.st_size == self.offset:
            return
        file.seek(self.offset)
        text = file.read()
        end = text.rfind(b"\n") + 1
        if not end:
            return
        for line in text[: end - 1].split(b"\n"):
            self._take(line)
        self.offset += end
        self.probe = (self.probe + text[:end])[-_PROBE:]
        self.changes += 1
        self.metrics = self._snapshot()

    def _unchanged(self, file: Any) -> bool:
        file.seek(self.offset - len(self.probe))
        return bool(file.read(len(self.probe)) == self.probe)

    def _forget(self, identity: tuple[int, int]) -> None:
        self.identity, self.offset, self.probe = identity, 0, b""
        self.steps, self.columns = array("d"), {}
        self.metrics = EMPTY
        self.changes += 1

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            step = record["step"]
        except (ValueError, KeyError, TypeError):
            return
        if not isinstance(step, int):
            return
        before = len(self.steps)
        self.steps.append(step)
        for name, value in record.items():
            if name == "step" or not isinstance(value, int | float) or isinstance(value, bool):
                continue
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = array("d", [NAN]) * before
            column.append(value)
        for column in self.columns.values():
            if len(column) == before:
                column.append(NAN)

    def _snapshot(self) -> Metrics:
        steps = np.array(self.steps)
        columns = {name: np.array(values) for name, values in self.columns.items()}
        if len(steps) > 1 and not bool((np.diff(steps) > 0).all()):
            _, last = np.unique(steps[::-1], return_index=True)
            order = len(steps) - 1 - last
            steps, columns = steps[order], {name: values[order] for name, values in columns.items()}
        return Metrics(steps, columns, f"{self.identity[1]}.{self.changes}")


_READERS: OrderedDict[Path, _Reader] = OrderedDict()
_LOCK = threading.Lock()


def read_metrics(path: Path) -> Metrics:
    """The metrics in a file; empty if there is none. Cheap when nothing or little was appended since the last call."""
    with _LOCK:
        reader = _READERS.setdefault(path, _Reader())
        _READERS.move_to_end(path)
        while len(_READERS) > KEPT:
            _READERS.popitem(last=False)
    return reader.look(path)


def thin(values: Numbers, points: int = POINTS) -> NDArray[np.intp]:
    """Indices of at most `points` values that keep first, last and the extremes of every stretch, in order.

    Each stretch of equal length gives its least and its greatest value, so no spike gets lost. Values that are NaN
    are never chosen.
    """
    known = np.flatnonzero(~np.isnan(values))
    if len(known) <= points:
        return known
    inner = known[1:-1]
    count = (points - 2) // 2
    width = -(-len(inner) // count)
    rest = count * width - len(inner)
    lows, highs = (
        np.concatenate([values[inner], np.full(rest, end)]).reshape(count, width) for end in (np.inf, -np.inf)
    )
    starts = np.arange(count) * width
    chosen = np.concatenate([starts + lows.argmin(axis=1), starts + highs.argmax(axis=1)])
    chosen = chosen[chosen < len(inner)]  # stretches of nothing but padding
    return np.unique(np.concatenate([known[:1], inner[chosen], known[-1:]]))


def running_mean(values: Numbers, width: int) -> Numbers:
    """Mean of each value and the `width - 1` before it, NaN left out; as long as `values`."""
    known = ~np.isnan(values)
    sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
    sums[width:], counts[width:] = sums[width:] - sums[:-width], counts[width:] - counts[:-width]
    return np.where(counts > 0, sums / np.maximum(counts, 1), NAN)


SOMETIMES = (("numeric", "reasoning", "meaning", "next_step"), ("correctness",))
"""Rewards that do not apply to every case; the first four by design, the last only where nothing can be judged."""


def contributions(metrics: Metrics, weights: Mapping[str, float]) -> dict[str, Numbers]:
    """What each reward adds to the mean reward of a step, shape (n,) each; rewards that never applied are left out.

    TRL logs `rewards/<name>/mean` unweighted and over the completions that the reward applied to. Mean times weight is
    therefore too much for a reward that applies to some cases only, by as much as the sum lies above `reward`. That
    much is taken from `SOMETIMES`: exact if one of them is partial, in proportion if two are.
    """
    found = {name: metrics.column(f"rewards/{name}/mean") * weight for name, weight in weights.items()}
    parts = {name: np.nan_to_num(values) for name, values in found.items() if not bool(np.isnan(values).all())}
    reward = metrics.column("reward")
    if not parts or not metrics.has("reward"):
        return parts
    excess = np.nan_to_num(np.sum(list(parts.values()), axis=0) - reward)
    excess = np.where(excess > 1e-6, excess, 0.0)
    for names in SOMETIMES:
        pool = np.sum(
            [np.maximum(parts[name], 0.0) for name in names if name in parts] or [np.zeros_like(excess)], axis=0
        )
        taken = np.minimum(excess, pool)
        left = 1.0 - taken / np.where(pool > 0, pool, 1.0)
        parts |= {name: np.where(parts[name] > 0, parts[name] * left, parts[name]) for name in names if name in parts}
        excess = excess - taken
    return parts


def mean_of_last(values: Numbers, count: int, skip: int = 0) -> float | None:
    """Mean of the last `count` numbers, `skip` of them left out at the end; None without any."""
    known = values[~np.isnan(values)]
    part = known[: len(known) - skip][-count:] if skip < len(known) else known[:0]
    return float(part.mean()) if len(part) else None


def seconds_a_step(metrics: Metrics, window: int = 20) -> float | None:
    """Time between two steps, evaluations and saving included: mean over the last `window`; None before the second."""
    times, steps = metrics.column("time"), metrics.steps
    known = np.flatnonzero(~np.isnan(times))[-window - 1 :]
    if len(known) < 2 or steps[known[-1]] == steps[known[0]]:
        return None
    spent = float(times[known[-1]] - times[known[0]]) / float(steps[known[-1]] - steps[known[0]])
    return spent if spent > 0 else None
