"""Cases and demonstrations as the rows that TRL trains on.

Both go through the one prompt builder, so training asks in the words in which the page asks. Rows are plain
dictionaries; the training program turns them into a `datasets.Dataset`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from medgrpo.cases import Case
from medgrpo.errors import DataError
from medgrpo.prompts import Message, build_messages
from medgrpo.rewards import case_columns

Row = dict[str, Any]


def grpo_rows(cases: Sequence[Case]) -> list[Row]:
    """One row a case: the prompt and the columns that the rewards read."""
    return [{"prompt": build_messages(case.question), **case_columns(case)} for case in cases]


def sft_rows(demonstrations: Sequence[tuple[Case, str]]) -> list[Row]:
    """One row a demonstration: the prompt and the completion to imitate."""
    return [
        {"prompt": build_messages(case.question), "completion": [{"role": "assistant", "content": completion}]}
        for case, completion in demonstrations
    ]


def without_long_prompts(
    rows: Sequence[Row], count_tokens: Callable[[list[Message]], int], limit: int
) -> tuple[list[Row], int]:
    """The rows whose prompt has at most `limit` tokens, and how many were left out.

    Raises:
        DataError: none is left.
    """
    kept = [row for row in rows if count_tokens(row["prompt"]) <= limit]
    if not kept:
        raise DataError(
            f"All {len(rows)} prompts are longer than {limit} tokens: raise grpo.max_prompt_length or take other data."
            if rows
            else "The data source has no case in this split: choose another data.source or data.split."
        )
    return kept, len(rows) - len(kept)
