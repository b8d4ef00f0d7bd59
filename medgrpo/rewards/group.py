"""From scores to advantages, as TRL 1.14 computes them (`GRPOTrainer._generate_and_score_completions`).

Written out in plain Python so that the page can show the arithmetic without torch; a test holds it against TRL's own.
"""

from collections.abc import Iterable, Sequence
from math import fsum, sqrt
from typing import Literal, Protocol

Scale = Literal["group", "batch", "none"]
_EPSILON = 1e-4


class Weighted(Protocol):
    """Anything with a value and a weight, such as a `Score`."""

    @property
    def value(self) -> float | None: ...

    @property
    def weight(self) -> float: ...


def total(scores: Iterable[Weighted]) -> float | None:
    """The weighted sum; scores of None are left out, and a completion with no other score has no total (None)."""
    known = [score.value * score.weight for score in scores if score.value is not None]
    return fsum(known) if known else None


def advantages(totals: Sequence[float | None], scale: Scale = "group") -> list[float]:
    """How strongly each completion of one group is reinforced (positive) or discouraged (negative).

    (total - mean) / (standard deviation + 1e-4), with the unbiased deviation; "none" leaves the division out, and
    "batch" divides by the deviation of the batch, which is this group if nothing else is given. A completion
    without a total takes no part and gets 0.
    """
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"scale is {scale!r}; use 'group', 'batch' or 'none'.")
    known = [value for value in totals if value is not None]
    if len(known) < 2:  # TRL: the deviation of one value is not a number, and such advantages are set to 0
        return [0.0] * len(totals)
    mean = fsum(known) / len(known)
    deviation = sqrt(fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    divisor = 1.0 if scale == "none" else deviation + _EPSILON
    return [0.0 if value is None else (value - mean) / divisor for value in totals]
