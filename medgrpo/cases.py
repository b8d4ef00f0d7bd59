"""The case: one question with the answer that counts as right.

Everything that asks, rewards or judges reads the same fields; where a case comes from is the business of `medgrpo.data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["diagnosis", "choice", "numeric", "open"]


@dataclass(frozen=True)
class Case:
    """One question and its reference answer.

    Attributes:
        id: unique within its source, stable over time.
        question: the text a model sees as the user's message.
        answer: the reference; a label (`diagnosis`), an option letter (`choice`), a number (`numeric`) or free text (`open`).
        kind: how `medgrpo.matching.match` judges a predicted answer.
        aliases: further texts that count as the reference.
        options: letter -> text, for `choice`.
        unit: unit of a `numeric` reference, such as "mmol/L"; empty if it has none.
        tolerance: largest absolute difference from a `numeric` reference that counts as right, in `unit`.
        findings: verbatim spans of `question` that support the answer.
        meanings: what each of `findings` means, a clause; empty if the source does not say.
        approach: the next step that a right answer ends with, after "Next:"; empty if the source gives none.
        source: the data source, such as "casebook".
        split: "train", "validation", "test" or "hard".
    """

    id: str
    question: str
    answer: str
    kind: Kind = "open"
    aliases: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    tolerance: float = 0.0
    findings: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()
    approach: str = ""
    source: str = ""
    split: str = ""
