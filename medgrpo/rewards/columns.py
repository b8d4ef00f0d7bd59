"""Cases as dataset columns, and back.

TRL hands a reward function the dataset's columns as lists. `options` travels as a JSON string, because Arrow would
widen a mapping to the union of all keys in the dataset.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from medgrpo.cases import Case, Kind

COLUMNS = (
    "case_id", "question", "answer", "kind", "aliases", "options", "unit", "tolerance", "findings", "meanings", "approach",
)  # fmt: skip


def case_columns(case: Case) -> dict[str, Any]:
    """The dataset columns of one case; the prompt is added by whoever builds the dataset."""
    return {
        "case_id": case.id,
        "question": case.question,
        "answer": case.answer,
        "kind": case.kind,
        "aliases": list(case.aliases),
        "options": json.dumps(dict(case.options), ensure_ascii=False),
        "unit": case.unit,
        "tolerance": case.tolerance,
        "findings": list(case.findings),
        "meanings": list(case.meanings),
        "approach": case.approach,
    }


def case_from_columns(row: Mapping[str, Any]) -> Case:
    """The case of one dataset row; columns that are missing or null get the defaults of `Case`, others are ignored."""
    options = row.get("options") or "{}"
    return _case(
        str(row.get("case_id") or ""),
        str(row.get("question") or ""),
        str(row.get("answer") or ""),
        cast(Kind, row.get("kind") or "open"),
        tuple(row.get("aliases") or ()),
        options if isinstance(options, str) else json.dumps(dict(options)),
        str(row.get("unit") or ""),
        float(row.get("tolerance") or 0.0),
        tuple(row.get("findings") or ()),
        tuple(row.get("meanings") or ()),
        str(row.get("approach") or ""),
    )


def cases_from_columns(columns: Mapping[str, Sequence[Any]], count: int) -> list[Case]:
    """One case per completion, from columns that are lists of that length; anything else in `columns` is ignored."""
    present = {name: columns[name] for name in COLUMNS if name in columns}
    for name, values in present.items():
        if len(values) != count:
            raise ValueError(
                f"Column {name!r} has {len(values)} rows for {count} completions; give one row per completion."
            )
    cases: list[Case] = []
    last = None
    for row in zip(*present.values(), strict=True) if present else [()] * count:
        # a group asks one case several times in a row
        cases.append(cases[-1] if row == last else case_from_columns(dict(zip(present, row, strict=True))))
        last = row
    return cases


@lru_cache(maxsize=1024)
def _case(
    id: str, question: str, answer: str, kind: Kind, aliases: tuple[str, ...], options: str,
    unit: str, tolerance: float, findings: tuple[str, ...], meanings: tuple[str, ...], approach: str,
) -> Case:  # fmt: skip
    return Case(id, question, answer, kind, aliases, json.loads(options), unit, tolerance, findings, meanings, approach)
