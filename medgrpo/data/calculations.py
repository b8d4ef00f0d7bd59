"""Calculations with a numeric gold: numbers and texts from `calculations.yaml`, formulas from `formulas.py`.

The gold is computed from the numbers as the text writes them. Texts of validation and test never occur in train; the
hard split has its own texts and its own ranges of values.
"""

import random
from functools import cache
from typing import Any

from medgrpo.cases import Case
from medgrpo.data import formulas
from medgrpo.data.demonstrations import in_form
from medgrpo.data.knowledge import HERE, read_yaml
from medgrpo.errors import DataError

SEED = "calculations-1"
SIZES = {"train": 70, "validation": 10, "test": 10, "hard": 10}  # cases a formula
TEXTS = {"train": "train", "validation": "reserved", "test": "reserved", "hard": "hard_texts"}


@cache
def calculations(split: str) -> tuple[tuple[Case, str], ...]:
    """Cases of a split with their demonstrations, formulas taking turns. Raises DataError for an unknown split."""
    if split not in SIZES:
        raise DataError(f"the calculations have no split {split!r}. Use one of: {', '.join(SIZES)}.")
    specs: dict[str, dict[str, Any]] = read_yaml(HERE / "calculations.yaml")
    seen = _questions("train") | _questions("validation") if split == "test" else set[str]()
    made = []
    for number in range(SIZES[split]):
        for name, spec in specs.items():
            attempt = 0
            while (case := _case(name, spec, split, number, attempt))[0].question in seen:
                attempt += 1
            seen.add(case[0].question)
            made.append(case)
    return tuple(made)


def _questions(split: str) -> set[str]:
    return {case.question for case, _ in calculations(split)}


def _case(name: str, spec: dict[str, Any], split: str, number: int, attempt: int) -> tuple[Case, str]:
    rng = random.Random(f"{SEED}/{name}/{split}/{number}/{attempt}")
    ranges = (spec.get("hard") if split == "hard" else None) or spec.get("numbers", {})
    words = {each: _number(rng, *ranges[each]) for each in ranges}
    values = {each: float(text) for each, text in words.items()}
    for each, levels in spec.get("levels", {}).items():
        level = rng.choice(sorted(levels))
        values[each], words[each] = float(level), rng.choice(levels[level])
    text = rng.choice(spec[TEXTS[split]])
    listed = [words[each] for each in spec.get("levels", {}) if "{" + each + "}" not in text and words[each]]
    rng.shuffle(listed)
    question = text.format(levels=", ".join(listed) or "nothing else of note", **words)
    working = getattr(formulas, name)(**values)
    answer = f"{round(working.value + 1e-9, spec['decimals']):.{spec['decimals']}f}"
    answer = answer.removesuffix(".0")
    case = Case(
        id=f"calculations/{split}/{name}/{number:04d}",
        question=question[0].upper() + question[1:],
        answer=answer,
        kind="numeric",
        unit=spec["unit"],
        tolerance=float(spec["tolerance"]),
        source="calculations",
        split=split,
    )
    unit = f" {spec['unit']}" if spec["unit"] else ""
    return case, in_form(f"{working.steps}{unit}.", f"{answer}{unit}")


def _number(rng: random.Random, low: float, high: float, decimals: int, step: int = 0) -> str:
    """A number as the text writes it."""
    value = rng.randrange(int(low), int(high) + 1, step) if step else rng.uniform(low, high)
    return f"{value:.{decimals}f}"
