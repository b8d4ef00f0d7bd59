"""Rewards: what GRPO reinforces, and why.

One scoring function per reward serves the trainer (`REWARDS`, in TRL's signature), the page and the command line
(`explain`) and the audit, so an explanation can never differ from what the trainer used. Values are unweighted; a
profile weighs them. None means "does not apply or cannot be judged" and is left out of the sum, as TRL does.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgrpo.cases import Case
from medgrpo.rewards import legacy
from medgrpo.rewards.citations import quoted_findings, reasoning_score, told_apart
from medgrpo.rewards.columns import COLUMNS, case_columns, case_from_columns, cases_from_columns
from medgrpo.rewards.group import Scale, advantages, total
from medgrpo.rewards.meanings import FITS, explanations, meaning_score
from medgrpo.rewards.next_step import is_intact, next_step_score
from medgrpo.rewards.reading import Completion, Reading, Scored, read, text_of
from medgrpo.rewards.scores import correctness_score, format_score, length_score, numeric_score, tags_score

__all__ = [
    "COLUMNS",
    "FITS",
    "PROFILES",
    "REWARDS",
    "RewardFunction",
    "Scale",
    "Score",
    "advantages",
    "case_columns",
    "case_from_columns",
    "explain",
    "explanations",
    "is_intact",
    "quoted_findings",
    "told_apart",
    "total",
]

RewardFunction = Callable[..., list[float | None]]
ScoreFunction = Callable[[Reading, Case], Scored]


@dataclass(frozen=True)
class Score:
    """One reward of one completion.

    Attributes:
        name: key of `REWARDS`.
        value: unweighted; None if the reward does not apply or cannot be judged.
        weight: of the profile.
        why: a sentence for a clinician.
    """

    name: str
    value: float | None
    weight: float
    why: str


def random_score(reading: Reading, case: Case) -> Scored:
    """A control that rewards nothing: a number in [0, 1) drawn from the text's own hash (Spurious Rewards,
    arXiv:2506.10947).
    """
    digest = hashlib.sha256(reading.text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(
        digest[:6], "big"
    ) / 2**48, "A random number that depends on nothing but the spelling of the text."


def _function(name: str, score: ScoreFunction) -> RewardFunction:
    """The reward in TRL's signature, under the name that TRL logs as `rewards/<name>/mean`."""

    def reward(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
        cases = cases_from_columns(columns, len(completions))
        return [score(read(text_of(text)), case)[0] for text, case in zip(completions, cases, strict=True)]

    reward.__name__ = reward.__qualname__ = name
    reward.__doc__ = score.__doc__
    return reward


_SCORES: dict[str, ScoreFunction] = {
    "format": format_score,
    "tags": tags_score,
    "correctness": correctness_score,
    "numeric": numeric_score,
    "reasoning": reasoning_score,
    "meaning": meaning_score,
    "next_step": next_step_score,
    "length": length_score,
    "legacy_xmlcount": legacy.xmlcount_score,
    "legacy_soft_format": legacy.soft_format_score,
    "legacy_strict_format": legacy.strict_format_score,
    "legacy_int": legacy.int_score,
    "legacy_correctness": legacy.correctness_score,
    "random": random_score,
}

REWARDS: dict[str, RewardFunction] = {name: _function(name, score) for name, score in _SCORES.items()}

PROFILES: dict[str, dict[str, float]] = {
    "medgrpo": {
        "format": 0.5,
        "tags": 0.25,
        "correctness": 2.0,
        "numeric": 0.5,
        "reasoning": 1.0,
        "meaning": 0.5,
        "next_step": 0.5,
        "length": 0.25,
    },
    "legacy": {
        "legacy_xmlcount": 1.0,
        "legacy_soft_format": 1.0,
        "legacy_strict_format": 1.0,
        "legacy_int": 1.0,
        "legacy_correctness": 1.0,
    },
    "format_only": {"format": 1.0, "tags": 0.25},
    "random": {"random": 1.0},
}


def explain(completion: Completion, case: Case, profile: str | Mapping[str, float] = "medgrpo") -> list[Score]:
    """Every reward of a profile for one completion, with the reason.

    Args:
        completion: a finished text, or TRL's list of chat messages.
        case: what it answers.
        profile: a name from `PROFILES`, or rewards with weights of your own.
    """
    weights = PROFILES[profile] if isinstance(profile, str) else profile
    reading = read(text_of(completion))
    scores = []
    for name, weight in weights.items():
        value, why = _SCORES[name](reading, case)
        scores.append(Score(name, value, weight, why))
    return scores
