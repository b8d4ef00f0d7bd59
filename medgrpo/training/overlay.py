"""Two runs held against each other: what was set differently."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medgrpo.training.view import View

MISSING = "–"


@dataclass(frozen=True)
class Difference:
    """One setting that differs; "–" where a run has no such setting."""

    name: str
    this: str
    other: str


def differences(this: View, other: View) -> list[Difference]:
    """Settings whose values differ, in the order of the first run's configuration, then of the second's.

    Weights of rewards are compared as they worked, the profile's included.
    """
    left, right = dict(_flat(this.config)), dict(_flat(other.config))
    for flat, view in ((left, this), (right, other)):
        for name in [name for name in flat if name.startswith("rewards.weights")]:
            del flat[name]
        flat.update({f"rewards.weights.{name}": weight for name, weight in view.weights.items()})
    found = []
    for name in dict.fromkeys([*left, *right]):
        one, two = left.get(name, MISSING), right.get(name, MISSING)
        if one != two:
            found.append(Difference(name, _text(one), _text(two)))
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ("", {}, None):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
