"""What the matcher says about one answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """A judgement with its reason.

    Attributes:
        correct: None if the answer cannot be judged without a person, which is not the same as wrong.
        why: one sentence for a clinician.
        several: wrong because the text hedges, lists or doubles its answer instead of giving one.
    """

    correct: bool | None
    why: str
    several: bool = False
